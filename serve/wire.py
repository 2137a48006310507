"""What comes and goes over HTTP, version 1: typed, bounded, the same in JSON and msgpack.

Every string, number and list has a limit here, so that what is decoded is safe to store, to encode
as features and to send back; the OpenAPI document is made of these types, limits included. They
are apart from the records of the log, because a log lives longer than an API. Here stand pages,
feedback and how the server is; items are in `serve.items_wire`, people in `serve.people_wire`.

Rejected: decoding into the log's own records (no limits, and a change of either would be one of
both), and free-form extensions (an unknown field is a misspelt one).
"""

import ipaddress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from env.records import FeedbackKind
from env.vocabulary import Item, ItemId
from serve.limits import (
    MAX_DWELL_S,
    MAX_EVENTS,
    MAX_PAGE,
    Country,
    Id,
    IpAddress,
    Language,
    Ms,
    PersonId,
    Word,
)


class SceneBody(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"at_ms": "at"},
):
    """Where a page is asked for.

    Attributes:
        at_ms: counts only where the server's clock is simulated.
        referrer: what brought the person here, in the caller's own words.
        address: the person's IP address, version 4 or 6. It is kept nowhere: a keyed hash of its
            block tells whether those who make a video look good come from one place.
    """

    country: Country = ""
    language: Language = ""
    device: Word = ""
    network: Word = ""
    at_ms: Ms | None = None
    referrer: Word = ""
    address: IpAddress = ""

    def __post_init__(self) -> None:
        if self.address and not _is_address(self.address):
            raise ValueError("Expected an IP address, version 4 or 6, in field `address`")


class FeedRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Asks for a page.

    Attributes:
        request_id: the same one gives the same page again.
        session_id: of this visit; without it, a visit ends after 30 minutes of silence.
        size: cards wanted.
    """

    user_id: PersonId
    request_id: Id | None = None
    session_id: Id | None = None
    size: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 10
    scene: SceneBody = SceneBody()


class CardBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """One card of a page.

    Attributes:
        decision_id: signed; feedback about the card carries it.
        propensity: the exact probability with which it was drawn for its slot.
        policy: `name@version` that ranked it.
        reason: the retrieval source that proposed it.
        item: without what a client has no use for, its vector and the products of all markets.
        product: address of what may be offered for sale with the card, to this person, there
            where they are; absent if there is nothing.
    """

    decision_id: str
    item_id: ItemId
    slot: int
    propensity: float
    policy: str
    reason: str
    item: Item
    product: str = ""


class FeedResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page.

    Attributes:
        degraded: why it is less than asked for; absent if it is not.
    """

    page_id: str
    items: tuple[CardBody, ...]
    degraded: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that a person did about one card.

    Attributes:
        event_id: the caller's; sent again, it counts once.
        decision_id: as the card had it.
        value: seconds on the card, for "dwell" only.
        at_ms: the caller's time; the server's receive time rules.
    """

    event_id: Id
    decision_id: Annotated[str, Meta(min_length=1, max_length=256)]
    kind: FeedbackKind
    at_ms: Ms
    value: Annotated[float, Meta(ge=0.0, le=MAX_DWELL_S)] | None = None

    def __post_init__(self) -> None:
        if self.kind == "dwell" and self.value is None:
            raise ValueError("Expected seconds in field `value` with kind dwell, got none")
        if self.kind != "dwell" and self.value:
            raise ValueError(f"Expected no field `value` with kind {self.kind}, got {self.value}")


class FeedbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events of any number of people."""

    events: Annotated[tuple[Event, ...], Meta(max_length=MAX_EVENTS)]


class Refusal(msgspec.Struct, frozen=True):
    """An event that was not taken; sending it again does not help."""

    event_id: str
    reason: str


class FeedbackResponse(msgspec.Struct, frozen=True):
    """What became of the events: the accepted and the duplicates are on disk."""

    accepted: int
    duplicates: int
    refused: tuple[Refusal, ...]


class LearnerHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the learner is. Feeds are answered without one; they only stop getting better.

    Attributes:
        state: "learning"; "stopped", as it was told to; "silent", it died or hangs,
            or was overtaken by one that has said nothing yet; "none", there never was one.
        age_s: seconds since its last sign of life; about 1 while it learns.
    """

    state: Literal["learning", "stopped", "silent", "none"]
    age_s: float | None = None


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the server can answer feeds, and why not.

    Attributes:
        items: that may be shown.
    """

    ready: bool
    items: int = 0
    reason: str = ""
    learner: LearnerHealth | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was wrong with a request: RFC 9457, with the field at fault.

    Attributes:
        field: path in the body, or the name of the header or path parameter; empty: the whole.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
