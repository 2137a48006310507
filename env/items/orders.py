"""Orders and lookups of items: by publication time, by shared code, and by short key.

Each structure is updated with the changed items only, so an upload costs the next page
microseconds, however many items there are. Layouts and rejected alternatives:
`docs/decisions/item-columns.md`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from env.arrays.growing import grown
from env.arrays.index_sets import is_among
from env.vocabulary import Ints, Keys, ShortKeys

_NONE = np.zeros(0, dtype=np.int64)


class Groups:
    """Catalogue indices by code."""

    def __init__(self) -> None:
        self._first = array("i")  # by code, -1 where there is none
        self._further: dict[int, array[int]] = {}

    def put(self, code: int, index: int) -> None:
        """Note that an item now has a code, at least 0."""
        missing = code + 1 - len(self._first)
        if missing > 0:
            self._first.extend([-1] * missing)
        if self._first[code] < 0:
            self._first[code] = index
        elif code in self._further:
            self._further[code].append(index)
        else:
            self._further[code] = array("i", [index])

    def first_of(self, code: int) -> int:
        """Return the first item that had a code, -1 where there is none."""
        return self._first[code] if code < len(self._first) else -1

    def had(self, codes: Iterable[int]) -> Ints:
        """Return all items that ever had one of these codes, unordered, possibly repeated."""
        found = [index for code in codes for index in self._of(code)]
        return np.concatenate(found).astype(np.int64) if found else _NONE

    def _of(self, code: int) -> "list[array[int]]":
        first = self._first[code] if 0 <= code < len(self._first) else -1
        if first < 0:
            return []
        further = self._further.get(code)
        return [array("i", [first])] if further is None else [array("i", [first]), further]


_MERGE_AT = 1024


class _Sorted:
    """Some of the keys, sorted; `begin` is the index of the first of them."""

    def __init__(self, keys: Keys, begin: int = 0) -> None:
        short = keys.astype(np.uint32)
        order = np.argsort(short, kind="stable")
        self._set(short[order], order + begin)

    def _set(self, short: ShortKeys, order: Ints) -> None:
        self.short, self.order = short, order
        self._further = np.flatnonzero(short[1:] == short[:-1]) + 1

    def merge(self, other: "_Sorted") -> None:
        places = self.short.searchsorted(other.short, side="right")
        self._set(
            np.insert(self.short, places, other.short), np.insert(self.order, places, other.order)
        )

    def find(self, short_keys: ShortKeys) -> list[Ints]:
        short, order, further = self.short, self.order, self._further
        if not len(short) or not len(short_keys):
            return []
        place = short.searchsorted(short_keys)
        found = [order[place[short.take(place, mode="clip") == short_keys]]]
        if len(further):
            found.append(order[further[is_among(short[further], short_keys)]])
        return found


class ShortKeyIndex:
    """Finds items by the low 32 bits of their keys; follows a growing catalogue."""

    def __init__(self) -> None:
        self._base = _Sorted(np.zeros(0, dtype=np.uint64))
        self._new = _Sorted(np.zeros(0, dtype=np.uint64))

    def find(self, keys: Keys, short_keys: ShortKeys) -> Ints:
        """Return the indices of items that have these short keys; unknown ones are left out.

        Where several items share a short key all are found. Indices are in the order of the keys
        asked for, except recent items and further items of a shared key, which come last.

        Args:
            keys: shape (n,), of all items.
            short_keys: shape (m,), asked for.

        >>> index, keys = ShortKeyIndex(), np.array([7, 3, 2**32 + 7], dtype=np.uint64)
        >>> index.find(keys, np.array([3, 5, 7], dtype=np.uint32)).tolist()
        [1, 0, 2]
        """
        self._follow(keys)
        found = self._base.find(short_keys) + self._new.find(short_keys)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _follow(self, keys: Keys) -> None:
        n_base = len(self._base.short)
        if len(keys) == n_base + len(self._new.short):
            return
        if len(keys) - n_base > max(_MERGE_AT, n_base):
            self._base, n_base = _Sorted(keys), len(keys)
        self._new = _Sorted(keys[n_base:], n_base)
        if len(self._new.short) > _MERGE_AT:
            self._base.merge(self._new)
            self._new = _Sorted(keys[:0])


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
