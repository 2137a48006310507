"""The store in one SQLite file: all tables in the log's own database, and one shard."""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from env.records import Kind, LogLine
from env.vocabulary import UserKey
from replay.database import WAL_BYTES, Database
from replay.log import SqliteLog
from serve.sqlite_schema import SCHEMA
from serve.sqlite_transaction import SqliteTransaction
from serve.sqlite_view import SqliteView
from serve.store import translated, unavailable
from serve.store_log import StoreLog

T = TypeVar("T")

_ITEM: tuple[Kind, ...] = ("item",)


class SqliteStore:
    """The `serve.store.Store` of one database file."""

    def __init__(
        self, path: Path, now_ms: Callable[[], int], *, wal_bytes: int = WAL_BYTES
    ) -> None:
        """Open the file; make missing tables and a missing file.

        Args:
            path: path of the file, see `replay.database.Database`.
            now_ms: the wall clock, for `LogLine.written_ms`.
            wal_bytes: length above which the write-ahead log is copied back into the file.

        Raises:
            ValueError: a newer nextswipe wrote the file.
            sqlite3.DatabaseError: the file is no database or cannot be opened.
        """
        self.database = Database(path, schema=SCHEMA, wal_bytes=wal_bytes)
        self.log = StoreLog(SqliteLog(self.database, now_ms), (sqlite3.OperationalError,))
        self._now_ms = now_ms

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine: yes."""
        return True

    def shard_of(self, name: str) -> int:  # part of the Store protocol
        """Return the only shard, 0."""
        return 0

    @contextlib.contextmanager
    def view(self, about: str = "") -> Iterator[SqliteView]:
        """Lend a view; release it soon, because an open view keeps the write-ahead log growing."""
        try:
            with self.database.reader() as connection:
                yield SqliteView(connection)
        except sqlite3.OperationalError as error:
            raise unavailable(error) from error

    def write(
        self,
        work: Callable[[SqliteTransaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        """Queue a transaction; see `serve.store.Store.write`."""
        writing = self.database.write(
            lambda connection: work(SqliteTransaction(connection, self._now_ms())), durable=durable
        )
        return translated(writing, sqlite3.OperationalError)

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield lines about items after an offset of the log."""
        return self.log.read(after, limit, kinds=_ITEM)

    def close(self) -> None:
        """Commit the queued writes and close the file; a second call does nothing."""
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
