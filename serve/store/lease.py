"""The lease of a store that several machines share: one server at a time holds it, and renews it.

A lock of the operating system does not reach other machines. The lease ends by itself soon after
its holder has died, and a holder that was paused for longer finds another's in its place.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger(__name__)
LEASE_S = 10.0
RENEW_S = 1.0


class LeaseStore(Protocol):
    """The store's side of a lease: one value, which ends by itself."""

    def take(self, value: bytes, mine: bytes, lease_s: float) -> bytes:
        """Write a value if there is none, or `mine`; return the value that stands there then."""
        ...

    def release(self, mine: bytes) -> None:
        """Remove the value if it is `mine`."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class LeaseHeld(RuntimeError):  # noqa: N818 - it tells what happened, not a mistake
    """Another server holds the lease and renews it."""

    def __init__(self, holder: bytes) -> None:
        super().__init__("another server holds the lease")
        self.holder = holder


class Lease:
    """A lease that is held; a thread renews it.

    The value is the holder, and a line with a name of this lease and how often it was renewed.
    """

    def __init__(
        self, store: LeaseStore, holder: bytes, failures: tuple[type[Exception], ...]
    ) -> None:
        self._store, self._holder, self._failures = store, holder, failures
        self._mine, self._n = b"", 0
        self._name = secrets.token_hex(8)
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lease, once its holder has let it end.

        Raises:
            LeaseHeld: its holder has renewed it meanwhile, so it lives.
        """
        seen = self._try()
        while self._mine == b"":
            if self._stop.wait(RENEW_S / 2):
                return
            found = self._try()
            if self._mine == b"" and found != seen:
                raise LeaseHeld(found.rpartition(b"\n")[0])

    def keep(self, lost: Callable[[bytes], None]) -> None:
        """Renew it until it is released; call `lost` with its holder where another has it."""
        while not self._stop.wait(RENEW_S):
            try:
                found = self._try()
            except self._failures as error:
                logger.warning("the lease could not be renewed: %s", error)
                continue
            if found != self._mine:
                lost(found.rpartition(b"\n")[0])
                return

    def release(self) -> None:
        """Stop renewing it, and let it go."""
        self._stop.set()

    def _try(self) -> bytes:
        value = self._holder + f"\n{self._name} {self._n}".encode()
        found = self._store.take(value, self._mine, LEASE_S)
        if found == value:
            self._mine, self._n = value, self._n + 1
        return found

    @property
    def mine(self) -> bytes:
        """The value that was written last; empty: the lease was never taken."""
        return self._mine


@contextmanager
def held(
    store: LeaseStore,
    holder: bytes,
    lost: Callable[[bytes], None],
    failures: tuple[type[Exception], ...],
) -> Iterator[None]:
    """Hold a lease.

    Args:
        store: is closed at the end.
        holder: who holds it.
        lost: called once, on a thread, if another has it: this one was paused for too long.
        failures: errors of a store that cannot be reached.

    Raises:
        LeaseHeld: another server holds it.
    """
    lease = Lease(store, holder, failures)
    try:
        lease.acquire()
        keeping = threading.Thread(target=lease.keep, args=(lost,), name="lease", daemon=True)
        keeping.start()
        try:
            yield
        finally:
            lease.release()
            keeping.join()
            try:
                store.release(lease.mine)
            except failures as error:
                logger.warning("the lease ends by itself: %s", error)
    finally:
        store.close()
