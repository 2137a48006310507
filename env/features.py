"""The feature encoding: named columns, quantised to half precision, the same online and offline.

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

from env.pace import Counted, observed
from env.reals import Reals
from env.records import item_key
from env.scales import (
    PersonFacts,
    scale_age,
    scale_bait,
    scale_person,
    scale_plays,
    scale_rewarded,
)
from env.vocabulary import Features, Float32s, Floats, Ints, Scene

if TYPE_CHECKING:  # these import the columns named here, so they are imported when called
    from env.catalogue import Catalogue
    from env.items import ItemStates
    from env.popularity import Popular
    from env.users import UserState

SCHEMA = 4
VECTOR_DIM = 32
N_APPS = 8
"""Buckets that the names of installed apps are hashed into, see `env.users.hash_apps`."""
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

_CELLULAR = frozenset({"cellular", "mobile", "2g", "3g", "4g", "5g"})
_ACTIVE = frozenset({"active", "full_active", "high_active"})
_IOS = frozenset({"ios", "ipados"})
NEW_MS = 14 * 24 * 3_600_000
_HOUR_MS = 3_600_000


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


def encode(
    user: "UserState",
    scene: Scene,
    catalogue: "Catalogue",
    index: Ints,
    states: "ItemStates",
) -> Features:
    """Return the features of a page's candidates, quantised.

    Args:
        user: state of the user the page is for.
        scene: of the request; position 0 begins a session, whatever the last one was like.
        catalogue: that `index` refers to.
        index: shape (n,), the candidates.
        states: the log's statistics of the items.

    Returns:
        `shared` (N_SHARED,), `actions` (n, N_ACTION), `keys` (n,).
    """
    actions = np.empty((len(index), N_ACTION), dtype=np.float32)
    actions[:, :N_STATIC] = catalogue.blocks.take(index, axis=0)
    vectors = actions[:, :VECTOR_DIM]
    dynamic = _dynamic_columns(user, scene, catalogue, index, vectors, states)
    actions[:, N_STATIC:] = quantise(dynamic).T
    return Features(
        shared=quantise(_shared_columns(user, scene)),
        actions=actions,
        keys=catalogue.keys[index],
    )


def person_facts(
    counted: Counted, *, hour: Reals, weekday: Reals, position: Reals, tenure_days: Reals
) -> PersonFacts:
    """Return the input of `env.scales.scale_person`, for one user or arrays of n users.

    Args:
        counted: counts of the users, gaps up to now included.
        hour: whole, in [0, 24).
        weekday: 0 (Monday) to 6.
        position: cards of the visit already seen.
        tenure_days: whole days since registration, 0 where unknown.
    """
    seen = observed(counted)
    return PersonFacts(
        hour=hour,
        weekday=weekday,
        position=position,
        evidence=seen.evidence,
        session_evidence=seen.session_evidence,
        swipe_speed=seen.swipe_speed,
        play_rate=seen.play_rate,
        session_play_rate=seen.session_play_rate,
        last_gap=counted.last_gap,
        usual_gap=seen.usual_gap,
        n_returns=counted.n_returns,
        tenure_days=tenure_days,
        session_watched_s=counted.session_watched_s,
        bait_lately=counted.bait_lately,
    )


def device_columns(device: str) -> dict[str, bool]:
    """Return the columns of `SHARED` that depend on the device."""
    return {"phone": device == "phone", "desktop": device == "desktop"}


def cohort_columns(cohort: str) -> dict[str, bool]:
    """Return the columns of `SHARED` that depend on the cohort."""
    return {"active_cohort": cohort in _ACTIVE, "new_cohort": cohort.endswith("new")}


def _shared_columns(user: "UserState", scene: Scene) -> list[float]:
    from env.users import come_back

    profile = user.profile
    system = profile.os.strip().lower()
    registered = profile.registered_ms > 0
    facts = person_facts(
        come_back(user, scene.at_ms),
        hour=float(scene.hour),
        weekday=float(scene.weekday),
        position=float(scene.position),
        tenure_days=float(scene.tenure_days),
    )
    columns: dict[str, Reals] = {
        **scale_person(facts),
        **device_columns(scene.device),
        **cohort_columns(profile.cohort),
        "android": system == "android",
        "ios": system in _IOS,
        "wifi": scene.network == "wifi",
        "cellular": scene.network in _CELLULAR,
        "known_language": bool(scene.language),
    }
    if registered and scene.at_ms - profile.registered_ms < NEW_MS:
        columns["new_cohort"] = 1.0
    if user.apps:
        columns |= zip(_APPS, np.frombuffer(user.apps, dtype="<f2").tolist(), strict=True)
    if scene.referrer:
        columns[_REFERRERS[bucket_of("referrer", scene.referrer, N_REFERRERS)]] = 1.0
    return [float(columns.get(name, 0.0)) for name in SHARED]


def _dynamic_columns(
    user: "UserState",
    scene: Scene,
    catalogue: "Catalogue",
    index: Ints,
    vectors: Float32s,
    states: "ItemStates",
) -> Floats:
    """Return the columns DYNAMIC, shape (N_DYNAMIC, n), before quantisation."""
    from env.person_columns import person_columns

    items = states.aligned(catalogue)
    scale = items.scale(scene.at_ms)
    hours = np.maximum(scene.at_ms - catalogue.published_ms[index], 0) / _HOUR_MS
    prior = items.popularity.interest(scene, catalogue.vectors)
    columns = {
        **person_columns(user, scene, catalogue, index, vectors, prior),
        "age": scale_age(hours),
        "popularity": _level(items.popularity.everywhere, index, scale),
        "popularity_here": _level(items.popularity.here(scene), index, scale),
        "bait": scale_bait(catalogue.baits[index]),
        "reward_mean": items.reward_mean[index],
        "reward_sd": items.reward_sd[index],
        "item_evidence": scale_rewarded(items.rewarded[index]),
        "same_country": catalogue.countries[index] == catalogue.codes.country(scene.country),
        "same_language": catalogue.languages[index] == catalogue.codes.language(scene.language),
    }
    rows = np.empty((N_DYNAMIC, len(index)))
    for place, name in enumerate(DYNAMIC):
        rows[place] = columns[name]
    return rows


def _level(popular: "Popular", index: Ints, scale: float) -> Floats:
    return scale_plays(popular.at(index) * scale, popular.highest * scale)
