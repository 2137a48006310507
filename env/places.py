"""Map from catalogue indices to the rows of a fold, kept up to date as both grow.

A fold and the catalogue number items independently, and either may see an item first. The catalogue
may take uploads on another thread meanwhile; its ids grow before its columns, so the map is as long
as the column that grows last.
"""

from collections.abc import Mapping
from itertools import islice

import numpy as np

from env.catalogue import Catalogue
from env.columns import grown
from env.vocabulary import Ints, ItemId


class Places:
    """Row of a fold by catalogue index."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._row_of = np.zeros(0, dtype=np.int64)
        self._n_placed = 0

    def of(self, catalogue: Catalogue, rows: Mapping[ItemId, int]) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none.

        In `rows` new items come last, and `move` was called for rows that changed.
        """
        if catalogue is not self._catalogue:
            self._catalogue, self._n_placed = catalogue, 0
            self._row_of = np.zeros(0, dtype=np.int64)
        n, n_known = len(catalogue.debuts), len(self._row_of)
        if n > n_known:
            new_ids = catalogue.ids[n_known:n]
            self._row_of = grown(self._row_of, n)
            self._row_of[n_known:] = [rows.get(item_id, -1) for item_id in new_ids]
        if n_known == 0:  # the lookup above covered every row
            self._n_placed = len(rows)
        if self._n_placed == len(rows):
            return self._row_of
        for item_id, row in islice(rows.items(), self._n_placed, None):
            index = catalogue.index_of(item_id)
            if index is not None and index < n:  # else the next call finds it as new
                self._row_of[index] = row
        self._n_placed = len(rows)
        return self._row_of

    def move(self, item_id: ItemId, row: int) -> None:
        """Note that an item has another row."""
        index = None if self._catalogue is None else self._catalogue.index_of(item_id)
        if index is not None and index < len(self._row_of):
            self._row_of[index] = row
