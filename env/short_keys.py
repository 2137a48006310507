"""The items by the low half of their keys, which is how a person's state names what they saw."""

import numpy as np

from env.vocabulary import Ints, Keys, ShortKeys


class ShortKeyIndex:
    """Finds items of one state of the catalogue by the low 32 bits of their keys."""

    def __init__(self, keys: Keys) -> None:
        """Sort the keys, shape (n,)."""
        short = keys.astype(np.uint32)
        self._order = np.argsort(short, kind="stable")
        self._short = short[self._order]
        self._further = np.flatnonzero(self._short[1:] == self._short[:-1]) + 1

    def find(self, short_keys: ShortKeys) -> Ints:
        """Return the indices of items that have these keys; unknown ones are left out.

        Where several items share one all are found, the further ones at the end.

        >>> index = ShortKeyIndex(np.array([7, 3, 2**32 + 7], dtype=np.uint64))
        >>> index.find(np.array([3, 5, 7], dtype=np.uint32)).tolist()
        [1, 0, 2]
        """
        short, order, further = self._short, self._order, self._further
        if not len(short) or not len(short_keys):
            return np.zeros(0, dtype=np.int64)
        place = short.searchsorted(short_keys)
        found: Ints = order[place[short.take(place, mode="clip") == short_keys]]
        if not len(further):
            return found
        return np.concatenate([found, order[further[np.isin(short[further], short_keys)]]])
