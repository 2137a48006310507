"""Slot rules: what each place of a page may take, and whom its exploration floor is spread over.

Every slot is open: it may take any candidate. Its floor goes to the candidates of which little
is known, so that an upload is tried without a page being random; where all are known, to all.

Rejected: a fixed quota of slots for uploads (it costs their whole share in reward, whoever asks).
"""

import numpy as np

from env.catalogue import Catalogue
from env.items import ItemStates
from env.vocabulary import Ints, SlotRule

LITTLE_EVIDENCE = 30
"""Impressions from which on an item is known."""


def slots(
    n_slots: int, catalogue: Catalogue, index: Ints, states: ItemStates
) -> tuple[SlotRule, ...]:
    """Return a page's slot rules, one object for equal ones.

    Args:
        n_slots: of the page, at least 0.
        catalogue: that `index` is of.
        index: shape (n,), the candidates.
        states: what the log says about the items.
    """
    mask = np.ones(len(index), dtype=np.bool_)
    little = states.aligned(catalogue).impressions[index] < LITTLE_EVIDENCE
    return (SlotRule(mask, little if little.any() else mask),) * n_slots
