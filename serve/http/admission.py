"""Admission control: bounds the requests in flight and refuses all others at once.

A request is counted when its task first runs, and it starts its work one turn of the event loop
later. An admitted request therefore waits for at most twice `limit` pages, however many clients
ask. Derivation and rejected alternatives: `docs/decisions/serve-admission.md`.
"""

import asyncio


class FullError(Exception):
    """The maximum number of requests is in flight; the client may ask again later."""


class Admission:
    """The request slots of one app; `async with` takes one and gives it back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_in_hand = 0

    def check(self) -> None:
        """Raise `FullError` if no slot is free now."""
        if self._n_in_hand >= self._limit:
            raise FullError

    async def __aenter__(self) -> None:
        """Take a slot, then let every request that has arrived be counted.

        Raises:
            FullError: no slot is free.
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
