"""The feature schema: names, order and quantisation of all feature columns.

A page's features are `shared` (user and scene) and one row a candidate: its static block, known at
upload, then its dynamic columns, which depend on the user and the log. A new column goes last in
its group and none is ever removed, so older logs stay readable. History of the schemas and rejected
encodings: `docs/decisions/feature-encoding.md`.
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
"""Buckets that referrers are hashed into."""

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
    """Return the bucket, 0 to n - 1, of a word of some kind; case and outer blanks are ignored.

    >>> bucket_of("app", " Chat", N_APPS) == bucket_of("app", "chat", N_APPS)
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
