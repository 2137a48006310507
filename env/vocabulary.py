"""The vocabulary of nextswipe: the records from an uploaded Item to a rewarded Interaction.

One card shown is one `Decision` with its propensity, one line of the log and one row of an
estimator, so nothing is converted between serving, learning and evaluation. Records are frozen;
arrays are columns over the candidates of one `Context`. Rejected alternatives:
`docs/decisions/event-records.md`.
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
"""A user's pseudonym in the log, so that forgetting a user erases one record."""

SessionId = NewType("SessionId", str)
PageId = NewType("PageId", str)
DecisionId = NewType("DecisionId", str)


class Item(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A video as its uploader describes it.

    Attributes:
        item_id: the caller's id.
        creator: id of the uploader; empty where unknown.
        title: as shown on the card.
        tags: topics, in the caller's own words.
        duration_s: length in seconds; None where unknown, never 0.
        published_ms: upload time, Unix milliseconds.
        language: ISO 639 code; empty where unknown, "zxx" without words.
        country: ISO 3166 alpha-2 code of its home market; empty where unknown.
        markets: countries in which it may be shown; empty for everywhere.
        sound: id of the music; empty where unknown.
        media: address of the video, for the client.
        vector: the caller's own embedding, or an embedder's; of one length throughout a catalogue.
        rating: minimum age in years; 0 for everybody.
        products: address of the product by country of sale (ISO 3166 alpha-2).
        listed: false hides it from every feed without forgetting it.
        bait: the caller's own score of its clickbait, in [0, 1]; None where unknown.
        description: of the uploader; not on the card.
        embedder: the hook that was asked about this media; empty: none was, or the vector is the
            caller's own.
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
    description: str = ""
    embedder: str = ""


class Profile(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A user's registration data.

    Attributes:
        country: ISO 3166 alpha-2 code.
        language: ISO 639 code.
        time_zone: IANA name; empty for the country's most populous zone.
        device: "phone", "tablet", "desktop" or "tv".
        os: with its version or without, for example "android" or "iOS 17.5.1".
        apps: installed apps, in the caller's own words.
        cohort: the caller's activity class, for example "full_active".
        tags: the caller's own segments.
        registered_ms: Unix milliseconds.
        follows: creators followed at registration.
        birth_year: 0 where unknown.
        device_model: in the caller's own words, for example "Pixel 8".
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
    device_model: str = ""


class Scene(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Place, time and device of a page request, as analysed by `env.features.scenes`."""

    at_ms: int  # server time, Unix milliseconds
    country: str = ""
    language: str = ""
    device: str = ""
    network: str = ""
    hour: int = 0  # 0 to 23, in the user's time zone; -1 where unknown, in an imported history
    weekday: int = 0  # 0 (Monday) to 6, in the user's time zone
    position: int = 0  # cards of this session already seen
    referrer: str = ""  # the caller's own words; empty where unknown
    cohort: str = ""  # the user's, as registered
    origin: str = ""  # keyed hash of the request's address block; empty where unknown
    tenure_days: int = 0  # whole days since the user registered


@dataclass(frozen=True, slots=True)
class Features:
    """The encoded features of one page: exact float16 values, held as float32.

    So prediction, learning, the log and a redraw all use the same numbers.
    """

    shared: Float32s  # (N_SHARED,)
    actions: Float32s  # (n, N_ACTION): the static block, then the dynamic columns
    keys: Keys  # (n,) hash of each item's id, under which a policy remembers that item


@dataclass(frozen=True, slots=True)
class Context:
    """All inputs of a choice: user, scene, session, candidates and their features."""

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
    """The candidates that one slot of a page may show.

    A reserved slot has a narrower mask; filters that depend on the slot act on the mask, before the
    draw.
    """

    mask: Bools  # (n,) candidates that the slot may show
    eligible: Bools  # (n,) candidates that the exploration floor is spread over
    name: str = "open"


class Decision(msgspec.Struct, frozen=True):
    """One drawn action with the exact probability with which it was drawn."""

    decision_id: DecisionId  # `page_id:slot`
    slot: int  # position on the page, from 0
    action: int  # index into the page's candidates
    item_id: ItemId  # the candidate at that index
    propensity: float  # in (0, 1], conditional on the candidates and on the slots before
    policy: str  # `name@version`


@dataclass(frozen=True, slots=True)
class Page:
    """The ordered Decisions of one response, with the Context and SlotRules that they share."""

    context: Context
    slots: tuple[SlotRule, ...]
    decisions: tuple[Decision, ...]
    eps: float  # the floor: share of each draw that is uniform over the eligible
    explorer: dict[str, object]  # arguments of the policy's explorer, enough to build it again


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A user's reported reaction to one Decision."""

    seen: bool = False  # the card was on screen; without it nothing is known, not even dislike
    left: bool = False  # the end of the card is known; without it the dwell is censored
    dwell_s: float = 0.0  # seconds on the card, the longest reported
    like: bool = False
    comment: bool = False
    share: bool = False
    follow: bool = False
    not_interested: bool = False
    product_click: bool = False
    # Merged values of all other signals, by name and in its order; 1 for those without a value.
    others: tuple[tuple[str, float], ...] = ()


class Interaction(msgspec.Struct, frozen=True, gc=False):
    """A Decision with the features it was drawn on, its Feedback and its reward.

    This is the logged bandit example: `shared` and `action` are the float16 bytes of the page's
    shared features and of the chosen candidate's row.
    """

    decision_id: DecisionId
    page_id: PageId
    user: UserKey
    session: SessionId
    item_id: ItemId
    slot: int
    policy: str
    propensity: float
    n_actions: int  # candidates left by the slot's mask
    shared: bytes
    action: bytes
    item_key: int
    duration_s: float  # length of the item; 0 where unknown
    feedback: Feedback
    reward: float
    scene: Scene
    closed_ms: int  # the join's clock when nothing more was waited for


class Correction(msgspec.Struct, frozen=True, gc=False):
    """A closed decision of which more was reported: the same decision before and after.

    Attributes:
        before: as it was known; never reported where its feedback is not `seen`.
        after: as it is known now.
        learned: whether `before` is an example already, with its reward; else `after` is the first.
    """

    before: Interaction
    after: Interaction
    learned: bool

    @property
    def difference(self) -> float:
        """What the reward has changed by."""
        return self.after.reward - self.before.reward


Example = Interaction | Correction
"""Something to learn from: a decision, or what has become known of one later."""


def interaction_of(example: Example) -> Interaction:
    """Return an example's decision as it is known now."""
    return example.after if isinstance(example, Correction) else example


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


_NO_LANGUAGE = frozenset({"zxx", "und"})
"""ISO 639 codes of an item without words, and of a language that nobody determined."""


def primary_language(language: str) -> str:
    """Return a language in lower case without its region; empty: unknown, or without words.

    >>> primary_language("pt_BR"), primary_language("zxx")
    ('pt', '')
    """
    primary = language.strip().lower().replace("_", "-").partition("-")[0]
    return "" if primary in _NO_LANGUAGE else primary


_ALSO = {"tl": "fil", "fil": "tl", "he": "iw", "iw": "he", "id": "in", "in": "id"}
"""Other codes of the same language: Filipino is Tagalog, and two have a former code."""


def spoken_by(language: str) -> tuple[str, ...]:
    """Return the codes of a user's own language, none where it is unknown.

    >>> spoken_by("tl"), spoken_by("th"), spoken_by("")
    (('tl', 'fil'), ('th',), ())
    """
    codes = language, _ALSO.get(language, "")
    return tuple(filter(None, codes))
