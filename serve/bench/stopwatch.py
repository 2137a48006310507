"""Seconds of a call, by a clock that comes in as an argument."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

Clock = Callable[[], int]
"""A steady clock, nanoseconds."""

T = TypeVar("T")


def timed(call: Callable[[], T], clock_ns: Clock) -> tuple[T, float]:
    """Return what a call returns, and the seconds that it took."""
    began_ns = clock_ns()
    returned = call()
    return returned, (clock_ns() - began_ns) / 1e9


def median_seconds(call: Callable[[], object], rounds: int, clock_ns: Clock) -> float:
    """Return the median of the seconds that a call takes."""
    return float(np.median([timed(call, clock_ns)[1] for _ in range(rounds)]))
