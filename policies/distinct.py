"""This module finds the first occurrence of each distinct number in a short list."""

import numpy as np

from env.vocabulary import Ints

_TABLE = 1 << 14
"""Up to this highest code, a table is faster than sorting a few hundred codes."""


def first_places(codes: Ints) -> Ints:
    """Return the position of each distinct code's first occurrence, in order.

    Small codes are written to a table backwards, so that the first occurrence is written last and
    stays; this takes a fifth of the time of sorting. Large codes are sorted, since their table
    would take megabytes.

    >>> first_places(np.array([7, 2, 7, 0, 2])).tolist()
    [0, 1, 3]
    >>> first_places(np.array([7, 2_000_000, 7, 0, 2_000_000])).tolist()
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
