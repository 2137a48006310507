"""Where the rows of a fold stand in the catalogue.

A fold numbers its rows as it first hears of things, the catalogue as they are uploaded, and either
may hear of an item first. So the map from one to the other is kept, and follows both as they grow.

The catalogue may take uploads on another thread meanwhile. Its names grow before its columns do,
so the map is as long as the column that no other is shorter than.
"""

from collections.abc import Mapping
from itertools import islice

import numpy as np

from env.catalogue import Catalogue
from env.columns import grown
from env.vocabulary import Ints, ItemId


class Places:
    """Which row of a fold belongs to which catalogue index; follows both as they grow."""

    def __init__(self) -> None:
        """Start with neither."""
        self._catalogue: Catalogue | None = None
        self._row_of = np.zeros(0, dtype=np.int64)
        self._n_placed = 0

    def of(self, catalogue: Catalogue, rows: Mapping[ItemId, int]) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none.

        Args:
            catalogue: that the indices are of; n is how many it has by now.
            rows: by item; new ones come last, and of a row that changes `move` was told.
        """
        if catalogue is not self._catalogue:
            self._catalogue, self._n_placed = catalogue, 0
            self._row_of = np.zeros(0, dtype=np.int64)
        n, n_known = len(catalogue.debuts), len(self._row_of)
        if n > n_known:
            new_ids = catalogue.ids[n_known:n]
            self._row_of = grown(self._row_of, n)
            self._row_of[n_known:] = [rows.get(item_id, -1) for item_id in new_ids]
        if n_known == 0:  # every row there is was asked for
            self._n_placed = len(rows)
        if self._n_placed == len(rows):
            return self._row_of
        for item_id, row in islice(rows.items(), self._n_placed, None):
            index = catalogue.index_of(item_id)
            if index is not None and index < n:  # else it is new next time
                self._row_of[index] = row
        self._n_placed = len(rows)
        return self._row_of

    def move(self, item_id: ItemId, row: int) -> None:
        """Learn that an item has another row."""
        index = None if self._catalogue is None else self._catalogue.index_of(item_id)
        if index is not None and index < len(self._row_of):
            self._row_of[index] = row
