"""The items in order of publication, kept sorted as uploads arrive.

New items are nearly always the newest, so the order is ascending in a buffer with room at its end
and is read backwards: an upload moves only items newer than itself. Bulk loads are sorted anew.
Rejected alternatives: `docs/decisions/item-columns.md`.
"""

from bisect import bisect_left

import numpy as np

from env.columns import grown
from env.vocabulary import Ints

_SORT_FROM = 200
"""Sorting n items takes about as long as inserting n / _SORT_FROM one by one."""


class Latest:
    """Catalogue indices by time of publication; ties by index."""

    def __init__(self) -> None:
        self._order: Ints = np.zeros(0, dtype=np.int64)  # ascending in time, descending in index
        self._waiting: dict[int, int | None] = {}

    def put(self, index: int, before_ms: int | None) -> None:
        """Note an item that is new (`before_ms` None) or was filed under another time."""
        self._waiting.setdefault(index, before_ms)

    def order(self, published_ms: Ints) -> Ints:
        """Return all indices, newest first, shape (n,); the next call may overwrite it."""
        if self._waiting:
            if len(self._waiting) * _SORT_FROM > len(published_ms):
                self._sort(published_ms)
            else:
                for index, before_ms in self._waiting.items():
                    self._place(index, before_ms, published_ms)
                    self._waiting[index] = None  # it is filed under its current time now
            self._waiting.clear()
        return self._order[::-1]

    def _sort(self, published_ms: Ints) -> None:
        self._order = np.argsort(-published_ms, kind="stable")[::-1].copy()

    def _place(self, index: int, before_ms: int | None, published_ms: Ints) -> None:
        order = self._order
        if before_ms is not None:
            old = self._find(index, before_ms, published_ms)
            order[old:-1] = order[old + 1 :]
            self._order = order[:-1]
        place = self._find(index, int(published_ms[index]), published_ms)
        order = grown(self._order, len(self._order) + 1)
        order[place + 1 :] = order[place:-1]
        order[place] = index
        self._order = order

    def _find(self, index: int, at_ms: int, published_ms: Ints) -> int:
        """Return the position of an item published then, whether it is filed there yet or not.

        Other waiting items are compared by the time that they are filed under.
        """
        order, waiting = self._order, self._waiting

        def key(place: int) -> tuple[int, int]:
            other = int(order[place])
            if other == index:
                return at_ms, -index
            before_ms = waiting.get(other)
            return int(published_ms[other]) if before_ms is None else before_ms, -other

        return bisect_left(range(len(order)), (at_ms, -index), key=key)
