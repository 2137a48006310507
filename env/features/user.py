"""What a page's features say of the user and each candidate: matches, and what they had of it.

A match is an inner product of an interest with the item's vector. What users of the scene play
has a match of its own: it rests on the plays of many and not on answers of this user, so what it
is worth is another weight. What was felt at a creator or a
tag, and how much of a creator, a tag or a sound was lately on screen, comes from the user's
tallies (`env.users.interests`), shrunk where they are short.

Rejected: a column for what was felt at a sound (most of it is what was felt at its card's tags and
creator; that the same music was just on is known from nowhere else).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import is_among
from env.items.catalogue import Catalogue
from env.items.content import fold_tag
from env.users import state as users
from env.users.interests import Tally, tally_columns
from env.users.state import UserState
from env.vocabulary import Float32s, Floats, Ints, Scene

MATCH_SCALE = 4.0
"""Of matches in expected signals, so that the columns are of the order of 1."""

_TALLY_PRIOR = 2.0
"""Exposures that what was had of a creator, a tag or a sound is shrunk by."""


def user_columns(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    index: Ints,
    vectors: Float32s,
    prior: Float32s,
) -> dict[str, npt.NDArray[np.generic] | float]:
    """Return the dynamic columns that depend on the user, by name, shape (n,) each.

    Args:
        user: the user who asks.
        scene: of the request.
        catalogue: that `index` is of.
        index: shape (n,), the candidates.
        vectors: shape (n, VECTOR_DIM), the candidates'.
        prior: shape (VECTOR_DIM,), what users of the scene play.
    """
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
        "long_match": MATCH_SCALE * (vectors @ long),
        "session_match": MATCH_SCALE * (vectors @ session),
        "creator_affinity": affinity,
        "creator_recent": recent,
        "followed": is_among(creators, catalogue.codes.creators(users.followed(user))),
        "tag_affinity": felt,
        "tag_recent": seen,
        "sound_recent": heard,
        "scene_match": vectors @ users.scene_interest(user, prior),
    }


def _looked_up(
    tallies: Sequence[Tally], n_cards: int, codes: Ints, of_items: Ints
) -> tuple[Floats, Floats]:
    """Return signal and exposure of the creator, or the sound, of each item, (n,) each.

    The tables hold the tallies alone: one of all creators of a large catalogue would be a megabyte
    of zeros a page.

    Args:
        tallies: of a user's creators or sounds.
        n_cards: the user's.
        codes: of the tallies' names, 0 where there is no item of that name.
        of_items: shape (n,), the items' codes, 0 where unknown.
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

    Args:
        tallies: of a user's creators, tags or sounds.
        n_cards: the user's.
        codes: rows of the tallies' names; 0, which says nothing, where no item has that name.
        expected: shape (n_codes,), the signal that each is shrunk to; it is written to.
    """
    _, exposure, signal = tally_columns(tallies, n_cards)
    recent = np.zeros(len(expected))
    expected[codes] = shrink_signal(signal, exposure, expected[codes])
    recent[codes] = shrink_exposure(exposure)
    expected[0] = recent[0] = 0.0
    return expected, recent


def shrink_signal(signal: Floats, exposure: Floats, expected: Floats | float = 0.0) -> Floats:
    """Return what was felt an exposure, shrunk to what is expected by `_TALLY_PRIOR` of them."""
    return (signal + _TALLY_PRIOR * expected) / (exposure + _TALLY_PRIOR)


def shrink_exposure(exposure: Floats) -> Floats:
    """Return how much of a creator, tag or sound was lately on screen, in [0, 1)."""
    return exposure / (exposure + _TALLY_PRIOR)


def _tag_columns(user: UserState, catalogue: Catalogue, index: Ints) -> tuple[Floats, Floats]:
    """Return the means over an item's tags of what was felt at each and of its exposure, (n,) each.

    As for creators, but a tag of the registration is shrunk to `env.users.state.DECLARED_SIGNAL`
    and not to 0. Other than a match of vectors it also speaks where items have vectors of their
    own.
    """
    expected = np.zeros(catalogue.codes.n_tags)
    expected[catalogue.codes.tags(map(fold_tag, user.profile.tags))] = users.DECLARED_SIGNAL
    codes = catalogue.codes.tags([tally.name for tally in user.tags])
    tables = _tables(user.tags, user.n_cards, codes, expected)
    tags, n_tags = catalogue.tags.take(index, axis=0), catalogue.n_tags_of[index]
    one = np.ones(tags.shape[1])
    felt, seen = (table.take(tags).dot(one) / n_tags for table in tables)
    return felt, seen
