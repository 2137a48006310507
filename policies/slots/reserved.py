"""Slot rules: the candidates that each slot may take and those that share its exploration floor.

Reserved slots take only uploads with a delivery guarantee, at positions drawn at random. An open
slot spreads its floor over candidates with little evidence. Rejected alternatives:
`docs/decisions/reserved-slots.md`.
"""

import numpy as np

from env.arrays.index_sets import is_among
from env.vocabulary import Bools, Ints, SlotRule
from policies.candidates.query import Query

LITTLE_EVIDENCE = 30
"""Items with fewer impressions have little evidence."""

FAIR_START = "fair_start"
"""Name of a reserved slot's rule."""

_PLACES = 0x706C61636573
"""Keeps these draws apart from all others of the page's seed."""


def reserve(share: float, n_slots: int, seed: int) -> Ints:
    """Return the slots to reserve: floor(share * n_slots + u) of them, u uniform.

    Their expected number is share * n_slots exactly, and every slot is equally likely.

    Args:
        share: part of the cards to reserve, in [0, 1].

    Returns:
        Slot numbers in random order, so that any first few are a fair draw as well.
    """
    if share <= 0.0:
        return np.zeros(0, dtype=np.int64)
    rng = np.random.default_rng(seed ^ _PLACES)
    n_reserved = min(int(share * n_slots + rng.random()), n_slots)
    return rng.permutation(n_slots)[:n_reserved]


def slots(query: Query, index: Ints) -> tuple[SlotRule, ...]:
    """Return a page's slot rules, one object for equal ones.

    As many of the reserved slots are used as there are candidates with a shortfall.

    Args:
        query: gives the reserved slots and the uploads for them.
        index: shape (n,), the candidates; among those with a shortfall the most urgent come first.
    """
    n_slots, places = query.size, query.reserved.places
    little = query.items.impressions[index] < LITTLE_EVIDENCE
    debut = is_among(index, query.reserved.debut).nonzero()[0]
    places = places[: len(debut)]
    if not len(places):
        return (_open(np.ones(len(index), dtype=np.bool_), little),) * n_slots
    # Where candidates are few, open slots need some uploads with a shortfall to be filled at all.
    n_left_alone = max(len(index) - n_slots + len(places), len(places))
    fair = np.zeros(len(index), dtype=np.bool_)
    fair[debut[:n_left_alone]] = True
    reserved, other = SlotRule(fair, fair, FAIR_START), _open(~fair, little)
    taken = set(places.tolist())
    return tuple(reserved if slot in taken else other for slot in range(n_slots))


def _open(mask: Bools, little: Bools) -> SlotRule:
    eligible = mask & little
    return SlotRule(mask, eligible if eligible.any() else mask)
