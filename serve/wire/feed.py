"""HTTP request and response types, version 1: pages, feedback and health.

Every string, number and list has a limit, so that decoded values are safe; the OpenAPI document is
made from these types. They are separate from the log's records, because a log lives longer than an
API. Rejected alternatives: `docs/decisions/serve-http-api.md`.
"""

import ipaddress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from env.feedback import MAX_AMOUNT
from env.records import FeedbackKind
from env.vocabulary import Item, ItemId
from serve.limits import (
    MAX_EVENTS,
    MAX_PAGE,
    Country,
    ExternalUserId,
    Id,
    IpAddress,
    Language,
    Ms,
    Word,
)


class SceneBody(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"at_ms": "at"},
):
    """The circumstances of a request for a page.

    Attributes:
        at_ms: used only if the server's clock is simulated.
        referrer: source of the visit, in the caller's own words.
        address: the user's IP address, version 4 or 6. It is not stored: only a keyed hash of its
            block is, to detect engagement that comes from one place.
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
        request_id: repeating it returns the same page.
        session_id: id of this visit; without it, a visit ends after 30 minutes of silence.
        size: number of cards wanted.
    """

    user_id: ExternalUserId
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
        item: the item without its vector and the products of other markets.
        product: address of the product that may be offered to this user; absent if there is none.
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
        degraded: reason why it is less than requested; absent if it is complete.
    """

    page_id: str
    items: tuple[CardBody, ...]
    degraded: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One action of a user on one card.

    Attributes:
        event_id: the caller's id; repeats count once.
        decision_id: as the card had it.
        kind: name of a signal, as this server's settings have it.
        value: of a signal that has one: seconds, a number in the signal's unit, or money.
        currency: of money; absent means the signal's own, and no other is accepted.
        at_ms: the caller's time; the server's receive time takes precedence.
    """

    event_id: Id
    decision_id: Annotated[str, Meta(min_length=1, max_length=256)]
    kind: Annotated[FeedbackKind, Meta(min_length=1, max_length=64)]
    at_ms: Ms
    value: Annotated[float, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)] | None = None
    currency: Annotated[str, Meta(pattern="^([A-Z]{3})?$", description="ISO 4217")] = ""


class FeedbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events of any number of users; one that does not fit is refused alone."""

    events: Annotated[tuple[Event, ...], Meta(max_length=MAX_EVENTS)]


class Refusal(msgspec.Struct, frozen=True):
    """An event that was refused; sending it again does not help.

    Attributes:
        event_id: empty if the event had none that could be read; the reason says which it was.
        reason: the field at fault, what was expected and what came.
    """

    event_id: str
    reason: str


class FeedbackResponse(msgspec.Struct, frozen=True):
    """Outcomes of the events: accepted and duplicate events are on disk."""

    accepted: int
    duplicates: int
    refused: tuple[Refusal, ...]


class LearnerHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """The learner's health. Feeds are answered without a learner; they only stop improving.

    Attributes:
        state: "learning"; "stopped" after an orderly stop; "silent" if it died, hangs, or was
            overtaken by one that has said nothing yet; "none" if there never was one.
        age_s: seconds since its last heartbeat; about 1 while it learns.
    """

    state: Literal["learning", "stopped", "silent", "none"]
    age_s: float | None = None


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the server can answer feeds, and the reason if not.

    Attributes:
        items: number of items that may be shown.
        replaced: pages drawn uniformly in place of a custom policy, by its name, since the running
            replicas started; left out where there were none.
    """

    ready: bool
    items: int = 0
    reason: str = ""
    learner: LearnerHealth | None = None
    replaced: dict[str, int] = {}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem with a request: RFC 9457, with the field at fault.

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
