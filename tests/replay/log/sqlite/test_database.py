"""The database: group commits, savepoints, barriers, readers, several processes."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import DEADLINE_S

from env.records import FORMAT_VERSION
from replay.log.sqlite.database import Database

NUMBERS = ("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "swipes.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, NUMBERS) as database:
        yield database


def add(n: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (n,))
        return n

    return work


def run(statement: str) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute(statement)

    return work


def numbers(database: Database) -> list[int]:
    with database.reader() as connection:
        return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


def n_durable_commits(database: Database) -> int:
    with database.reader() as connection:
        (n,) = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
    return int(n)


@contextmanager
def writer_held(database: Database) -> Iterator[None]:
    """Keep the writer inside a transaction, so that what is queued meanwhile commits together."""
    entered, released = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        entered.set()
        assert released.wait(DEADLINE_S)

    held = database.write(hold, durable=False)
    assert entered.wait(DEADLINE_S)
    try:
        yield
    finally:
        released.set()
        held.result(DEADLINE_S)


def test_a_write_returns_what_its_work_returned_after_the_commit(database: Database) -> None:
    assert database.write(add(7), durable=True).result(DEADLINE_S) == 7
    assert numbers(database) == [7]


def test_all_that_queued_up_meanwhile_is_one_commit(database: Database) -> None:
    before = n_durable_commits(database)
    with writer_held(database):
        futures = [database.write(add(n), durable=True) for n in range(50)]
    assert [future.result(DEADLINE_S) for future in futures] == list(range(50))
    assert n_durable_commits(database) == before + 1


def test_work_that_fails_fails_its_own_future_only(database: Database) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (100)")
        raise KeyError("no such swipe")

    with writer_held(database):
        before = database.write(add(1), durable=True)
        failing = database.write(fail, durable=True)
        twice = database.write(add(1), durable=True)
        after = database.write(add(2), durable=True)
    assert (before.result(DEADLINE_S), after.result(DEADLINE_S)) == (1, 2)
    with pytest.raises(KeyError, match="no such swipe"):
        failing.result(DEADLINE_S)
    with pytest.raises(sqlite3.IntegrityError):
        twice.result(DEADLINE_S)
    assert numbers(database) == [1, 2]


def test_work_that_ends_the_transaction_fails_and_the_writer_lives_on(database: Database) -> None:
    def overstep_and_raise(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise ValueError("taken back")

    for work, error in (
        (run("ROLLBACK"), sqlite3.OperationalError),
        (overstep_and_raise, ValueError),
    ):
        with pytest.raises(error):
            database.write(work, durable=True).result(DEADLINE_S)
    assert database.write(add(3), durable=True).result(DEADLINE_S) == 3


def test_work_that_was_cancelled_in_the_queue_is_not_done(database: Database) -> None:
    with writer_held(database):
        cancelled = database.write(add(1), durable=True)
        kept = database.write(add(2), durable=True)
        assert cancelled.cancel()
    assert kept.result(DEADLINE_S) == 2
    with pytest.raises(CancelledError):
        cancelled.result(DEADLINE_S)
    assert numbers(database) == [2]


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_a_commit_waits_for_the_disk_only_where_a_user_asked(
    database: Database, durable: bool, synchronous: int
) -> None:
    def ask(connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(found)

    database.write(ask, durable=not durable).result(DEADLINE_S)
    assert database.write(ask, durable=durable).result(DEADLINE_S) == synchronous


def test_durable_work_that_writes_nothing_still_commits_a_frame(database: Database) -> None:
    wal = Path(f"{database.path}-wal")

    def nothing(_: sqlite3.Connection) -> None: ...

    def fail(connection: sqlite3.Connection) -> None:
        add(5)(connection)
        raise ValueError

    for work in (nothing, fail):
        before = wal.stat().st_size
        database.write(nothing, durable=False).result(DEADLINE_S)
        assert wal.stat().st_size == before
        assert isinstance(
            database.write(work, durable=True).exception(DEADLINE_S), ValueError | None
        )
        assert wal.stat().st_size > before


def test_futures_resolve_in_the_order_of_the_queue(database: Database) -> None:
    resolved: list[int] = []

    def note(future: Future[int]) -> None:
        resolved.append(future.result())

    with writer_held(database):
        for n in range(20):
            database.write(add(n), durable=n % 2 == 0).add_done_callback(note)
    database.write(add(20), durable=True).result(DEADLINE_S)
    assert resolved == list(range(20))


def test_a_reader_sees_one_state_while_others_write(database: Database) -> None:
    database.write(add(1), durable=True).result(DEADLINE_S)
    with database.reader() as reader:
        first = reader.execute("SELECT count(*) FROM numbers").fetchone()
        database.write(add(2), durable=True).result(DEADLINE_S)
        assert numbers(database) == [1, 2], "another reader, lent meanwhile, sees the new state"
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == first
    assert numbers(database) == [1, 2]


def test_a_reader_cannot_write(database: Database) -> None:
    with database.reader() as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO numbers VALUES (1)")
    assert numbers(database) == []


def test_a_reader_is_given_back_when_its_block_fails(database: Database) -> None:
    def fail() -> None:
        with database.reader() as reader:
            reader.execute("SELECT 1").fetchall()
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert len(database._idle_readers) == 1


def test_closing_commits_what_is_queued_and_refuses_what_comes_after(path: Path) -> None:
    database = Database(path, NUMBERS)
    futures = [database.write(add(n), durable=True) for n in range(100)]
    with database.reader() as lent:
        database.close()
        assert lent.execute("SELECT 1").fetchone() == (1,)
    database.close()
    assert [future.result(DEADLINE_S) for future in futures] == list(range(100))
    with pytest.raises(RuntimeError, match="closed"):
        database.write(add(1), durable=True)
    with pytest.raises(RuntimeError, match="closed"), database.reader():
        pass
    assert not Path(f"{path}-wal").exists(), "the last to close copies the log back"
    with Database(path, NUMBERS) as again:
        assert numbers(again) == list(range(100))


def test_a_newer_format_is_refused_and_left_as_it_was(path: Path) -> None:
    with Database(path) as database:
        newer = run("UPDATE meta SET value = value + 1 WHERE name = 'format'")
        database.write(newer, durable=True).result(DEADLINE_S)
    message = f"expected log format {FORMAT_VERSION} or older, got {FORMAT_VERSION + 1}.*upgrade"
    with pytest.raises(ValueError, match=message):
        Database(path, NUMBERS)
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "numbers" not in tables


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"user_id,item_id\n" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        Database(path)
    assert path.read_bytes() == b"user_id,item_id\n" * 100


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        Database(tmp_path / "nowhere" / "swipes.db")


ADDING = """
import sys
from pathlib import Path
from replay.log.sqlite.database import Database

path, first = Path(sys.argv[1]), int(sys.argv[2])
with Database(path, ("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)",)) as database:
    for n in range(first, first + 100):
        add = lambda c: c.execute("INSERT INTO numbers VALUES (?)", (n,)).rowcount
        assert database.write(add, durable=n % 3 == 0).result() == 1
"""


@pytest.mark.slow
def test_processes_may_make_the_file_and_write_to_it_at_the_same_time(path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", ADDING, str(path), str(100 * k)])
        for k in range(4)
    ]
    assert [process.wait(DEADLINE_S) for process in processes] == [0] * 4
    with Database(path, NUMBERS) as database:
        assert numbers(database) == list(range(400))
