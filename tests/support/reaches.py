"""Where uploads may be shown, made by hand for tests that need some state of the audiences."""

from collections.abc import Mapping

import numpy as np

from env.fair_start.reach import Reach
from env.fair_start.settings import OPEN_LEVEL
from env.items.catalogue import Catalogue
from env.vocabulary import ItemId


def open_reach(catalogue: Catalogue) -> Reach:
    """Return the reach of a catalogue in which nothing is under trial or owed anything."""
    n = len(catalogue)
    return Reach(
        level=np.full(n, OPEN_LEVEL, dtype=np.int64),
        stopped=np.zeros(n, dtype=np.bool_),
        owed=np.zeros(n),
        due_ms=np.zeros(n, dtype=np.int64),
        price=np.zeros(n),
    )


def reach_with(
    catalogue: Catalogue,
    *,
    level: Mapping[str, int] | None = None,
    stopped: tuple[str, ...] = (),
    owed: Mapping[str, float] | None = None,
    price: Mapping[str, float] | None = None,
) -> Reach:
    """Return the same with other values for the items that are named."""
    reach = open_reach(catalogue)
    for name, value in (level or {}).items():
        reach.level[_at(catalogue, name)] = value
    for name in stopped:
        reach.stopped[_at(catalogue, name)] = True
    for name, debt in (owed or {}).items():
        reach.owed[_at(catalogue, name)] = debt
    for name, dual in (price or {}).items():
        reach.price[_at(catalogue, name)] = dual
    return reach


def _at(catalogue: Catalogue, name: str) -> int:
    index = catalogue.index_of(ItemId(name))
    assert index is not None
    return index
