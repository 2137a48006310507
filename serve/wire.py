"""What comes and goes over HTTP, version 1: typed, bounded, the same in JSON and msgpack.

Every string, number and list has a limit here, so that what is decoded is safe to store, to encode
as features and to send back; the OpenAPI document is made of these types, limits included. They
are apart from the records of the log, because a log lives longer than an API.

Rejected: decoding into the log's own records (no limits, and a change of either would be one of
both), and free-form extensions (an unknown field is a misspelt one).
"""

import ipaddress
import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from env.records import FeedbackKind
from env.vocabulary import CreatorId, Item, ItemId, Profile, UserId
from serve.limits import (
    MAX_COUNTRIES,
    MAX_DWELL_S,
    MAX_EVENTS,
    MAX_ITEMS,
    MAX_PAGE,
    MAX_RATING,
    MAX_VECTOR_LENGTH,
    Address,
    Country,
    Creator,
    Id,
    IpAddress,
    Language,
    Market,
    Ms,
    Number,
    PersonId,
    Word,
    Year,
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


class ItemBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A video as its uploader describes it; see `env.vocabulary.Item`.

    Attributes:
        published_ms: 0: when the server first hears of it.
        duration_s: seconds; absent where unknown.
        markets: countries in which it may be shown; none: everywhere.
        rating: least age in years of who may see it; 0: everybody.
        products: address of what the card sells, by the country in which it is sold.
        listed: false takes it out of every feed without forgetting it.
    """

    item_id: Id | None = None
    creator: Creator = ""
    title: Annotated[str, Meta(max_length=500)] = ""
    tags: Annotated[tuple[Word, ...], Meta(max_length=50)] = ()
    duration_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] | None = None
    published_ms: Ms = 0
    language: Language = ""
    country: Country = ""
    markets: Annotated[tuple[Country, ...], Meta(max_length=MAX_COUNTRIES)] = ()
    sound: Annotated[str, Meta(max_length=128)] = ""
    media: Address = ""
    vector: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=4096)] | None = None
    rating: Annotated[int, Meta(ge=0, le=MAX_RATING)] = 0
    products: Annotated[dict[Market, Address], Meta(max_length=MAX_COUNTRIES)] = {}
    listed: bool = True

    def __post_init__(self) -> None:
        if self.vector is not None and math.hypot(*self.vector) > MAX_VECTOR_LENGTH:
            raise ValueError(f"Expected a length <= {MAX_VECTOR_LENGTH:g} of field `vector`")

    def item(self, item_id: ItemId) -> Item:
        """Return the item of this description."""
        return Item(
            item_id=item_id,
            creator=CreatorId(self.creator),
            title=self.title,
            tags=self.tags,
            duration_s=self.duration_s,
            published_ms=self.published_ms,
            language=self.language,
            country=self.country,
            markets=self.markets,
            sound=self.sound,
            media=self.media,
            vector=self.vector,
            rating=self.rating,
            products=self.products,
            listed=self.listed,
        )


class ItemsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items to put, each with its `item_id`; all are taken or none."""

    items: Annotated[tuple[ItemBody, ...], Meta(max_length=MAX_ITEMS)]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for i, body in enumerate(self.items):
            if body.item_id is None:
                raise ValueError(f"Expected an id in field `items[{i}].item_id`, got none")
            if body.item_id in seen:
                raise ValueError(
                    f"Expected a new id in field `items[{i}].item_id`, got a repeated one"
                )
            seen.add(body.item_id)


class ItemsResponse(msgspec.Struct, frozen=True):
    """What became of the items; all of it is on disk."""

    added: int
    changed: int
    unchanged: int


class FoundResponse(msgspec.Struct, frozen=True):
    """Items that a search found, the best match first."""

    items: tuple[Item, ...]


class ProfileBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a person's registration says about them; see `env.vocabulary.Profile`.

    Attributes:
        time_zone: IANA name; empty: the country's most populous zone.
        registered_ms: 0: when the server first hears of them.
        birth_year: 0 where unknown; of whom nothing is known, the market's least age counts.
    """

    country: Country = ""
    language: Language = ""
    time_zone: Word = ""
    device: Word = ""
    os: Word = ""
    apps: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=500)] = ()
    cohort: Word = ""
    tags: Annotated[tuple[Word, ...], Meta(max_length=100)] = ()
    registered_ms: Ms = 0
    follows: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=1000)
    ] = ()
    birth_year: Year = 0

    def profile(self) -> Profile:
        """Return the profile of this description."""
        return Profile(
            country=self.country,
            language=self.language,
            time_zone=self.time_zone,
            device=self.device,
            os=self.os,
            apps=self.apps,
            cohort=self.cohort,
            tags=self.tags,
            registered_ms=self.registered_ms,
            follows=tuple(CreatorId(creator) for creator in self.follows),
            birth_year=self.birth_year,
        )


class UserResponse(msgspec.Struct, frozen=True):
    """A person as they are known."""

    user_id: UserId
    profile: Profile


class LearnerHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the learner is. Feeds are answered without one; they only stop getting better.

    Attributes:
        state: "learning"; "stopped", as it was told to; "silent", it died or hangs; "none", there
            never was one.
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
