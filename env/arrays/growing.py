"""Array columns that grow at their end without a copy each time.

Data computed once a version, such as the state of every item, must not be copied on the request
path because one more item arrived, so such columns are allocated with spare room.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)
_LEAST_ROOM = 1024


def grown(column: npt.NDArray[_Scalar], n: int) -> npt.NDArray[_Scalar]:
    """Return a column of n rows that begins with this one's; further rows are uninitialised.

    The longer column shares memory with this one, so grow a column into one other column only. Room
    grows by an eighth, so n rows added one by one are copied a few times each.

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
    """Return an uninitialised column of n rows, with spare room for `grown`."""
    return np.empty((n + max(n // 8, _LEAST_ROOM), *rest), dtype=dtype)[:n]


def _begins_with(room: npt.NDArray[Any], column: npt.NDArray[Any]) -> bool:
    is_alike = room.dtype == column.dtype and room.shape[1:] == column.shape[1:]
    return is_alike and room.ctypes.data == column.ctypes.data
