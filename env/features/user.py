"""Feature columns that relate a user to each candidate: interest matches and past exposure.

A match is the inner product of an interest and the item's vector. The interest of the scene's users
has a column of its own, as it rests on the plays of many. Creator, tag and sound columns come from
the user's tallies, shrunk where these are small. Rejected alternatives:
`docs/decisions/feature-encoding.md`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import is_among
from env.columns import schema
from env.columns.scales import MATCH_SCALE
from env.columns.schema import Column
from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.items.content import fold_tag
from env.users import state as users
from env.users.interests import Tally, tally_columns
from env.users.state import UserState
from env.vocabulary import Float32s, Floats, Ints

_TALLY_PRIOR = 2.0
"""Exposures by which tallies of creators, tags and sounds are shrunk."""


def user_columns(
    query: FeatureQuery, index: Ints, vectors: Float32s, prior: Float32s
) -> dict[Column, npt.NDArray[np.generic] | float]:
    """Return the dynamic columns that depend on the user, by name, shape (n,) each.

    Args:
        query: gives the user, the scene and the catalogue.
        index: shape (n,), the candidates.
        vectors: shape (n, VECTOR_DIM), the candidates'.
        prior: shape (VECTOR_DIM,), interest of the scene's users, `Popularity.interest`.
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
        schema.LONG_MATCH: MATCH_SCALE.factor * (vectors @ long),
        schema.SESSION_MATCH: MATCH_SCALE.factor * (vectors @ session),
        schema.CREATOR_AFFINITY: affinity,
        schema.CREATOR_RECENT: recent,
        schema.FOLLOWED: is_among(creators, catalogue.codes.creators(users.followed(user))),
        schema.TAG_AFFINITY: felt,
        schema.TAG_RECENT: seen,
        schema.SOUND_RECENT: heard,
        schema.SCENE_MATCH: vectors @ users.scene_interest(user, prior),
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
