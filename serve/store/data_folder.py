"""This module opens data folders for command-line jobs and checks that they are idle.

A job may run beside a server or without one. It refuses before it changes anything.
"""

import contextlib
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from replay.log.sqlite.checkpoint import locked
from serve.config import Config
from serve.errors import JobError
from serve.store.open import DATABASE, open_store
from serve.store.sqlite import SqliteStore
from serve.store.store import Store, StoreUnavailable

SERVING_LOCK = "serving.lock"

SERVING = "serving.json"

NO_FILE = f"this needs {DATABASE} in the data folder"


def open_data(
    config: Config, *, must_exist: bool = True, now_ms: Callable[[], int] = lambda: 0
) -> Store:
    """Open the data folder's store.

    Args:
        config: names the data folder.
        must_exist: refuse a missing log instead of making one.
        now_ms: the wall clock, for callers that write log lines.

    Raises:
        Refused: the database is missing or invalid, or a newer nextswipe wrote it.
    """
    try:
        return open_store(config, now_ms, make=not must_exist)
    except (ValueError, StoreUnavailable, sqlite3.DatabaseError) as error:
        where = "store.url" if config.store.url else config.data.folder
        raise JobError(f"{where}: {error}") from error


def open_file(
    config: Config, *, must_exist: bool = True, now_ms: Callable[[], int] = lambda: 0
) -> SqliteStore:
    """Open the data folder's database file; raises as `open_data`, and `JobError` for a Redis."""
    store = None if config.store.url else open_data(config, must_exist=must_exist, now_ms=now_ms)
    if not isinstance(store, SqliteStore):
        raise JobError(f"{NO_FILE}: the store is a Redis (store.url)")
    return store


def count_lines(config: Config) -> int:
    """Return the number of lines in the data folder's log; raises as `open_data`."""
    with open_data(config) as store:
        return store.log.count()


def require_idle(config: Config) -> None:
    """Refuse a data folder that a process has open; a missing one is idle.

    An exclusive lock on the database decides. Rejected alternative:
    `docs/decisions/serve-configuration.md`.

    Raises:
        Refused: a server, or another job, is running on it.
    """
    if config.store.url:
        raise JobError(f"{NO_FILE}, of which it can be known that nobody uses it")
    path = Path(config.data.folder) / DATABASE
    if not path.exists():
        return
    connection = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone()
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise JobError(
            f"{path.parent} is in use ({error}): stop the server, or the job that runs on it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise JobError(f"{path}: {error}") from error
    finally:
        connection.close()


class Holder(msgspec.Struct, frozen=True):
    """Who serves from a data folder.

    Attributes:
        pid: of the process, on its machine.
        host: name of the machine.
        since_ms: Unix milliseconds.
    """

    pid: int
    host: str
    since_ms: int

    def __str__(self) -> str:
        """Say where it can be found.

        >>> str(Holder(7, "box", 0))
        'process 7 on box, since 1970-01-01 00:00:00 UTC'
        """
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC)
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"


@contextlib.contextmanager
def sole_server(config: Config, now_ms: int) -> Iterator[None]:
    """Be the one server on a data folder, which is made where it is missing.

    A second one would take over the learning of the first. The kernel lets go of the lock when
    this process dies, however it does, and none of its children has it.

    Args:
        config: names the folder.
        now_ms: Unix milliseconds.

    Raises:
        Refused: another server is on it, and which.
    """
    folder = Path(config.data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / SERVING
    with locked(folder / SERVING_LOCK, wait=False) as is_ours:
        if not is_ours:
            raise JobError(
                f"{folder} is served already, by `nextswipe up` as {_read_holder(said)}: "
                "stop that one, or serve another folder (--data)"
            )
        said.write_bytes(msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), now_ms)))
        try:
            yield
        finally:
            said.unlink(missing_ok=True)


def _read_holder(file: Path) -> Holder | str:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return "a process that has just begun or ended"
