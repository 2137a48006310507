"""How jobs find a data folder: with a log in it, or left alone by everybody else.

Jobs are run from the command line, beside a server or without one. What they refuse they refuse
before they change anything.
"""

import sqlite3
from pathlib import Path

from replay.database import Database
from replay.log import SqliteLog
from serve.config import Config
from serve.refused import Refused
from serve.replica import open_database


def open_data(config: Config, *, must_exist: bool = True) -> Database:
    """Open the data folder's database.

    Args:
        config: names the data folder.
        must_exist: refuse a folder that holds no log, before anything is made in it.

    Raises:
        Refused: there is no database, or it is none, or a newer nextswipe wrote it.
    """
    folder = Path(config.data.folder)
    if must_exist and not (folder / "nextswipe.db").is_file():
        raise Refused(f"{folder}: expected a data folder with nextswipe.db, found none")
    try:
        return open_database(config)
    except (ValueError, sqlite3.DatabaseError) as error:
        raise Refused(f"{folder}: {error}") from error


def count_lines(config: Config) -> int:
    """Return how many lines the data folder's log has, for those who watch a job.

    Raises:
        Refused: as `open_data`.
    """
    with open_data(config) as database:
        return SqliteLog(database, now_ms=lambda: 0).count()


def require_idle(config: Config) -> None:
    """Refuse a data folder that some process has open; a missing one is idle.

    A database with a write-ahead log can be locked exclusively only by its one user, and the
    kernel lets go of the locks of the dead. Rejected: a file with a process id, which outlives
    its process.

    Raises:
        Refused: a server, or another job, is running on it.
    """
    path = Path(config.data.folder) / "nextswipe.db"
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
