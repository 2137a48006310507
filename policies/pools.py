"""Slot rules: what each place of a page may take, and whom its exploration floor is spread over.

Reserved slots take uploads that are owed an audience and nothing else. As many of a page's slots
are reserved as the market's share asks for on average, in places that are drawn: the first card is
seen by everybody, the last by few. All other slots are open to any candidate; on a page with
reserved slots they leave the owed uploads alone, so that a reserved slot always finds one. The
floor of an open slot goes to the candidates of which little is known, so that an upload is tried
without a page being random; where all are known, to all.

Rejected: a fixed quota (it costs its whole share in reward, whoever asks; ours is what the debts
need), and reserved slots at the end of a page (that pays a debt with cards nobody reaches).
"""

import numpy as np

from env.catalogue import Catalogue
from env.items import ItemStates
from env.vocabulary import Bools, Ints, SlotRule

LITTLE_EVIDENCE = 30
"""Impressions from which on an item is known."""

FAIR_START = "fair_start"
"""Name of a reserved slot's rule."""

_PLACES = 0x706C61636573
"""Keeps these draws apart from all others that a page's seed is used for."""


def reserve(share: float, n_slots: int, seed: int) -> Ints:
    """Return the places of a page to reserve: floor(share * n_slots + u) of them, u uniform.

    So their expected number is share * n_slots exactly, and each place is as likely as any other.

    Args:
        share: part of the cards to reserve, in [0, 1].
        n_slots: of the page.
        seed: of the page.

    Returns:
        Slot numbers in random order, so that any first of them are as good as drawn by themselves.
    """
    if share <= 0.0:
        return np.zeros(0, dtype=np.int64)
    rng = np.random.default_rng(seed ^ _PLACES)
    n_reserved = min(int(share * n_slots + rng.random()), n_slots)
    return rng.permutation(n_slots)[:n_reserved]


def slots(
    n_slots: int,
    catalogue: Catalogue,
    index: Ints,
    states: ItemStates,
    owed: Bools,
    places: Ints,
) -> tuple[SlotRule, ...]:
    """Return a page's slot rules, one object for equal ones.

    Args:
        n_slots: of the page, at least 0.
        catalogue: that `index` is of.
        index: shape (n,), the candidates.
        states: what the log says about the items.
        owed: shape (n,), which candidates are owed an audience; the first ones are wanted most.
        places: of `reserve`; as many as there are owed candidates for.
    """
    little = states.aligned(catalogue).impressions[index] < LITTLE_EVIDENCE
    debut = owed.nonzero()[0]
    places = places[: len(debut)]
    if not len(places):
        return (_open(np.ones(len(index), dtype=np.bool_), little),) * n_slots
    # Where candidates are few, open slots need some of the owed ones to be filled at all.
    n_left_alone = max(len(index) - n_slots + len(places), len(places))
    fair = np.zeros(len(index), dtype=np.bool_)
    fair[debut[:n_left_alone]] = True
    reserved, other = SlotRule(fair, fair, FAIR_START), _open(~fair, little)
    taken = set(places.tolist())
    return tuple(reserved if slot in taken else other for slot in range(n_slots))


def _open(mask: Bools, little: Bools) -> SlotRule:
    eligible = mask & little
    return SlotRule(mask, eligible if eligible.any() else mask)
