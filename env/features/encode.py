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

from typing import TYPE_CHECKING

import numpy as np

from env.arrays.reals import Reals
from env.columns.scales import (
    Counted,
    PersonFacts,
    observed,
    scale_age,
    scale_bait,
    scale_plays,
    scale_rewarded,
    scale_user,
)
from env.columns.schema import (
    _APPS,
    _REFERRERS,
    DYNAMIC,
    N_ACTION,
    N_DYNAMIC,
    N_REFERRERS,
    N_STATIC,
    SHARED,
    VECTOR_DIM,
    bucket_of,
    quantise,
)
from env.vocabulary import Features, Float32s, Floats, Ints, Scene

if TYPE_CHECKING:
    from env.items.catalogue import Catalogue
    from env.items.popularity import Popular
    from env.items.statistics import ItemStates
    from env.users.state import UserState


_CELLULAR = frozenset({"cellular", "mobile", "2g", "3g", "4g", "5g"})

_ACTIVE = frozenset({"active", "full_active", "high_active"})

_IOS = frozenset({"ios", "ipados"})

NEW_MS = 14 * 24 * 3_600_000

_HOUR_MS = 3_600_000


def encode(
    user: "UserState",
    scene: Scene,
    catalogue: "Catalogue",
    index: Ints,
    states: "ItemStates",
) -> Features:
    """Return the features of a page's candidates, quantised.

    Args:
        user: the user who asks.
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


def user_facts(
    counted: Counted, *, hour: Reals, weekday: Reals, position: Reals, tenure_days: Reals
) -> PersonFacts:
    """Return what `env.columns.scales` scales, of one user or of n of them as arrays.

    Args:
        counted: of them, gaps up to now included.
        hour: whole, in [0, 24).
        weekday: 0 (Monday) to 6.
        position: cards of the visit already seen.
        tenure_days: whole days since they registered, 0 where unknown.
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
    """Return the columns of `SHARED` that a device says."""
    return {"phone": device == "phone", "desktop": device == "desktop"}


def cohort_columns(cohort: str) -> dict[str, bool]:
    """Return the columns of `SHARED` that a cohort says; `is_fresh` may say `new_cohort` too."""
    return {"active_cohort": cohort in _ACTIVE, "new_cohort": cohort.endswith("new")}


def _shared_columns(user: "UserState", scene: Scene) -> list[float]:
    from env.users.state import come_back

    profile = user.profile
    system = profile.os.strip().lower()
    registered = profile.registered_ms > 0
    facts = user_facts(
        come_back(user, scene.at_ms),
        hour=float(scene.hour),
        weekday=float(scene.weekday),
        position=float(scene.position),
        tenure_days=float(scene.tenure_days),
    )
    columns: dict[str, Reals] = {
        **scale_user(facts),
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
    """Return the columns DYNAMIC, shape (N_DYNAMIC, n), before they are quantised."""
    from env.features.user import user_columns

    items = states.aligned(catalogue)
    scale = items.scale(scene.at_ms)
    hours = np.maximum(scene.at_ms - catalogue.published_ms[index], 0) / _HOUR_MS
    prior = items.popularity.interest(scene, catalogue.vectors)
    columns = {
        **user_columns(user, scene, catalogue, index, vectors, prior),
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
