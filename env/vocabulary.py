"""The words of nextswipe: what a feed is made of, from an uploaded Item to a rewarded Interaction.

A swipe is a step is a decision is a log line: one card shown is one `Decision` with its
propensity, one row of the log and one row of an estimator, so nothing here is converted on its
way from serving to learning to evaluation. Records are frozen; arrays are columns over the
candidates of one `Context`.

Rejected: pydantic models (a validating constructor on the request path costs more than the
page), and a class per store or wire format (each would be an adapter to keep in step).
"""

from dataclasses import dataclass
from typing import NewType

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Float32s = npt.NDArray[np.float32]

Bools = npt.NDArray[np.bool_]

Ints = npt.NDArray[np.int64]

Keys = npt.NDArray[np.uint64]

ShortKeys = npt.NDArray[np.uint32]
"""Low 32 bits of item keys."""

ItemId = NewType("ItemId", str)

CreatorId = NewType("CreatorId", str)

UserId = NewType("UserId", str)
"""A user's id as the caller knows it; it stands in the profile record only."""

UserKey = NewType("UserKey", str)
"""A user's pseudonym; the log knows users by it, so forgetting one erases one record."""

SessionId = NewType("SessionId", str)

PageId = NewType("PageId", str)

DecisionId = NewType("DecisionId", str)


class Item(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A video as its uploader describes it; analysis turns it into a block of features.

    Attributes:
        item_id: the caller's id.
        creator: who uploaded it; empty where unknown.
        title: as shown on the card.
        tags: topics, in the caller's own words.
        duration_s: length in seconds; None where unknown, never 0.
        published_ms: upload time, Unix milliseconds.
        language: ISO 639 code; empty where unknown.
        country: ISO 3166 alpha-2 code of its home market; empty where unknown.
        markets: countries in which it may be shown; empty: everywhere.
        sound: id of the music; empty where unknown.
        media: address of the video, for the client.
        vector: the caller's own embedding, any length that one catalogue keeps to.
        rating: least age in years of who may see it; 0: everybody.
        products: what can be bought from the card, the product's address by the country (ISO 3166
            alpha-2) in which it is sold.
        listed: False takes it out of every feed without forgetting it.
        bait: the caller's own score, in [0, 1], of how much it attracts beyond what it gives; None
            where unknown.
    """

    item_id: ItemId
    creator: CreatorId = CreatorId("")
    title: str = ""
    tags: tuple[str, ...] = ()
    duration_s: float | None = None
    published_ms: int = 0
    language: str = ""
    country: str = ""
    markets: tuple[str, ...] = ()
    sound: str = ""
    media: str = ""
    vector: tuple[float, ...] | None = None
    rating: int = 0
    products: dict[str, str] = {}
    listed: bool = True
    bait: float | None = None


class Profile(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a user's registration says about them.

    Attributes:
        country: ISO 3166 alpha-2 code.
        language: ISO 639 code.
        time_zone: IANA name; empty: the country's most populous zone.
        device: "phone", "tablet", "desktop" or "tv".
        os: for example "android".
        apps: the installed-app context, in the caller's own words.
        cohort: the caller's activity class, for example "full_active".
        tags: the caller's own segments.
        registered_ms: Unix milliseconds.
        follows: creators followed at registration.
        birth_year: 0 where unknown.
    """

    country: str = ""
    language: str = ""
    time_zone: str = ""
    device: str = ""
    os: str = ""
    apps: tuple[str, ...] = ()
    cohort: str = ""
    tags: tuple[str, ...] = ()
    registered_ms: int = 0
    follows: tuple[CreatorId, ...] = ()
    birth_year: int = 0


class Scene(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where and when a page is asked for, as analysed by `env.features.scenes`.

    Attributes:
        at_ms: the server's time, Unix milliseconds.
        hour: 0 to 23, in the user's time zone.
        weekday: 0 (Monday) to 6, in the user's time zone.
        position: cards of this session already seen.
        referrer: what brought the user here, in the caller's own words; empty where unknown.
        cohort: the user's, as registered.
        origin: keyed hash of the address block that the request came from; empty where unknown.
        tenure_days: whole days since the user registered.
    """

    at_ms: int
    country: str = ""
    language: str = ""
    device: str = ""
    network: str = ""
    hour: int = 0
    weekday: int = 0
    position: int = 0
    referrer: str = ""
    cohort: str = ""
    origin: str = ""
    tenure_days: int = 0


@dataclass(frozen=True, slots=True)
class Features:
    """The encoded features of one page: quantised to half precision, held as float32.

    Every value is exactly representable in float16, so that what predicts, what learns, what is
    logged and what is drawn again are the same numbers.
    """

    shared: Float32s  # (N_SHARED,)
    actions: Float32s  # (n, N_ACTION): the static block, then the dynamic columns
    keys: Keys  # (n,) hash of each item's id, under which a policy remembers that item


@dataclass(frozen=True, slots=True)
class Context:
    """All that is known before choosing: user, scene, session, candidates and their features."""

    page_id: PageId
    user: UserKey
    session: SessionId
    scene: Scene
    candidates: tuple[ItemId, ...]  # (n,)
    features: Features

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class SlotRule:
    """What one slot of a page may take.

    A reserved slot is a rule with a narrower mask; all filtering that depends on the slot acts
    on the mask, before the draw.
    """

    mask: Bools  # (n,) candidates that the slot may show
    eligible: Bools  # (n,) candidates that the exploration floor is spread over
    name: str = "open"


class Decision(msgspec.Struct, frozen=True):
    """One drawn action with the exact probability with which it was drawn.

    Attributes:
        decision_id: `page_id:slot`.
        slot: place on the page, from 0.
        action: index into the page's candidates.
        item_id: the candidate at that index.
        propensity: in (0, 1], conditional on the candidates and on the slots before.
        policy: `name@version`.
    """

    decision_id: DecisionId
    slot: int
    action: int
    item_id: ItemId
    propensity: float
    policy: str


@dataclass(frozen=True, slots=True)
class Page:
    """The ordered Decisions of one response, with the Context and SlotRules that they share."""

    context: Context
    slots: tuple[SlotRule, ...]
    decisions: tuple[Decision, ...]
    eps: float  # the floor: share of each draw that is uniform over the eligible
    explorer: dict[str, object]  # arguments of the policy's explorer, enough to build it again


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the user did about one Decision, as far as it was reported.

    Attributes:
        seen: the card was on screen; without it nothing is known, not even dislike.
        left: the end of the card is known; without it the dwell is censored.
        dwell_s: seconds on the card, the longest reported.
    """

    seen: bool = False
    left: bool = False
    dwell_s: float = 0.0
    like: bool = False
    comment: bool = False
    share: bool = False
    follow: bool = False
    not_interested: bool = False
    product_click: bool = False


class Interaction(msgspec.Struct, frozen=True, gc=False):
    """A Decision with the part of its Context that it was drawn on, its Feedback and Reward.

    This is the logged bandit example: `shared` and `action` are the float16 bytes of the page's
    shared features and of the chosen candidate's row.

    Attributes:
        n_actions: candidates that the slot's mask left to choose from.
        duration_s: length of the item; 0 where unknown.
        closed_ms: the join's clock when nothing more was waited for.
    """

    decision_id: DecisionId
    page_id: PageId
    user: UserKey
    session: SessionId
    item_id: ItemId
    slot: int
    policy: str
    propensity: float
    n_actions: int
    shared: bytes
    action: bytes
    item_key: int
    duration_s: float
    feedback: Feedback
    reward: float
    scene: Scene
    closed_ms: int


def decision_id(page_id: PageId, slot: int) -> DecisionId:
    """Name the decision of a page's slot.

    >>> decision_id(PageId("9f"), 3)
    '9f:3'
    """
    return DecisionId(f"{page_id}:{slot}")


def split_decision_id(decision: str) -> tuple[PageId, int]:
    """Undo `decision_id`.

    Raises:
        ValueError: the text is not `page_id:slot`.
    """
    page_id, colon, slot = decision.rpartition(":")
    if not colon or not page_id or not (slot.isascii() and slot.isdecimal()):
        raise ValueError(f"expected a decision id `page:slot`, got {decision!r}")
    return PageId(page_id), int(slot)
