"""One SQLite file for log and state, with group commits and short readers, shared by processes.

A writer queues a function and gets a future. One thread runs all queued functions in one
transaction and resolves the futures after the commit, so they share one fsync. Processes meet only
in the file. Reasons and rejected alternatives: `docs/decisions/sqlite-log.md`.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from env.records import FORMAT_VERSION
from replay.log.format import require_known_format
from replay.log.sqlite.checkpoint import (
    COUNT_COMMIT,
    Checkpointer,
    checkpoint_lock,
    held,
    locked,
    write_turn,
)


class PendingJob(Protocol):
    """A job with a future."""

    @property
    def future(self) -> Future[Any]:
        """The future that the commit resolves."""
        ...


J = TypeVar("J", bound=PendingJob)


class CommitQueue(Generic[J]):
    """Passes queued jobs to a commit function on its own thread."""

    def __init__(self, name: str, commit: Callable[[list[J]], None]) -> None:
        """Start the thread.

        Args:
            commit: settles the future of each job that it is given, and does not raise.
        """
        self._commit = commit
        self._queue: list[J] = []
        self._queued = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether the queue refuses new jobs."""
        return self._closing

    def put(self, job: J) -> None:
        """Queue a job, or raise RuntimeError if the queue is closed."""
        with self._queued:
            if self._closing:
                raise RuntimeError("the database is closed")
            self._queue.append(job)
            self._queued.notify()

    def close(self) -> None:
        """Commit what is queued, and end the thread."""
        with self._queued:
            self._closing = True
            self._queued.notify()
        self._thread.join()

    def _run(self) -> None:
        while queued := self._take():
            self._commit([job for job in queued if job.future.set_running_or_notify_cancel()])

    def _take(self) -> list[J]:
        with self._queued:
            self._queued.wait_for(lambda: self._queue or self._closing)
            jobs, self._queue = self._queue, []
        return jobs


Value = str | int | bytes
MOST_ROWS = 64


def insert_rows(
    connection: sqlite3.Connection, begin: str, rows: Sequence[Sequence[Value]], end: str = ""
) -> None:
    """Insert rows of one length, in order, between the statement's beginning (to VALUES) and end.

    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute("CREATE TABLE pairs (a, b)")
    >>> insert_rows(connection, "INSERT INTO pairs VALUES", [(k, -k) for k in range(100)])
    >>> connection.execute("SELECT count(*), min(b) FROM pairs").fetchone()
    (100, -99)
    """
    for part in _parts(rows):
        row = f"({', '.join('?' * len(part[0]))})"
        values = [value for its in part for value in its]
        connection.execute(f"{begin} {', '.join([row] * len(part))} {end}", values)


def select_in(
    connection: sqlite3.Connection, begin: str, keys: Sequence[str]
) -> list[tuple[Value, ...]]:
    """Return the rows of a statement that ends in IN with one of these keys, in no order.

    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute("CREATE TABLE names (name)")
    >>> insert_rows(connection, "INSERT INTO names VALUES", [("a",), ("b",)])
    >>> select_in(connection, "SELECT name FROM names WHERE name IN", ["b", "c"])
    [('b',)]
    """
    found: list[tuple[Value, ...]] = []
    for begun in range(0, len(keys), MOST_ROWS):
        part = keys[begun : begun + MOST_ROWS]
        n = 1 << (len(part) - 1).bit_length()
        padded = [*part, *[part[-1]] * (n - len(part))]
        query = f"{begin} ({', '.join('?' * n)})"
        found += connection.execute(query, padded).fetchall()
    return found


def _parts(rows: Sequence[Sequence[Value]]) -> Iterator[Sequence[Sequence[Value]]]:
    """Yield the rows in parts of power-of-two length, so that few statements are prepared."""
    begin = 0
    while left := len(rows) - begin:
        n = min(MOST_ROWS, 1 << left.bit_length() - 1)
        yield rows[begin : begin + n]
        begin += n


T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
BUSY_S = 30.0
WAL_BYTES = 4 * 2**20
"""A commit waits for the disk that a checkpoint writes to, so the limit is small."""

_META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
_START = "INSERT OR IGNORE INTO meta VALUES ('format', ?), ('commits', 0)"


class Database:
    """An open database file; use it as a context manager, or `close` it.

    Threads share it. Each process opens its own, and it must not be carried over a fork.
    """

    def __init__(
        self, path: Path, schema: Sequence[str] = (), *, wal_bytes: int = WAL_BYTES
    ) -> None:
        """Open the file, create missing tables, and start the writer.

        Args:
            path: file on a local disk, in an existing folder; its companion files end in `-wal`,
                `-shm`, `-turn` and `-checkpoint`.
            schema: further statements that are safe to repeat (`IF NOT EXISTS`).
            wal_bytes: size above which the write-ahead log is copied back into the file.

        Raises:
            ValueError: the file was written by a newer nextswipe.
            sqlite3.DatabaseError: the file is no database or cannot be opened.
        """
        self.path = path
        self._wal_bytes = wal_bytes
        self._closed = False
        self._idle_readers: list[sqlite3.Connection] = []
        connection = _connect(path, wal_bytes)
        try:
            with (
                locked(checkpoint_lock(path), wait=True),
                locked(write_turn(path), wait=True),
            ):
                _prepare(connection, path, schema)
            self._checkpointer = Checkpointer(path, _connect(path, wal_bytes), wal_bytes)
        except BaseException:
            connection.close()
            raise
        self._writer = _Writer(connection, write_turn(path))

    def write(self, work: Work[T], *, durable: bool) -> Future[T]:
        """Queue a function; its future resolves with the function's result after the commit.

        A function that raises is rolled back and fails only its own future; a failed commit fails
        all that were in it. The function runs on the writer's thread: it must be short, must not
        end the transaction, and must not wait for another write.

        Args:
            work: called once with a connection that is inside a transaction.
            durable: wait until this work, and everything any process committed before it, is on
                disk; even work that writes nothing is then a barrier.

        Raises:
            RuntimeError: the database is closed.
        """
        return self._writer.write(work, durable=durable)

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a read-only connection that sees one state of the database.

        Fetch inside the block and leave it soon: an open reader keeps the write-ahead log growing.

        Raises:
            RuntimeError: the database is closed.
        """
        connection = self._borrow_reader()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")
            self._return_reader(connection)

    def close(self) -> None:
        """Commit queued work, stop the threads and close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._checkpointer.close()
            while self._idle_readers:
                self._idle_readers.pop().close()
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _borrow_reader(self) -> sqlite3.Connection:
        if self._closed:
            raise RuntimeError(f"{self.path} is closed")
        try:
            return self._idle_readers.pop()
        except IndexError:
            connection = _connect(self.path, self._wal_bytes)
            connection.execute("PRAGMA query_only=1")
            return connection

    def _return_reader(self, connection: sqlite3.Connection) -> None:
        self._idle_readers.append(connection)
        if self._closed:
            # Closed meanwhile, by a thread that did not see this connection.
            with contextlib.suppress(IndexError):
                self._idle_readers.pop().close()


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Work[T]
    durable: bool
    future: Future[T]

    def run(self, connection: sqlite3.Connection) -> Callable[[], None]:
        """Do the work in a savepoint and return the callback that settles its future."""
        connection.execute("SAVEPOINT work")
        try:
            result = self.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # SQLite took everything back: disk full, input or output error
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            return partial(self.future.set_exception, error)
        connection.execute("RELEASE work")
        return partial(self.future.set_result, result)


class _Writer:
    def __init__(self, connection: sqlite3.Connection, turn: Path) -> None:
        self._connection = connection
        self._turn = turn.open("ab")
        self._synchronous = ""
        self._queue = CommitQueue[_Job[Any]]("writer", self._commit)

    def write(self, work: Work[T], *, durable: bool) -> Future[T]:
        job = _Job(work, durable, Future[T]())
        self._queue.put(job)
        return job.future

    def close(self) -> None:
        self._queue.close()
        self._connection.close()
        self._turn.close()

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        try:
            with held(self._turn):
                settles = self._transact(jobs)
        except Exception as error:  # noqa: BLE001  # the futures carry it
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            settles = [partial(job.future.set_exception, error) for job in jobs]
        for settle in settles:
            settle()

    def _transact(self, jobs: list[_Job[Any]]) -> list[Callable[[], None]]:
        durable = any(job.durable for job in jobs)
        self._set_synchronous("FULL" if durable else "NORMAL")
        self._connection.execute("BEGIN IMMEDIATE")
        settles = [job.run(self._connection) for job in jobs]
        if durable:
            self._connection.execute(COUNT_COMMIT)
        self._connection.execute("COMMIT")
        return settles

    def _set_synchronous(self, level: str) -> None:
        if level != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level


def _connect(path: Path, wal_bytes: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA wal_autocheckpoint=0")
    # A log that is started over shrinks to this size at its first commit, so that a longer one
    # holds frames that were not copied back; what stays is written over in place, which costs an
    # fsync less than growing the file again.
    connection.execute(f"PRAGMA journal_size_limit={wal_bytes}")
    connection.execute("PRAGMA secure_delete=ON")  # a forgotten user leaves no bytes in free pages
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Sequence[str]) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise ValueError(f"{path}: expected a file that can use a write-ahead log, got mode {mode}")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_META)
    connection.execute(_START, (FORMAT_VERSION,))
    (found,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    require_known_format(found, str(path))
    for statement in schema:
        connection.execute(statement)
    connection.execute("COMMIT")
