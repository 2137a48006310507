"""How long the swarm waits for a server that gives it nothing to show, and that it stops waiting.

Counted are windows in a row in which pages were asked for and not one card came that can be shown,
for whatever reason: no connection, refusals, empty pages, or pages of another catalogue. Rejected:
waiting for ever (a server that is gone never says so), and giving up at the first failure (a server
that is started anew is back within seconds).
"""

import asyncio

MAX_PAUSE_S = 4.0


class NothingToShowError(ConnectionError):
    """The server gave nothing to show for too long."""


class Patience:
    """A number of fruitless windows, with longer and longer pauses between them."""

    def __init__(self, windows: int = 8, *, first_pause_s: float = 0.25) -> None:
        """Be patient.

        Args:
            windows: after so many in a row it is over; with the default pauses, after about 12 s
                and what the client waited by itself.
            first_pause_s: doubled with each, up to `MAX_PAUSE_S`.
        """
        self._windows = windows
        self._first_pause_s = first_pause_s
        self._n_fruitless = 0

    async def wait(self, reason: str) -> None:
        """Pause after a fruitless window.

        Args:
            reason: why there was nothing; empty: there was something, and patience is new.

        Raises:
            NothingToShowError: it was one too many.
        """
        if not reason:
            self._n_fruitless = 0
            return
        self._n_fruitless += 1
        if self._n_fruitless >= self._windows:
            raise NothingToShowError(
                f"gave up after asking {self._n_fruitless} times in a row for something to show: "
                f"{reason}"
            )
        await asyncio.sleep(min(self._first_pause_s * 2 ** (self._n_fruitless - 1), MAX_PAUSE_S))
