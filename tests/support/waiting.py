"""How a test waits: until something holds, with a deadline that a busy machine keeps too.

A deadline costs nothing where the condition comes, so there is one for all.
"""

import time
from collections.abc import Callable

DEADLINE_S = 600.0
PAUSE_S = 0.01


def wait_until(holds: Callable[[], bool], *, pause_s: float = PAUSE_S) -> None:
    """Return once it holds.

    Raises:
        AssertionError: it did not in time.
    """
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, f"did not happen within {DEADLINE_S:g} s"
        time.sleep(pause_s)
