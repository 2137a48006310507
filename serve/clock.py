"""The wall clock, for whoever starts something: all else is given it."""

import time


def now_ms() -> int:
    """Return the wall clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000
