"""The one feature encoding, for VW, for RL, online and offline: named columns, quantised first.

A page's features are `shared` (the user and the scene), and one row a candidate: its static
block, known when it was uploaded, then its dynamic columns, which depend on the user and on
what the log says about the item. `encode` rounds to half precision before anybody sees a value.
All columns are of the order of 1, so that one learning rate serves them all.

A new column goes last among its own and none ever goes away, so what a schema had stands in the
same place in all later ones, and pages of an older log, which are read by the width they were
written with, show each column where it is looked for. Schemas differ in width: what learns or
estimates refuses any other than its own. Schema 3 added `referrer0`.. and `tag_recent`,
`sound_recent`. Schema 4 added `scene_match`, which `long_match` had been a part of, and made
`long_match` and `session_match` expected signals (`env.users.interests`); in older logs they are
means.
It also added what return hangs on: `last_gap`, `usual_gap`, `visits`, `tenure`, `session_watched`,
`bait_lately`, and of an item `bait`, which is among the dynamic columns since blocks of items that
were put before stay as they are.

Rejected: standardising by running means (the encoding would be one more state to fold, and a
logged value would mean something else each day), and crossing user and item here (a policy
crosses what it wants; only matches of interest and content, which no cross of columns gives
cheaply, are columns of their own).
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from env.records import item_key
from env.vocabulary import Float32s

if TYPE_CHECKING:
    pass


SCHEMA = 4

VECTOR_DIM = 32

N_APPS = 8
"""Buckets that the names of installed apps are hashed into, see `env.users.state.hash_apps`."""

N_REFERRERS = 4
"""Buckets that what brought a user here is hashed into."""

_APPS = tuple(f"app{i}" for i in range(N_APPS))

_REFERRERS = tuple(f"referrer{i}" for i in range(N_REFERRERS))

SHARED = (
    "hour_sin",
    "hour_cos",
    "weekend",
    "phone",
    "desktop",
    "android",
    "ios",
    "wifi",
    "cellular",
    "position",
    "evidence",
    "session_evidence",
    "swipe_speed",
    "play_rate",
    "session_play_rate",
    "known_language",
    "active_cohort",
    "new_cohort",
    *_APPS,
    *_REFERRERS,
    "last_gap",
    "usual_gap",
    "visits",
    "tenure",
    "session_watched",
    "bait_lately",
)

STATIC = (
    *(f"v{i}" for i in range(VECTOR_DIM)),
    "log_duration",
    "to_7_s",
    "to_18_s",
    "to_60_s",
    "over_60_s",
    "no_duration",
)

DYNAMIC = (
    "long_match",
    "session_match",
    "creator_affinity",
    "creator_recent",
    "followed",
    "tag_affinity",
    "age",
    "popularity",
    "popularity_here",
    "reward_mean",
    "reward_sd",
    "item_evidence",
    "same_country",
    "same_language",
    "tag_recent",
    "sound_recent",
    "scene_match",
    "bait",
)

N_SHARED = len(SHARED)

N_STATIC = len(STATIC)

N_DYNAMIC = len(DYNAMIC)

N_ACTION = N_STATIC + N_DYNAMIC

POPULARITY = N_STATIC + DYNAMIC.index("popularity")

MAX_HALF = 65504.0
"""The greatest finite float16."""


@lru_cache(maxsize=8192)
def bucket_of(kind: str, word: str, n: int) -> int:
    """Return the bucket, 0 to n - 1, that a word of some kind is hashed into.

    Case and blanks around it do not count; it is the same on any machine.

    >>> bucket_of("app", " Chat", N_APPS) == bucket_of("app", "chat", N_APPS)
    True
    """
    return item_key(f"{kind} {word.strip().casefold()}") % n


def quantise(values: npt.ArrayLike) -> Float32s:
    """Return float32 of the same shape, each value exactly a finite float16.

    Raises:
        ValueError: a value is NaN; there is no feature to put in its place.

    >>> quantise([0.1, 1e9]).tolist()
    [0.0999755859375, 65504.0]
    """
    exact = np.asarray(values, dtype=np.float64)
    clipped = exact.clip(-MAX_HALF, MAX_HALF)
    if math.isnan(np.add.reduce(clipped, axis=None)):  # a sum shows a NaN in one pass
        raise ValueError(f"expected features without NaN, got {exact!r}")
    return clipped.astype(np.float16).astype(np.float32)
