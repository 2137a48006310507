"""Columns that grow at their end without being copied each time.

What is worked out once a version, as the state of every item, must not be copied on the request
path because one more item came; so such columns are made with room for some more.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)

_LEAST_ROOM = 1024


def grown(column: npt.NDArray[_Scalar], n: int) -> npt.NDArray[_Scalar]:
    """Return a column of n rows that begins with this one's; the further rows hold anything.

    Room grows by an eighth where it runs out, so n rows put one by one are copied a few times each.
    The longer column shares its rows with this one: one column is to grow into one other only.

    >>> short = grown(np.zeros((0, 2)), 3)
    >>> long = grown(short, 5)
    >>> (len(short), len(long), np.shares_memory(short, long))
    (3, 5, True)
    """
    room: object = column if column.base is None else column.base
    if isinstance(room, np.ndarray) and len(room) >= n and _begins_with(room, column):
        return room[:n]
    longer: npt.NDArray[_Scalar] = with_room(n, column.dtype, column.shape[1:])
    longer[: len(column)] = column
    return longer


def with_room(
    n: int, dtype: npt.DTypeLike = np.float64, rest: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    """Return a column of n rows of anything, with room for more, see `grown`."""
    return np.empty((n + max(n // 8, _LEAST_ROOM), *rest), dtype=dtype)[:n]


def _begins_with(room: npt.NDArray[Any], column: npt.NDArray[Any]) -> bool:
    is_alike = room.dtype == column.dtype and room.shape[1:] == column.shape[1:]
    return is_alike and room.ctypes.data == column.ctypes.data
