"""How jobs find a data folder: with a log in it, or left alone by everybody else.

Jobs are run from the command line, beside a server or without one. What they refuse they refuse
before they change anything.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from serve.config import Config
from serve.refused import Refused
from serve.sqlite_store import SqliteStore
from serve.store import Store
from serve.stores import DATABASE, open_store


def open_data(
    config: Config, *, must_exist: bool = True, now_ms: Callable[[], int] = lambda: 0
) -> Store:
    """Open the data folder's store.

    Args:
        config: names the data folder.
        must_exist: refuse a folder that holds no log, before anything is made in it.
        now_ms: the wall clock, for who writes lines of the log.

    Raises:
        Refused: there is no database, or it is none, or a newer nextswipe wrote it.
    """
    folder = Path(config.data.folder)
    if must_exist and not (folder / DATABASE).is_file():
        raise Refused(f"{folder}: expected a data folder with nextswipe.db, found none")
    try:
        return open_store(config, now_ms)
    except (ValueError, sqlite3.DatabaseError) as error:
        raise Refused(f"{folder}: {error}") from error


def open_file(config: Config) -> SqliteStore:
    """Open the data folder's database, for what works on the file itself.

    Raises:
        Refused: as `open_data`, and if the store is no file in the data folder.
    """
    store = open_data(config)
    if not isinstance(store, SqliteStore):
        store.close()
        raise Refused(
            f"expected a store in {Path(config.data.folder) / DATABASE}, got another kind of store"
        )
    return store


def count_lines(config: Config) -> int:
    """Return how many lines the data folder's log has, for those who watch a job.

    Raises:
        Refused: as `open_data`.
    """
    with open_data(config) as store:
        return store.log.count()


def require_idle(config: Config) -> None:
    """Refuse a data folder that some process has open; a missing one is idle.

    A database with a write-ahead log can be locked exclusively only by its one user, and the
    kernel lets go of the locks of the dead. Rejected: a file with a process id, which outlives
    its process.

    Raises:
        Refused: a server, or another job, is running on it.
    """
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
