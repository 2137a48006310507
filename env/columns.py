"""Columns that grow at their end without being copied each time.

What is worked out once a version, as the state of every item, must not be copied on the request
path because one more item came; so such columns are made with room for some more.
"""

from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

_Column = TypeVar("_Column", bound=npt.NDArray[Any])

_LEAST_ROOM = 1024


def grown(column: _Column, n: int) -> _Column:
    """Return a column of n rows that begins with this one's; the further rows hold anything.

    Room grows by an eighth where it runs out, so n rows put one by one are copied a few times each.
    The longer column shares its rows with this one: one column is to grow into one other only.

    >>> short = grown(np.zeros((0, 2)), 3)
    >>> long = grown(short, 5)
    >>> (len(short), len(long), np.shares_memory(short, long))
    (3, 5, True)
    """
    room = column if column.base is None else column.base
    fits = isinstance(room, np.ndarray) and room.dtype == column.dtype and len(room) >= n
    if fits and room.ndim == column.ndim and room.ctypes.data == column.ctypes.data:
        return room[:n]
    longer = with_room(n, column.dtype, column.shape[1:])
    longer[: len(column)] = column
    return cast("_Column", longer)


def with_room(
    n: int, dtype: npt.DTypeLike = np.float64, rest: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    """Return a column of n rows of anything, with room for more, see `grown`."""
    return np.empty((n + max(n // 8, _LEAST_ROOM), *rest), dtype=dtype)[:n]
