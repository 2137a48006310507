"""The store on a Redis server: one shard for items, and several for users."""

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
"""Errors of the database while it is unavailable or under too many concurrent writes."""


class RedisStore:
    """The `serve.store.Store` of one installation on a Redis server."""

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
        """Connect to the server.

        Args:
            url: address of the server, see `replay.redis_database.RedisDatabase`.
            now_ms: the wall clock, for `LogLine.written_ms`.
            name: name of the installation; one server may hold several.
            n_shards: number of shards of users, fixed when the installation is made.
            durable: refuse a server that acknowledges a write before it is on disk.
            make: make a missing installation; otherwise refuse and write nothing.

        Raises:
            NotDurable: the server acknowledges too early.
            NoLog: the installation is missing.
            ValueError: the number of shards differs, or a newer nextswipe wrote it.
            StoreUnavailable: the server cannot be reached.
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
        """Whether a lookup is a read on this machine: no, it is a round trip."""
        return False

    def shard_of(self, name: str) -> int:
        """Return the shard of a user, by the caller's id or the pseudonym."""
        return self.database.shard_of(name)

    @contextlib.contextmanager
    def view(self, about: str = "") -> Iterator[RedisView]:
        """Lend a view; each of its reads is as of its own moment."""
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
        """Queue a transaction, always durable; see `serve.store.Store.write`."""
        home = self._home(about)
        # `about` may be an id or a pseudonym: one of the two reads finds nothing.
        reads = [(USERS, about), (STATES, about)] if about else []
        reads += [(STATES, user) for user in users if user != about]
        writing = self.database.write(
            lambda shard: work(RedisTransaction(self.database, home, shard)),
            shard=home,
            reads=reads,
        )
        return translated(writing, _FAILURES)

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield at most `limit` lines about items after an offset in their shard."""
        with self.view():
            yield from self._lines.item_lines(after, limit)

    def close(self) -> None:
        """Commit the queued writes and disconnect; a second call does nothing."""
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
