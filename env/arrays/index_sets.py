"""Sets of a few hundred indices or codes out of millions: sorted, not tabled and not hashed.

Rejected: a table of all numbers (megabytes of fresh memory a page for a large catalogue), and
`np.isin` and `np.unique` (30 times as long for sets of this size).
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from env.vocabulary import Bools, Ints

_Whole = TypeVar("_Whole", bound=np.integer[Any])


def distinct(codes: Ints) -> Ints:
    """Return the distinct ones, ascending.

    >>> distinct(np.array([7, 2, 7])).tolist()
    [2, 7]
    """
    ordered = np.sort(codes)
    stays = np.empty(len(ordered), dtype=np.bool_)
    stays[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=stays[1:])
    return ordered[stays]


def is_among(codes: npt.NDArray[_Whole], some: npt.NDArray[_Whole]) -> Bools:
    """Return, shape of `codes`, which are among some codes.

    >>> is_among(np.array([3, 1, 3, 2]), np.array([3, 9])).tolist()
    [True, False, True, False]
    """
    if not len(some):
        return np.zeros(codes.shape, dtype=np.bool_)
    ordered = np.sort(some)
    found: Bools = ordered.take(ordered.searchsorted(codes), mode="clip") == codes
    return found
