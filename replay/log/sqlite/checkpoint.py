"""Checkpoints of the database's write-ahead log, on a thread off the commit path.

A commit that also ran a checkpoint would make every later commit wait for its fsyncs. This thread
copies the log back when it has grown and truncates it when writing pauses. It also works around
SQLite's WAL reset bug. Reasons: `docs/decisions/sqlite-log.md`.
"""

import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which is created if missing.

    Args:
        file: stays empty, and must not be deleted while it is in use.
        wait: wait until it is free; else yield False and hold nothing if it is taken.
    """
    with file.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def held(opened: BinaryIO) -> Iterator[None]:
    """Hold the lock of an open file, waiting until it is free.

    It avoids the cost of opening the file, for callers that take the lock often.

    Args:
        opened: used by one thread at a time.
    """
    fcntl.flock(opened, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(opened, fcntl.LOCK_UN)


def write_turn(path: Path) -> Path:
    """Return the lock file by which a database's processes take turns to write."""
    return Path(f"{path}-turn")


def checkpoint_lock(path: Path) -> Path:
    """Return the lock file that admits one checkpoint at a time, and none during opening."""
    return Path(f"{path}-checkpoint")


logger = logging.getLogger(__name__)
POLL_S = 0.25
IDLE_POLLS = 40
COUNT_COMMIT = "UPDATE meta SET value = value + 1 WHERE name = 'commits'"
"""A statement that always changes a row, so that its commit writes and fsyncs."""


class Checkpointer:
    """Keeps the write-ahead log of one database short until it is closed."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        wal_bytes: int,
        *,
        poll_s: float = POLL_S,
        idle_polls: int = IDLE_POLLS,
    ) -> None:
        """Start the thread.

        Args:
            connection: used by this thread only, and closed with it.
            wal_bytes: log size that triggers a copy; the `journal_size_limit` of all connections.
            poll_s: seconds between two checks of the log.
            idle_polls: checks without a change after which the log is truncated.
        """
        self._path = path
        self._wal = Path(f"{path}-wal")
        self._connection = connection
        # A checkpoint waits for the disk in any case; the commit before it need not.
        connection.execute("PRAGMA synchronous=NORMAL")
        self._wal_bytes = wal_bytes
        self._poll_s = poll_s
        self._idle_polls = idle_polls
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the checkpoint that is running, if any."""
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        seen, unchanged = (0, 0), 0
        while not self._stopping.wait(self._poll_s):
            found = self._look()
            unchanged = unchanged + 1 if found == seen else 0
            seen = found
            if found[0] > self._wal_bytes:
                self._alone(self._copy_back)
            elif found[0] and unchanged >= self._idle_polls:
                self._alone(self._truncate)

    def _look(self) -> tuple[int, int]:
        try:
            stat = self._wal.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_size, stat.st_mtime_ns

    def _alone(self, checkpoint: Callable[[], None]) -> None:
        try:
            with locked(checkpoint_lock(self._path), wait=False) as alone:
                if alone:
                    checkpoint()
        except (sqlite3.Error, OSError) as error:
            logger.warning("checkpoint=failed error=%r retry_s=%g", error, self._poll_s)

    def _copy_back(self) -> None:
        with locked(write_turn(self._path), wait=True):
            self._count_commit()
        self._run_pragma("wal_checkpoint(PASSIVE)")
        with locked(write_turn(self._path), wait=True):
            self._count_commit()
            self._run_pragma("wal_checkpoint(PASSIVE)")

    def _truncate(self) -> None:
        with locked(write_turn(self._path), wait=True):
            self._count_commit()
        self._run_pragma("wal_checkpoint(TRUNCATE)")

    def _run_pragma(self, pragma: str) -> None:
        # Do not wait for readers: TRUNCATE would block writers meanwhile.
        self._connection.execute("PRAGMA busy_timeout=0")
        self._connection.execute(f"PRAGMA {pragma}").fetchall()

    def _count_commit(self) -> None:
        self._connection.execute("PRAGMA busy_timeout=1000")
        self._connection.execute(COUNT_COMMIT)
