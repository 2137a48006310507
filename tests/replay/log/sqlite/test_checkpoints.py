"""Checkpoints: the write-ahead log stays short, and nothing committed is lost on the way."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import DEADLINE_S, wait_until

from replay.log.sqlite.checkpoint import Checkpointer, checkpoint_lock, locked
from replay.log.sqlite.database import Database

WAL_BYTES = 2**18
ROWS = ("CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, filling BLOB)",)


def fill(n: int, size: int = 2_000) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO rows VALUES (?, zeroblob(?))", (n, size))

    return work


def run(statement: str) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute(statement)

    return work


def checkpointer(path: Path, *, idle_polls: int = 3) -> Checkpointer:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    return Checkpointer(path, connection, WAL_BYTES, poll_s=0.002, idle_polls=idle_polls)


def size_of(path: Path) -> int:
    return path.stat().st_size


def test_a_log_that_has_grown_is_copied_back_and_started_over(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    wal = Path(f"{path}-wal")
    with Database(path, ROWS, wal_bytes=WAL_BYTES) as database:
        database.write(fill(0, size=4 * WAL_BYTES), durable=True).result(DEADLINE_S)
        assert size_of(wal) > 4 * WAL_BYTES
        keeping = checkpointer(path, idle_polls=1_000_000)
        wait_until(lambda: size_of(path) > 4 * WAL_BYTES)
        wait_until(lambda: size_of(wal) == WAL_BYTES)
        keeping.close()


def test_a_log_that_nobody_writes_to_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    wal = Path(f"{path}-wal")
    with Database(path, ROWS) as database:
        database.write(fill(0), durable=True).result(DEADLINE_S)
        keeping = checkpointer(path)
        wait_until(lambda: size_of(wal) == 0)
        database.write(fill(1), durable=True).result(DEADLINE_S)
        wait_until(lambda: size_of(wal) == 0)
        keeping.close()


def test_a_reader_that_stays_keeps_its_state_and_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    with Database(path, ROWS, wal_bytes=WAL_BYTES) as database:
        database.write(fill(0), durable=True).result(DEADLINE_S)
        keeping = checkpointer(path)
        with database.reader() as reader:
            before = reader.execute("SELECT count(*) FROM rows").fetchone()
            for n in range(1, 300):
                database.write(fill(n), durable=False).result(DEADLINE_S)
            wait_until(lambda: size_of(path) > 2_000)
            assert reader.execute("SELECT count(*) FROM rows").fetchone() == before
        wait_until(lambda: size_of(Path(f"{path}-wal")) == 0)
        keeping.close()


def test_a_checkpoint_waits_until_no_other_one_runs(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    wal = Path(f"{path}-wal")
    with Database(path, ROWS) as database:
        database.write(fill(0), durable=True).result(DEADLINE_S)
        with locked(checkpoint_lock(path), wait=True) as alone:
            assert alone
            keeping = checkpointer(path, idle_polls=1)
            with locked(checkpoint_lock(path), wait=False) as second:
                assert not second
            before = size_of(wal)
            database.write(fill(1), durable=True).result(DEADLINE_S)
            assert size_of(wal) > before > 0
        wait_until(lambda: size_of(wal) == 0)
        keeping.close()


def test_a_checkpoint_that_fails_is_logged_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "swipes.db"
    with Database(path, ROWS) as database:
        database.write(fill(0), durable=True).result(DEADLINE_S)
        database.write(run("DROP TABLE meta"), durable=False).result(DEADLINE_S)
        keeping = checkpointer(path)
        wait_until(lambda: "checkpoint=failed" in caplog.text)
        restore = "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
        database.write(run(restore), durable=False).result(DEADLINE_S)
        wait_until(lambda: size_of(Path(f"{path}-wal")) == 0)
        keeping.close()


def test_writers_and_checkpoints_racing_over_a_short_log_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    with Database(path, ROWS, wal_bytes=2**13) as one, Database(path, wal_bytes=2**13) as other:
        keeping = [checkpointer(path, idle_polls=1) for _ in range(3)]

        def write(database: Database, first: int) -> None:
            for n in range(first, first + 400):
                database.write(fill(n, size=50), durable=n % 7 == 0).result(DEADLINE_S)

        threads = [
            threading.Thread(target=write, args=arguments)
            for arguments in ((one, 0), (one, 1_000), (other, 2_000), (other, 3_000))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        for kept in keeping:
            kept.close()
        with one.reader() as reader:
            assert reader.execute("SELECT count(*) FROM rows").fetchone() == (1_600,)
            assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
