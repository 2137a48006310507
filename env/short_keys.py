"""Lookup of items by the low 32 bits of their keys, which user states store for seen items.

New items are sorted separately and merged once they are many, as sorting a million keys takes
longer than ten pages.
"""

import numpy as np

from env.index_sets import is_among
from env.vocabulary import Ints, Keys, ShortKeys

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
