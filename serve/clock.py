"""The wall clock, read only by programs that start something; all other code gets it passed in."""

import time


def now_ms() -> int:
    """Return the wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000
