"""Timing of a call, with the clock as an argument."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

Clock = Callable[[], int]
"""A monotonic clock, nanoseconds."""

T = TypeVar("T")


def timed(call: Callable[[], T], clock_ns: Clock) -> tuple[T, float]:
    """Return a call's result and its seconds."""
    began_ns = clock_ns()
    returned = call()
    return returned, (clock_ns() - began_ns) / 1e9


def median_seconds(call: Callable[[], object], rounds: int, clock_ns: Clock) -> float:
    """Return the median seconds of a call over rounds."""
    return float(np.median([timed(call, clock_ns)[1] for _ in range(rounds)]))
