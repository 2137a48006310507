"""This module opens data folders for command-line jobs and checks that they are idle.

A job may run beside a server or without one. It refuses before it changes anything.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from serve.config import Config
from serve.refused import Refused
from serve.sqlite_store import SqliteStore
from serve.store import Store, StoreUnavailable
from serve.stores import DATABASE, open_store

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
        raise Refused(f"{where}: {error}") from error


def open_file(
    config: Config, *, must_exist: bool = True, now_ms: Callable[[], int] = lambda: 0
) -> SqliteStore:
    """Open the data folder's database file; raises as `open_data`, and `Refused` for a Redis."""
    store = None if config.store.url else open_data(config, must_exist=must_exist, now_ms=now_ms)
    if not isinstance(store, SqliteStore):
        raise Refused(f"{NO_FILE}: the store is a Redis (store.url)")
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
        raise Refused(f"{NO_FILE}, of which it can be known that nobody uses it")
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
        raise Refused(
            f"{path.parent} is in use ({error}): stop the server, or the job that runs on it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise Refused(f"{path}: {error}") from error
    finally:
        connection.close()
