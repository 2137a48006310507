"""Who is let in: a bounded number of requests in hand, and an answer at once for all others.

A page is drawn on the event loop, one at a time. Whatever arrives meanwhile waits in a line that
nobody sees: the tasks that are ready to run. A request is therefore counted when its task first
runs, and does its work one turn of the loop later: by then all others that had arrived are counted
too, and those beyond the limit have been told to come again. So the wait of who is let in is at
most twice `limit` pages, however many ask.

Rejected: Serve's own queue alone (it counts what waits for a free slot, and with one event loop
there always is one: nothing but the loop is busy), a lock around the drawing (it would hold all
that needs no page), and counting before the body is there (who sends slowly would take a place).
"""

import asyncio


class FullError(Exception):
    """As many requests as may be are in hand; ask again later."""


class Admission:
    """The places of one app; `async with` takes one and gives it back."""

    def __init__(self, limit: int) -> None:
        """Have so many places, at least 1."""
        self._limit = limit
        self._n_in_hand = 0

    def check(self) -> None:
        """Raise where there is no place now.

        Raises:
            FullError: there is none.
        """
        if self._n_in_hand >= self._limit:
            raise FullError

    async def __aenter__(self) -> None:
        """Take a place, and let everybody be counted who has arrived.

        Raises:
            FullError: there is none.
        """
        self.check()
        self._n_in_hand += 1
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._n_in_hand -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._n_in_hand -= 1
