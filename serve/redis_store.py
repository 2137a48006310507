"""The store on a Redis server: a shard of items, and shards of people."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from env.records import LogLine
from env.vocabulary import UserKey
from replay.redis_client import RedisError
from replay.redis_database import RedisDatabase
from replay.redis_log import RedisLog
from replay.redis_writer import ITEMS, Contended
from serve.redis_transaction import RedisTransaction
from serve.redis_view import STATES, USERS, RedisView
from serve.store import translated, unavailable
from serve.store_log import StoreLog

T = TypeVar("T")

_FAILURES = (RedisError, Contended)
"""What the database raises while it is away, or too many write to it."""


class RedisStore:
    """The `serve.store.Store` of one installation on a server."""

    def __init__(
        self,
        url: str,
        now_ms: Callable[[], int],
        *,
        name: str,
        n_shards: int,
        durable: bool,
        make: bool = True,
    ) -> None:
        """Connect.

        Args:
            url: of the server, see `replay.redis_database.RedisDatabase`.
            now_ms: the wall clock, for `LogLine.written_ms`.
            name: of the installation; one server may hold several.
            n_shards: of people, fixed when the installation is made.
            durable: refuse a server that answers before a write is on disk.
            make: the installation, if it is missing; otherwise it is refused, and nothing written.

        Raises:
            NotDurable: it does.
            NoLog: it is missing.
            ValueError: another number of shards, or a newer nextswipe wrote it.
            StoreUnavailable: it cannot be reached.
        """
        try:
            self.database = RedisDatabase(
                url, now_ms, name=name, n_shards=n_shards, durable=durable, make=make
            )
        except RedisError as error:
            raise unavailable(error) from error
        self._lines = RedisLog(self.database)
        self.log = StoreLog(self._lines, _FAILURES)

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine: it is a trip."""
        return False

    def shard_of(self, name: str) -> int:
        """Return the shard of a person, by the caller's id or the pseudonym."""
        return self.database.shard_of(name)

    @contextlib.contextmanager
    def view(self, about: str = "") -> Iterator[RedisView]:
        """Lend a view; what it reads is as of each read."""
        if self.database.is_closed:
            raise RuntimeError("the store is closed")
        try:
            yield RedisView(self.database, self._home(about))
        except RedisError as error:
            raise unavailable(error) from error

    def write(
        self,
        work: Callable[[RedisTransaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        """Queue a transaction; see `serve.store.Store.write`. All are durable."""
        home = self._home(about)
        # Whether `about` is an id or a pseudonym is not known: one of the two is asked in vain.
        reads = [(USERS, about), (STATES, about)] if about else []
        reads += [(STATES, user) for user in users if user != about]
        writing = self.database.write(
            lambda shard: work(RedisTransaction(self.database, home, shard)),
            shard=home,
            reads=reads,
        )
        return translated(writing, _FAILURES)

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield the lines about items behind a place in their shard, at most so many."""
        with self.view():
            yield from self._lines.item_lines(after, limit)

    def close(self) -> None:
        """Commit what is queued and disconnect; again does nothing."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _home(self, about: str) -> int:
        return self.database.shard_of(about) if about else ITEMS
