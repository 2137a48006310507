"""The items in the order in which they were published, kept in order while they come.

What comes is nearly always the newest, so the order is kept ascending, in a buffer with room at its
end, and read backwards: an upload moves only what is newer than itself. Where many come at once,
as when a catalogue is loaded, everything is sorted anew.

Rejected: sorting after each upload (100 ms for a million items, and the next page waits for it).
"""

from bisect import bisect_left

import numpy as np

from env.columns import grown
from env.vocabulary import Ints

_SORT_FROM = 200
"""Sorting n items takes about as long as placing n / _SORT_FROM one by one."""


class Latest:
    """Catalogue indices by time of publication; equal ones by index."""

    def __init__(self) -> None:
        """Start without items."""
        self._order: Ints = np.zeros(0, dtype=np.int64)  # ascending in time, descending in index
        self._waiting: dict[int, int | None] = {}

    def put(self, index: int, before_ms: int | None) -> None:
        """Note an item that is new or was published at another time.

        Args:
            index: of the item.
            before_ms: the time under which it stands here; None: it is new.
        """
        self._waiting.setdefault(index, before_ms)

    def order(self, published_ms: Ints) -> Ints:
        """Return all indices, the latest first, shape (n,); the next call may write to it.

        Args:
            published_ms: shape (n,), of all items.
        """
        if self._waiting:
            if len(self._waiting) * _SORT_FROM > len(published_ms):
                self._sort(published_ms)
            else:
                for index, before_ms in self._waiting.items():
                    self._place(index, before_ms, published_ms)
                    self._waiting[index] = None  # from here on it stands under its time of now
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
        """Return the place of an item published then, whether it stands there yet or not.

        Of others that still wait, the time under which they stand here counts.
        """
        order, waiting = self._order, self._waiting

        def key(place: int) -> tuple[int, int]:
            other = int(order[place])
            if other == index:
                return at_ms, -index
            before_ms = waiting.get(other)
            return int(published_ms[other]) if before_ms is None else before_ms, -other

        return bisect_left(range(len(order)), (at_ms, -index), key=key)
