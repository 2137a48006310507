"""Set operations on a few hundred indices or codes out of millions, by sorting.

Tables and numpy's own set functions were rejected as slower, see `docs/decisions/item-columns.md`.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from env.vocabulary import Bools, Ints

_Whole = TypeVar("_Whole", bound=np.integer[Any])

_TABLE = 1 << 14
"""Up to this highest code, a table is faster than sorting a few hundred codes."""


def distinct(codes: Ints) -> Ints:
    """Return the distinct codes, ascending.

    >>> distinct(np.array([7, 2, 7])).tolist()
    [2, 7]
    """
    ordered = np.sort(codes)
    stays = np.empty(len(ordered), dtype=np.bool_)
    stays[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=stays[1:])
    return ordered[stays]


def is_among(codes: npt.NDArray[_Whole], some: npt.NDArray[_Whole]) -> Bools:
    """Return a mask, shape of `codes`, of the codes that are in `some`.

    >>> is_among(np.array([3, 1, 3, 2]), np.array([3, 9])).tolist()
    [True, False, True, False]
    """
    if not len(some):
        return np.zeros(codes.shape, dtype=np.bool_)
    ordered = np.sort(some)
    found: Bools = ordered.take(ordered.searchsorted(codes), mode="clip") == codes
    return found


def first_indices(codes: Ints) -> Ints:
    """Return the position of each distinct code's first occurrence, in order.

    Small codes are written to a table backwards, so that the first occurrence is written last and
    stays; this takes a fifth of the time of sorting. Large codes are sorted, since their table
    would take megabytes.

    >>> first_indices(np.array([7, 2, 7, 0, 2])).tolist()
    [0, 1, 3]
    >>> first_indices(np.array([7, 2_000_000, 7, 0, 2_000_000])).tolist()
    [0, 1, 3]
    """
    highest = codes.max(initial=-1)
    if highest >= _TABLE:
        order = codes.argsort(kind="stable")
        ordered = codes[order]
        is_first = np.ones(len(order), dtype=np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
        return np.sort(order[is_first])
    places = np.arange(len(codes))
    first = np.empty(highest + 1, dtype=np.int64)
    first[codes[::-1]] = places[::-1]
    stays: Ints = places[first[codes] == places]
    return stays
