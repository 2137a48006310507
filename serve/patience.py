"""Retry limit of the swarm: waits for a server without pages to show, and finally gives up.

It counts consecutive windows in which pages were requested and no card could be shown, for any
reason: no connection, refusals, empty pages, or another catalogue. Rejected: waiting for ever (a
dead server never reports it), and giving up at the first failure (a restarted server is back within
seconds).
"""

import asyncio

MAX_PAUSE_S = 4.0


class NothingToShowError(ConnectionError):
    """The server returned nothing to show for too long."""


class Patience:
    """Counts consecutive windows without a card, with exponential pauses between them."""

    def __init__(self, windows: int = 8, *, first_pause_s: float = 0.25) -> None:
        """Set the limit.

        Args:
            windows: limit of consecutive windows; by default after about 12 s plus the client's own
                waits.
            first_pause_s: first pause, doubled each time up to `MAX_PAUSE_S`.
        """
        self._windows = windows
        self._first_pause_s = first_pause_s
        self._n_fruitless = 0

    async def wait(self, reason: str) -> None:
        """Pause after a window without a card.

        Args:
            reason: reason for it; empty: there was a card, and the count restarts.

        Raises:
            NothingToShowError: the limit is reached.
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
