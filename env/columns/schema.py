"""The feature schema: names, order and quantisation of all feature columns.

A page's features are `shared` (user and scene) and one row a candidate: its static block, known at
upload, then its dynamic columns, which depend on the user and the log. A new column goes last in
its group and none is ever removed, so older logs stay readable. History of the schemas and rejected
encodings: `docs/decisions/feature-encoding.md`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from env.arrays.reals import Reals, either
from env.columns.scales import (
    AGE_SCALE,
    BAIT_SCALE,
    EVIDENCE_SCALE,
    GAP_SCALE,
    MATCH_SCALE,
    MINUTES_SCALE,
    POSITION_SCALE,
    REWARDED_SCALE,
    SESSION_EVIDENCE_SCALE,
    SPEED_SCALE,
    TENURE_SCALE,
    VISITS_SCALE,
    WATCHED_SCALE,
    PersonFacts,
    has_begun,
    hour_cosine,
    hour_sine,
    is_weekend,
)
from env.records import item_key
from env.vocabulary import Float32s

SCHEMA = 5
VECTOR_DIM = 32
"""Numbers of a content vector that are columns: its first ones."""

CONTENT_DIM = 64
"""Numbers of a content vector. Matches and searches use all of them."""

N_APPS = 8
"""Coordinates of installed apps, OS and model, see `env.features.apps`."""

N_REFERRERS = 4
"""Buckets that referrers are hashed into."""

Block = Literal["shared", "static", "dynamic"]
PriorGroup = Literal["main", "match", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The declaration of a feature column; two are equal if they are the same object."""

    name: str
    block: Block
    meaning: str
    span: tuple[float, float] = (0.0, 1.0)  # least and greatest value before it is scaled
    scale: Callable[[Reals], Reals] | None = None  # None: the value is the column
    # The bandit's prior sd of the column's weight: `main_sd`, `match_sd` for a column of user and
    # item together, or none, where the column is not among its main effects.
    prior: PriorGroup = "main"
    read: Callable[[PersonFacts], Reals] | None = None  # the value before it is scaled
    family: str = ""  # name that columns of one meaning share

    def scaled(self, value: Reals) -> Reals:
        """Return the column of a value."""
        return value if self.scale is None else self.scale(value)

    def __reduce__(self) -> tuple[Callable[[str], "Column"], tuple[str]]:
        """Pickle the name, so that what comes back is the declaration itself."""
        return declared, (self.name,)


HOUR_SIN = Column(
    "hour_sin",
    "shared",
    "sine of the user's hour of the day",
    span=(0.0, 23.0),
    scale=hour_sine,
    read=lambda facts: facts.hour,
    family="hour",
)

HOUR_COS = Column(
    "hour_cos",
    "shared",
    "cosine of the user's hour of the day",
    span=(0.0, 23.0),
    scale=hour_cosine,
    read=lambda facts: facts.hour,
    family="hour",
)

WEEKEND = Column(
    "weekend",
    "shared",
    "whether it is Saturday or Sunday",
    span=(0.0, 6.0),
    scale=is_weekend,
    prior="none",
    read=lambda facts: facts.weekday,
)

PHONE = Column("phone", "shared", "the device is a phone", prior="none")
DESKTOP = Column("desktop", "shared", "the device is a desktop", prior="none")
ANDROID = Column("android", "shared", "the system is Android", prior="none")
IOS = Column("ios", "shared", "the system is iOS or iPadOS", prior="none")
WIFI = Column("wifi", "shared", "the network is Wi-Fi", prior="none")
CELLULAR = Column("cellular", "shared", "the network is a mobile one", prior="none")

POSITION = Column(
    "position",
    "shared",
    "cards of this visit already seen",
    span=(0.0, 1e6),
    scale=POSITION_SCALE,
    read=lambda facts: facts.position,
)

EVIDENCE = Column(
    "evidence",
    "shared",
    "decayed count of answered cards",
    span=(0.0, 1e6),
    scale=EVIDENCE_SCALE,
    read=lambda facts: facts.evidence,
)

SESSION_EVIDENCE = Column(
    "session_evidence",
    "shared",
    "decayed count of answered cards of this visit",
    span=(0.0, 1e6),
    scale=SESSION_EVIDENCE_SCALE,
    prior="none",
    read=lambda facts: facts.session_evidence * has_begun(facts),
)

SWIPE_SPEED = Column(
    "swipe_speed",
    "shared",
    "cards a minute of watching",
    span=(0.0, 60.0),
    scale=SPEED_SCALE,
    read=lambda facts: facts.swipe_speed,
)

PLAY_RATE = Column(
    "play_rate", "shared", "share of valid plays", read=lambda facts: facts.play_rate
)

SESSION_PLAY_RATE = Column(
    "session_play_rate",
    "shared",
    "share of valid plays of this visit",
    read=lambda facts: either(has_begun(facts), facts.session_play_rate, facts.play_rate),
)

KNOWN_LANGUAGE = Column("known_language", "shared", "the user's language is known", prior="none")
ACTIVE_COHORT = Column("active_cohort", "shared", "the cohort is one of active users", prior="none")

NEW_COHORT = Column(
    "new_cohort", "shared", "the cohort is new, or the registration is", prior="none"
)

APPS = tuple(
    Column(
        f"app{i}",
        "shared",
        "a learned coordinate of installed apps, OS and model",
        span=(-1.0, 1.0),
        prior="none",
        family="apps",
    )
    for i in range(N_APPS)
)

REFERRERS = tuple(
    Column(
        f"referrer{i}",
        "shared",
        "the referrer hashes to this bucket",
        prior="none",
        family="referrer",
    )
    for i in range(N_REFERRERS)
)

LAST_GAP = Column(
    "last_gap",
    "shared",
    "ln(1 + days) away before this visit",
    span=(0.0, 12.0),
    scale=GAP_SCALE,
    prior="none",
    read=lambda facts: facts.last_gap,
)

USUAL_GAP = Column(
    "usual_gap",
    "shared",
    "mean of ln(1 + days) between visits",
    span=(0.0, 12.0),
    scale=GAP_SCALE,
    prior="none",
    read=lambda facts: facts.usual_gap,
)

VISITS = Column(
    "visits",
    "shared",
    "times that the user came back",
    span=(0.0, 1e6),
    scale=VISITS_SCALE,
    prior="none",
    read=lambda facts: facts.n_returns,
)

TENURE = Column(
    "tenure",
    "shared",
    "days since the registration",
    span=(0.0, 1e6),
    scale=TENURE_SCALE,
    prior="none",
    read=lambda facts: facts.tenure_days,
)

SESSION_WATCHED = Column(
    "session_watched",
    "shared",
    "seconds watched in this visit",
    span=(0.0, 1e9),
    scale=WATCHED_SCALE,
    prior="none",
    read=lambda facts: facts.session_watched_s * has_begun(facts),
)

BAIT_LATELY = Column(
    "bait_lately",
    "shared",
    "running mean of the cards' bait beyond the mean",
    span=(-1.0, 1.0),
    scale=BAIT_SCALE,
    prior="none",
    read=lambda facts: facts.bait_lately,
)

VECTOR = tuple(
    Column(f"v{i}", "static", "a number of the content vector", span=(-1.0, 1.0), family="content")
    for i in range(VECTOR_DIM)
)

LOG_DURATION = Column(
    "log_duration",
    "static",
    "length in minutes, 0 where unknown",
    span=(0.0, 1440.0),
    scale=MINUTES_SCALE,
    family="duration",
)

TO_7_S = Column("to_7_s", "static", "at most 7 s long", family="duration")
TO_18_S = Column("to_18_s", "static", "longer, at most 18 s", family="duration")
TO_60_S = Column("to_60_s", "static", "longer, at most 60 s", family="duration")
OVER_60_S = Column("over_60_s", "static", "longer than 60 s", family="duration")
NO_DURATION = Column("no_duration", "static", "the length is unknown", family="duration")

LONG_MATCH = Column(
    "long_match",
    "dynamic",
    "signal that the lasting interest expects of the content",
    span=(-4.0, 4.0),
    scale=MATCH_SCALE,
    prior="match",
)

SESSION_MATCH = Column(
    "session_match",
    "dynamic",
    "signal that this visit's interest expects of the content",
    span=(-4.0, 4.0),
    scale=MATCH_SCALE,
    prior="match",
)

CREATOR_AFFINITY = Column(
    "creator_affinity",
    "dynamic",
    "shrunk mean signal at the creator's cards",
    span=(-100.0, 100.0),
    prior="match",
)

CREATOR_RECENT = Column(
    "creator_recent", "dynamic", "shrunk exposure to the creator of late", prior="match"
)

FOLLOWED = Column("followed", "dynamic", "the user follows the creator", prior="match")

TAG_AFFINITY = Column(
    "tag_affinity",
    "dynamic",
    "shrunk mean signal at cards with its tags",
    span=(-100.0, 100.0),
    prior="match",
)

AGE = Column("age", "dynamic", "hours since it was published", span=(0.0, 1e6), scale=AGE_SCALE)
POPULARITY = Column("popularity", "dynamic", "plays relative to the most played item")

POPULARITY_HERE = Column(
    "popularity_here", "dynamic", "plays in the scene's segment relative to the most played item"
)

REWARD_MEAN = Column(
    "reward_mean", "dynamic", "posterior mean of its rewards", span=(-100.0, 100.0)
)

REWARD_SD = Column("reward_sd", "dynamic", "posterior sd of its mean reward", span=(0.0, 100.0))

ITEM_EVIDENCE = Column(
    "item_evidence", "dynamic", "its rewarded impressions", span=(0.0, 1e9), scale=REWARDED_SCALE
)

SAME_COUNTRY = Column(
    "same_country", "dynamic", "its home market is the scene's country", prior="match"
)

SAME_LANGUAGE = Column("same_language", "dynamic", "its language is the scene's", prior="match")
TAG_RECENT = Column("tag_recent", "dynamic", "shrunk exposure to its tags of late", prior="match")

SOUND_RECENT = Column(
    "sound_recent", "dynamic", "shrunk exposure to its sound of late", prior="match"
)

SCENE_MATCH = Column(
    "scene_match",
    "dynamic",
    "match with content that users of the scene play",
    span=(-1.0, 1.0),
    prior="match",
)

BAIT = Column("bait", "dynamic", "its bait beyond the mean", span=(-1.0, 1.0), scale=BAIT_SCALE)

TOPIC_SIGNAL = Column(
    "topic_signal",
    "dynamic",
    "signal that this user is expected to give its topic, beyond their usual one",
    span=(-100.0, 100.0),
    prior="match",
)

CO_MATCH = Column(
    "co_match",
    "dynamic",
    "match with what users play who played the same",
    span=(-100.0, 100.0),
    prior="match",
)

CO_KNOWN = Column(
    "co_known", "dynamic", "how much plays say about this user and the item", prior="match"
)

LANGUAGE_SHARE = Column(
    "language_share", "dynamic", "share of its language in what the user plays", prior="match"
)

SHARED_COLUMNS = (
    HOUR_SIN,
    HOUR_COS,
    WEEKEND,
    PHONE,
    DESKTOP,
    ANDROID,
    IOS,
    WIFI,
    CELLULAR,
    POSITION,
    EVIDENCE,
    SESSION_EVIDENCE,
    SWIPE_SPEED,
    PLAY_RATE,
    SESSION_PLAY_RATE,
    KNOWN_LANGUAGE,
    ACTIVE_COHORT,
    NEW_COHORT,
    *APPS,
    *REFERRERS,
    LAST_GAP,
    USUAL_GAP,
    VISITS,
    TENURE,
    SESSION_WATCHED,
    BAIT_LATELY,
)

STATIC_COLUMNS = (
    *VECTOR,
    LOG_DURATION,
    TO_7_S,
    TO_18_S,
    TO_60_S,
    OVER_60_S,
    NO_DURATION,
)

DYNAMIC_COLUMNS = (
    LONG_MATCH,
    SESSION_MATCH,
    CREATOR_AFFINITY,
    CREATOR_RECENT,
    FOLLOWED,
    TAG_AFFINITY,
    AGE,
    POPULARITY,
    POPULARITY_HERE,
    REWARD_MEAN,
    REWARD_SD,
    ITEM_EVIDENCE,
    SAME_COUNTRY,
    SAME_LANGUAGE,
    TAG_RECENT,
    SOUND_RECENT,
    SCENE_MATCH,
    BAIT,
    TOPIC_SIGNAL,
    CO_MATCH,
    CO_KNOWN,
    LANGUAGE_SHARE,
)

ACTION_COLUMNS = STATIC_COLUMNS + DYNAMIC_COLUMNS
"""Columns of a candidate's row."""

COLUMNS = {column.name: column for column in SHARED_COLUMNS + ACTION_COLUMNS}
SHARED = tuple(column.name for column in SHARED_COLUMNS)
STATIC = tuple(column.name for column in STATIC_COLUMNS)
DYNAMIC = tuple(column.name for column in DYNAMIC_COLUMNS)
N_SHARED = len(SHARED)
N_STATIC = len(STATIC)
N_DYNAMIC = len(DYNAMIC)
N_ACTION = N_STATIC + N_DYNAMIC
DYNAMIC_WIDTHS = {4: 18, SCHEMA: N_DYNAMIC}
"""Number of dynamic columns by schema, of the schemas whose logs and rankers are read. Schemas
differ in nothing else; columns that a log does not have are read as 0."""

BLOCK_WIDTHS = (N_STATIC, N_STATIC + CONTENT_DIM - VECTOR_DIM)
"""Numbers of an item's block: its static columns, then the rest of its content vector if that is
not 0. Logs before 4 December have no rest."""

ACTION_WIDTHS = tuple(N_STATIC + width for width in DYNAMIC_WIDTHS.values())
"""Widths of a candidate's row in these schemas."""

USER_COUNTS = tuple(column for column in SHARED_COLUMNS if column.read is not None)
"""Columns that are read from counts of a user."""

_INDEX = {
    column: index
    for block in (SHARED_COLUMNS, STATIC_COLUMNS, DYNAMIC_COLUMNS)
    for index, column in enumerate(block)
}

_ACTION_INDEX = {column: index for index, column in enumerate(ACTION_COLUMNS)}


def widened(halves: bytes) -> bytes:
    """Return the float16 bytes of a row's dynamic columns, those of later schemas 0.

    A row that is of no schema is returned as it is.

    >>> [len(widened(bytes(2 * width))) // 2 == N_DYNAMIC for width in (18, N_DYNAMIC, 5)]
    [True, True, False]
    """
    is_of_feed = len(halves) // 2 in DYNAMIC_WIDTHS.values()
    return halves.ljust(2 * N_DYNAMIC, b"\0") if is_of_feed else halves


def static_of(block: bytes) -> bytes:
    """Return the static columns of an item's block, float16 bytes."""
    return block[: 2 * N_STATIC]


def content_of(block: bytes) -> bytes:
    """Return the content vector of an item's block, float16 bytes; empty where it has none.

    >>> [len(content_of(bytes(2 * width))) // 2 for width in (*BLOCK_WIDTHS, 5)]
    [32, 64, 0]
    """
    is_known = len(block) // 2 in BLOCK_WIDTHS
    return block[: 2 * VECTOR_DIM] + block[2 * N_STATIC :] if is_known else b""


def declared(name: str) -> Column:
    """Return the declaration of a column's name.

    >>> declared("evidence") is EVIDENCE
    True
    """
    return COLUMNS[name]


def index_of(column: Column) -> int:
    """Return the column's index in its block.

    >>> SHARED[index_of(EVIDENCE)]
    'evidence'
    """
    return _INDEX[column]


def action_index(column: Column) -> int:
    """Return the index of a column of an item in a candidate's row of `Features.actions`.

    >>> action_index(LONG_MATCH) == N_STATIC
    True
    """
    return _ACTION_INDEX[column]


def read_user(facts: PersonFacts) -> dict[Column, Reals]:
    """Return the columns `USER_COUNTS` of one user, or of n of them as arrays."""
    return {
        column: column.scaled(column.read(facts))
        for column in USER_COUNTS
        if column.read is not None
    }


MAX_HALF = 65504.0
"""The greatest finite float16."""


@lru_cache(maxsize=8192)
def bucket_of(kind: str, word: str, n: int) -> int:
    """Return the bucket, 0 to n - 1, of a word of some kind; case and outer blanks are ignored.

    >>> bucket_of("referrer", " Chat", 4) == bucket_of("referrer", "chat", 4)
    True
    """
    return item_key(f"{kind} {word.strip().casefold()}") % n


def quantise(values: npt.ArrayLike) -> Float32s:
    """Return float32 of the same shape, each value exactly a finite float16.

    Raises:
        ValueError: a value is NaN.

    >>> quantise([0.1, 1e9]).tolist()
    [0.0999755859375, 65504.0]
    """
    exact = np.asarray(values, dtype=np.float64)
    clipped = exact.clip(-MAX_HALF, MAX_HALF)
    if math.isnan(np.add.reduce(clipped, axis=None)):  # a sum shows a NaN in one pass
        raise ValueError(f"expected features without NaN, got {exact!r}")
    return clipped.astype(np.float16).astype(np.float32)
