"""The feature encoder: turns a user, a scene and candidates into quantised columns.

It is the one encoding for Vowpal Wabbit and reinforcement learning, online and offline;
`env.columns.schema` defines the columns. Values are rounded to half precision before any component
sees one. Rejected encodings: `docs/decisions/feature-encoding.md`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import is_among
from env.arrays.reals import Reals
from env.arrays.vectors import products
from env.columns import schema
from env.columns.scales import (
    MATCH_SCALE,
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
    Column,
    bucket_of,
    quantise,
    read_user,
)
from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.items.content import fold_tag
from env.items.popularity import Popular
from env.items.topics import topics
from env.users import state as users
from env.users.devices import parse_os
from env.users.interests import LanguageRates, Tally, language_share, tally_columns
from env.users.state import UserState, come_back
from env.vocabulary import Features, Float32s, Floats, Ints, spoken_by

_TALLY_PRIOR = 2.0
"""Exposures by which tallies of creators, tags and sounds are shrunk."""


def user_columns(
    query: FeatureQuery, index: Ints, vectors: Float32s, prior: Float32s
) -> dict[Column, npt.NDArray[np.generic] | float]:
    """Return the dynamic columns that depend on the user, by name, shape (n,) each.

    Args:
        query: gives the user, the scene and the catalogue.
        index: shape (n,), the candidates.
        vectors: shape (n, d), the candidates'; see `env.arrays.vectors`.
        prior: shape (d,), interest of the scene's users, `Popularity.interest`.
    """
    user, scene, catalogue = query.user, query.scene, query.catalogue
    creators = catalogue.creators[index]
    codes = np.array(
        [catalogue.codes.creator(tally.name) for tally in user.creators], dtype=np.int64
    )
    affinity, recent = _looked_up(user.creators, user.n_cards, codes, creators)
    sounds = catalogue.codes.sounds([tally.name for tally in user.sounds])
    _, heard = _looked_up(user.sounds, user.n_cards, sounds, catalogue.sounds[index])
    felt, seen = _tag_columns(user, catalogue, index)
    long = users.long_interest(user, with_declared=catalogue.is_of_tags)
    session = users.session_interest(user) if scene.position > 0 else np.zeros_like(long)
    return {
        schema.LONG_MATCH: MATCH_SCALE.factor * products(vectors, long),
        schema.SESSION_MATCH: MATCH_SCALE.factor * products(vectors, session),
        schema.CREATOR_AFFINITY: affinity,
        schema.CREATOR_RECENT: recent,
        schema.FOLLOWED: is_among(creators, catalogue.codes.creators(users.followed(user))),
        schema.TAG_AFFINITY: felt,
        schema.TAG_RECENT: seen,
        schema.SOUND_RECENT: heard,
        schema.SCENE_MATCH: products(vectors, users.scene_interest(user, prior)),
    }


def _looked_up(
    tallies: Sequence[Tally], n_cards: int, codes: Ints, of_items: Ints
) -> tuple[Floats, Floats]:
    """Return signal and exposure of each item's creator or sound, (n,) each, by code.

    The tables hold the tallies alone: one over all creators would be a megabyte of zeros a page.
    `codes` are of the tallies' names, `of_items` of the items (n,); 0 where unknown.
    """
    order = codes.argsort()
    ordered = codes[order]
    place = ordered.searchsorted(of_items)
    is_known = np.zeros(len(of_items), dtype=np.bool_)
    if len(codes):
        is_known = (ordered.take(place, mode="clip") == of_items) & (of_items > 0)
    row = np.zeros(len(of_items), dtype=np.int64)
    row[is_known] = order[place[is_known]] + 1
    rows = np.where(codes > 0, np.arange(1, len(codes) + 1), 0)
    signal, exposure = _tables(tallies, n_cards, rows, np.zeros(len(codes) + 1))
    return signal[row], exposure[row]


def _tables(
    tallies: Sequence[Tally], n_cards: int, codes: Ints, expected: Floats
) -> tuple[Floats, Floats]:
    """Return signal and exposure by code, both shrunk by `_TALLY_PRIOR` exposures.

    Row 0 is ignored: tallies of names that no item has get it. `expected` (n_codes,), the signal to
    shrink to, is overwritten.
    """
    _, exposure, signal = tally_columns(tallies, n_cards)
    recent = np.zeros(len(expected))
    expected[codes] = shrink_signal(signal, exposure, expected[codes])
    recent[codes] = shrink_exposure(exposure)
    expected[0] = recent[0] = 0.0
    return expected, recent


def shrink_signal(signal: Floats, exposure: Floats, expected: Floats | float = 0.0) -> Floats:
    """Return the signal an exposure, shrunk to `expected` by `_TALLY_PRIOR` exposures."""
    return (signal + _TALLY_PRIOR * expected) / (exposure + _TALLY_PRIOR)


def shrink_exposure(exposure: Floats) -> Floats:
    """Return the recent exposure to a creator, tag or sound, in [0, 1)."""
    return exposure / (exposure + _TALLY_PRIOR)


def _language_shares(query: FeatureQuery, index: Ints) -> Floats:
    """Return the share of each item's language beside the user's own, (n,); half without words."""
    user, codes = query.user, query.catalogue.codes
    own = spoken_by(query.scene.language)
    rates = LanguageRates.of(user.languages, user.n_cards, own)
    by_code = {codes.language(name): rate for name, rate in rates.met.items()}
    by_code |= {0: rates.own, **dict.fromkeys(map(codes.language, own), rates.own)}
    languages = query.catalogue.languages[index].tolist()
    rate = np.array([by_code.get(language, rates.other) for language in languages])
    return np.asarray(language_share(rate, rates.own))


def _tag_columns(user: UserState, catalogue: Catalogue, index: Ints) -> tuple[Floats, Floats]:
    """Return each item's mean signal and exposure over its tags, (n,) each.

    A tag of the registration is shrunk to `env.users.state.DECLARED_SIGNAL` and not to 0. Unlike a
    match of vectors, this also works where items have vectors of their own.
    """
    expected = np.zeros(catalogue.codes.n_tags)
    expected[catalogue.codes.tags(map(fold_tag, user.profile.tags))] = users.DECLARED_SIGNAL
    codes = catalogue.codes.tags([tally.name for tally in user.tags])
    tables = _tables(user.tags, user.n_cards, codes, expected)
    tags, n_tags = catalogue.tags.take(index, axis=0), catalogue.n_tags_of[index]
    one = np.ones(tags.shape[1])
    felt, seen = (table.take(tags).dot(one) / n_tags for table in tables)
    return felt, seen


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
    vectors = catalogue.vectors.take(index, axis=0)
    dynamic = _dynamic_columns(query, index, vectors)
    actions[:, N_STATIC:] = quantise(dynamic).T
    return Features(
        shared=quantise(_shared_columns(query)),
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


def _shared_columns(query: FeatureQuery) -> list[float]:
    user, scene, profile = query.user, query.scene, query.user.profile
    system = parse_os(profile.os)[0].partition(" ")[0]
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
    columns |= zip(schema.APPS, query.apps.read(profile), strict=True)
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
        schema.TOPIC_SIGNAL: _topic_signal(query, index),
        **_collaborative_columns(query, index),
        schema.LANGUAGE_SHARE: _language_shares(query, index),
    }
    rows = np.empty((N_DYNAMIC, len(index)))
    for row, column in enumerate(DYNAMIC_COLUMNS):
        rows[row] = columns[column]
    return rows


def _topic_signal(query: FeatureQuery, index: Ints) -> Floats:
    """Return the effect that the user's answers expect of each item's topic, shape (n,)."""
    codes, effects = query.answered_topics, query.by_topic.mean
    if not len(codes):
        return np.zeros(len(index))
    same = topics(query.catalogue, index)[:, None] == codes
    return np.asarray(np.einsum("nk,k->n", same, effects))


def _collaborative_columns(query: FeatureQuery, index: Ints) -> dict[Column, Reals]:
    """Return the columns of the user's taste among others' answers, 0 where none is known."""
    taste = query.taste
    if taste is None:
        return {schema.CO_MATCH: 0.0, schema.CO_KNOWN: 0.0}
    match, known = taste.columns(query.catalogue.keys[index])
    return {
        schema.CO_MATCH: match.astype(np.float64),
        schema.CO_KNOWN: known.astype(np.float64),
    }


def _level(popular: Popular, index: Ints, scale: float) -> Floats:
    return scale_plays(popular.at(index) * scale, popular.highest * scale)
