"""The feature encoder: turns a user, a scene and candidates into quantised columns.

It is the one encoding for Vowpal Wabbit and reinforcement learning, online and offline;
`env.columns.schema` defines the columns. Values are rounded to half precision before any component
sees one. Rejected encodings: `docs/decisions/feature-encoding.md`.
"""

import numpy as np

from env.arrays.reals import Reals
from env.columns import schema
from env.columns.scales import (
    Counted,
    PersonFacts,
    observed,
    scale_plays,
)
from env.columns.schema import (
    DYNAMIC_COLUMNS,
    N_ACTION,
    N_DYNAMIC,
    N_REFERRERS,
    N_STATIC,
    SHARED_COLUMNS,
    VECTOR_DIM,
    Column,
    bucket_of,
    quantise,
    read_user,
)
from env.features.query import FeatureQuery
from env.features.user import user_columns
from env.items.popularity import Popular
from env.users.state import UserState, come_back
from env.vocabulary import Features, Float32s, Floats, Ints, Scene

_CELLULAR = frozenset({"cellular", "mobile", "2g", "3g", "4g", "5g"})

_ACTIVE = frozenset({"active", "full_active", "high_active"})

_IOS = frozenset({"ios", "ipados"})

NEW_MS = 14 * 24 * 3_600_000

_HOUR_MS = 3_600_000


def encode(query: FeatureQuery, index: Ints) -> Features:
    """Return the features of a page's candidates, quantised.

    Args:
        query: gives the user, the scene and the items.
        index: shape (n,), the candidates.

    Returns:
        `shared` (N_SHARED,), `actions` (n, N_ACTION), `keys` (n,).
    """
    catalogue = query.catalogue
    actions = np.empty((len(index), N_ACTION), dtype=np.float32)
    actions[:, :N_STATIC] = catalogue.blocks.take(index, axis=0)
    vectors = actions[:, :VECTOR_DIM]
    dynamic = _dynamic_columns(query, index, vectors)
    actions[:, N_STATIC:] = quantise(dynamic).T
    return Features(
        shared=quantise(_shared_columns(query.user, query.scene)),
        actions=actions,
        keys=catalogue.keys[index],
    )


def user_facts(
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


def device_columns(device: str) -> dict[Column, bool]:
    """Return the columns of `SHARED` that depend on the device."""
    return {schema.PHONE: device == "phone", schema.DESKTOP: device == "desktop"}


def cohort_columns(cohort: str) -> dict[Column, bool]:
    """Return the shared columns that a cohort says; a fresh registration says the second too."""
    return {schema.ACTIVE_COHORT: cohort in _ACTIVE, schema.NEW_COHORT: cohort.endswith("new")}


def _shared_columns(user: UserState, scene: Scene) -> list[float]:
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
    columns: dict[Column, Reals] = {
        **read_user(facts),
        **device_columns(scene.device),
        **cohort_columns(profile.cohort),
        schema.ANDROID: system == "android",
        schema.IOS: system in _IOS,
        schema.WIFI: scene.network == "wifi",
        schema.CELLULAR: scene.network in _CELLULAR,
        schema.KNOWN_LANGUAGE: bool(scene.language),
    }
    if registered and scene.at_ms - profile.registered_ms < NEW_MS:
        columns[schema.NEW_COHORT] = 1.0
    if user.apps:
        columns |= zip(schema.APPS, np.frombuffer(user.apps, dtype="<f2").tolist(), strict=True)
    if scene.referrer:
        columns[schema.REFERRERS[bucket_of("referrer", scene.referrer, N_REFERRERS)]] = 1.0
    return [float(columns.get(column, 0.0)) for column in SHARED_COLUMNS]


def _dynamic_columns(query: FeatureQuery, index: Ints, vectors: Float32s) -> Floats:
    """Return the columns DYNAMIC, shape (N_DYNAMIC, n), before quantisation."""
    scene, catalogue, items = query.scene, query.catalogue, query.items
    scale = items.scale(scene.at_ms)
    hours = np.maximum(scene.at_ms - catalogue.published_ms[index], 0) / _HOUR_MS
    prior = items.popularity.interest(scene, catalogue.vectors)
    columns = {
        **user_columns(query, index, vectors, prior),
        schema.AGE: schema.AGE.scaled(hours),
        schema.POPULARITY: _level(items.popularity.everywhere, index, scale),
        schema.POPULARITY_HERE: _level(items.popularity.here(scene), index, scale),
        schema.BAIT: schema.BAIT.scaled(catalogue.baits[index]),
        schema.REWARD_MEAN: items.reward_mean[index],
        schema.REWARD_SD: items.reward_sd[index],
        schema.ITEM_EVIDENCE: schema.ITEM_EVIDENCE.scaled(items.rewarded[index]),
        schema.SAME_COUNTRY: catalogue.countries[index] == catalogue.codes.country(scene.country),
        schema.SAME_LANGUAGE: catalogue.languages[index]
        == catalogue.codes.language(scene.language),
    }
    rows = np.empty((N_DYNAMIC, len(index)))
    for row, column in enumerate(DYNAMIC_COLUMNS):
        rows[row] = columns[column]
    return rows


def _level(popular: Popular, index: Ints, scale: float) -> Floats:
    return scale_plays(popular.at(index) * scale, popular.highest * scale)
