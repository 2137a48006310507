"""The items that share a code: items of a creator, of a tag, near-duplicates of each other.

Most near-duplicate codes have one item, so the first item of each code is kept in an array (4 bytes
a code) and only further ones in lists. Items are never removed: callers check the catalogue's
column, as an item may have another code by now. Rejected alternatives:
`docs/decisions/item-columns.md`.
"""

from array import array
from collections.abc import Iterable

import numpy as np

from env.vocabulary import Ints

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
