"""The one feature encoding, for VW, for RL, online and offline: named columns, quantised first.

A page's features are `shared` (the person and the scene), and one row a candidate: its static
block, known when it was uploaded, then its dynamic columns, which depend on the person and on
what the log says about the item. `encode` rounds to half precision before anybody sees a value.
All columns are of the order of 1, so that one learning rate serves them all.

Rejected: standardising by running means (the encoding would be one more state to fold, and a
logged value would mean something else each day), and crossing person and item here (a policy
crosses what it wants; only matches of interest and content, which no cross of columns gives
cheaply, are columns of their own).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from env.vocabulary import Features, Float32s, Floats, Ints, Scene

if TYPE_CHECKING:  # these import the columns named here, so they are imported when called
    from env.catalogue import Catalogue
    from env.items import ItemStates
    from env.popularity import Popular
    from env.users import UserState

SCHEMA = 2
VECTOR_DIM = 32
N_APPS = 8
"""Buckets that the names of installed apps are hashed into, see `env.users.hash_apps`."""

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
    *(f"app{i}" for i in range(N_APPS)),
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
_NEW_MS = 14 * 24 * 3_600_000
_HOUR_MS = 3_600_000
_LOG_YEAR = math.log1p(24.0 * 365.0)  # hours
_LOG_MUCH = math.log1p(1000.0)  # rewarded impressions
_TALLY_PRIOR = 2.0
"""Exposures that a creator's signal is shrunk by."""


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


def encode(
    user: "UserState",
    scene: Scene,
    catalogue: "Catalogue",
    index: Ints,
    states: "ItemStates",
) -> Features:
    """Return the features of a page's candidates, quantised.

    Args:
        user: the person who asks.
        scene: of the request; position 0 begins a session, whatever the last one was like.
        catalogue: that `index` is of.
        index: shape (n,), the candidates.
        states: what the log says about the items.

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


def _shared_columns(user: "UserState", scene: Scene) -> list[float]:
    from env.users import observed

    seen, profile = observed(user), user.profile
    begun = scene.position > 0
    system = profile.os.strip().lower()
    angle = 2.0 * math.pi * scene.hour / 24.0
    registered = profile.registered_ms > 0
    fresh = registered and scene.at_ms - profile.registered_ms < _NEW_MS
    columns = {
        "hour_sin": math.sin(angle),
        "hour_cos": math.cos(angle),
        "weekend": scene.weekday >= 5,
        "phone": scene.device == "phone",
        "desktop": scene.device == "desktop",
        "android": system == "android",
        "ios": system in _IOS,
        "wifi": scene.network == "wifi",
        "cellular": scene.network in _CELLULAR,
        "position": math.log1p(scene.position) / 5.0,
        "evidence": math.log1p(seen.evidence) / 5.0,
        "session_evidence": math.log1p(seen.session_evidence * begun) / 2.5,
        "swipe_speed": math.log1p(seen.swipe_speed) / 4.0,
        "play_rate": seen.play_rate,
        "session_play_rate": seen.session_play_rate if begun else seen.play_rate,
        "known_language": bool(scene.language),
        "active_cohort": profile.cohort in _ACTIVE,
        "new_cohort": fresh or profile.cohort.endswith("new"),
    }
    apps = np.frombuffer(user.apps, dtype="<f2").tolist() if user.apps else [0.0] * N_APPS
    return [*(float(columns[name]) for name in SHARED[:-N_APPS]), *apps]


def _dynamic_columns(
    user: "UserState",
    scene: Scene,
    catalogue: "Catalogue",
    index: Ints,
    vectors: Float32s,
    states: "ItemStates",
) -> Floats:
    """Return the columns DYNAMIC, shape (N_DYNAMIC, n), before they are quantised."""
    items = states.aligned(catalogue)
    scale = items.scale(scene.at_ms)
    hours = np.maximum(scene.at_ms - catalogue.published_ms[index], 0) / _HOUR_MS
    columns = {
        **_person_columns(user, scene, catalogue, index, vectors),
        "age": np.log1p(hours) / _LOG_YEAR,
        "popularity": _level(items.popularity.everywhere, index, scale),
        "popularity_here": _level(items.popularity.here(scene), index, scale),
        "reward_mean": items.reward_mean[index],
        "reward_sd": items.reward_sd[index],
        "item_evidence": np.log1p(items.rewarded[index]) / _LOG_MUCH,
        "same_country": catalogue.countries[index] == catalogue.country_code(scene.country),
        "same_language": catalogue.languages[index] == catalogue.language_code(scene.language),
    }
    rows = np.empty((N_DYNAMIC, len(index)))
    for place, name in enumerate(DYNAMIC):
        rows[place] = columns[name]
    return rows


def _person_columns(
    user: "UserState", scene: Scene, catalogue: "Catalogue", index: Ints, vectors: Float32s
) -> dict[str, npt.NDArray[np.generic] | float]:
    from env import users

    creators = catalogue.creators[index]
    affinity, recent = _creator_tables(user, catalogue)
    follows = np.zeros(catalogue.n_creators, dtype=np.bool_)
    follows[catalogue.creator_codes(users.followed(user))] = True
    return {
        "long_match": vectors @ users.long_interest(user, with_declared=catalogue.is_of_tags),
        "session_match": vectors @ users.session_interest(user) if scene.position > 0 else 0.0,
        "creator_affinity": affinity[creators],
        "creator_recent": recent[creators],
        "followed": follows[creators],
        "tag_affinity": _tag_affinity(user, catalogue, index),
    }


def _creator_tables(user: "UserState", catalogue: "Catalogue") -> tuple[Floats, Floats]:
    """Return signal and exposure by creator code, both shrunk by `_TALLY_PRIOR` exposures."""
    from env.interests import tally_columns

    names, exposure, signal = tally_columns(user.creators, user.n_cards)
    codes = np.array([catalogue.creator_code(name) for name in names], dtype=np.int64)
    affinity, recent = np.zeros(catalogue.n_creators), np.zeros(catalogue.n_creators)
    affinity[codes] = signal / (exposure + _TALLY_PRIOR)
    recent[codes] = exposure / (exposure + _TALLY_PRIOR)
    affinity[0] = recent[0] = 0.0
    return affinity, recent


def _tag_affinity(user: "UserState", catalogue: "Catalogue", index: Ints) -> Floats:
    """Return the mean over an item's tags of what a person felt at each, shape (n,).

    As for creators, but a tag of the registration is shrunk to `DECLARED_SIGNAL` and not to 0.
    Other than a match of vectors it also speaks where items have vectors of their own.
    """
    from env.content import fold_tag
    from env.interests import tally_columns
    from env.users import DECLARED_SIGNAL

    names, exposure, signal = tally_columns(user.tags, user.n_cards)
    codes = catalogue.tag_codes(names)
    table = np.zeros(catalogue.n_tags)
    table[catalogue.tag_codes(map(fold_tag, user.profile.tags))] = DECLARED_SIGNAL
    table[codes] = (signal + _TALLY_PRIOR * table[codes]) / (exposure + _TALLY_PRIOR)
    table[0] = 0.0
    felt: Floats = table.take(catalogue.tags.take(index, axis=0))
    mean: Floats = felt.dot(np.ones(felt.shape[1])) / catalogue.n_tags_of[index]
    return mean


def _level(popular: "Popular", index: Ints, scale: float) -> Floats:
    """Return popularity relative to the highest of all items, in [0, 1], on a logarithmic scale."""
    highest = math.log1p(popular.highest * scale)
    if highest == 0.0:
        return np.zeros(len(index))
    level: Floats = np.log1p(popular.plays[index] * scale) / highest
    return level
