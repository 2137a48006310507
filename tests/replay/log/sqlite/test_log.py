"""The event log on SQLite, beside what every log must do (`test_replay_log_contract`)."""

import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lines import EVERY_KIND, feedback, page, tick
from waiting import DEADLINE_S

from env.interface import EventLog
from env.records import (
    BlockRecord,
    FeedbackRecord,
    Kind,
    LogLine,
    TickRecord,
    UserRecord,
    encode_record,
    record_key,
)
from env.vocabulary import CreatorId, PageId, Profile, UserId, UserKey
from replay.log.sqlite.database import MOST_ROWS, Database
from replay.log.sqlite.log import (
    _PAGE,
    BATCH_LINES,
    LogCorruption,
    SqliteLog,
    find,
    find_page,
    forget,
    insert,
)

WRITTEN_MS = 1_700_000_000_000

Open = Callable[[], AbstractContextManager[EventLog]]


# --- the log on SQLite ----------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "swipes.db") as database:
        yield database


@pytest.fixture
def sqlite(database: Database) -> SqliteLog:
    return SqliteLog(database, lambda: WRITTEN_MS)


def change(database: Database, statement: str, *arguments: object) -> None:
    def work(connection: sqlite3.Connection) -> int:
        return connection.execute(statement, arguments).rowcount

    assert database.write(work, durable=True).result(DEADLINE_S) > 0


def test_a_record_is_found_by_its_key(sqlite: SqliteLog, database: Database) -> None:
    sqlite.append(EVERY_KIND, durable=True)
    with database.reader() as connection:
        assert find(connection, record_key(page())) == page()
        assert find(connection, record_key(feedback("e1"))) == feedback("e1")
        assert find(connection, "p/unknown") is None
        assert find(connection, "") is None, "records without an id have no key in common"
    again = database.write(lambda c: find(c, "p/p"), durable=False)
    assert again.result(DEADLINE_S) == page()


def test_a_page_is_found_by_the_beginning_of_its_id(sqlite: SqliteLog, database: Database) -> None:
    ids = ["ab1", "ab2", "abc", "b", "aa\U0001f600"]
    pages = {i: msgspec.structs.replace(page(), page_id=PageId(i)) for i in ids}
    sqlite.append([feedback("e1"), *pages.values(), tick(1)], durable=False)
    beginnings = ("ab", "ab2", "aa", "b", "ab3", "a~", "c", "p/a")
    with database.reader() as connection:
        found = {of: find_page(connection, of) for of in beginnings}
    expected = {"ab": "ab1", "ab2": "ab2", "aa": "aa\U0001f600", "b": "b"}
    assert found == {of: pages.get(expected.get(of, "")) for of in found}
    with database.reader() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {_PAGE}", ("p/a", "p/b")).fetchall()
    assert "log_key (key>? AND key<?)" in str(plan), "it is found without reading the log"


def test_a_record_and_the_state_that_follows_commit_together(
    sqlite: SqliteLog, database: Database
) -> None:
    change(database, "INSERT INTO meta VALUES ('n_events', 0)")

    def append_and_count(event: str, fail: bool) -> Callable[[sqlite3.Connection], list[bool]]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            new = insert(connection, [feedback(event)], WRITTEN_MS)
            connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'n_events'")
            if fail:
                raise ValueError("refused")
            return new

        return work

    assert database.write(append_and_count("e1", fail=False), durable=True).result() == [True]
    with pytest.raises(ValueError, match="refused"):
        database.write(append_and_count("e2", fail=True), durable=True).result(DEADLINE_S)
    with database.reader() as reader:
        (n,) = reader.execute("SELECT value FROM meta WHERE name = 'n_events'").fetchone()
    assert n == len(list(sqlite.read())) == 1


def test_a_batch_that_fails_half_way_leaves_no_line(sqlite: SqliteLog) -> None:
    bad = TickRecord(at_ms=2**63)  # beyond what a column holds
    with pytest.raises(OverflowError):
        sqlite.append([*map(tick, range(2 * MOST_ROWS)), bad], durable=True)
    assert list(sqlite.read()) == []


@pytest.mark.parametrize("kinds", [None, ["feedback"]])
def test_a_changed_payload_is_refused_with_its_offset_after_the_good_lines(
    sqlite: SqliteLog, database: Database, kinds: list[Kind] | None
) -> None:
    sqlite.append([feedback(f"e{i}") for i in range(10)], durable=True)
    rotten = bytearray(encode_record(feedback("e6")))
    rotten[-3] ^= 1
    change(database, "UPDATE log SET payload = ? WHERE offset = 7", bytes(rotten))
    lines = sqlite.read(kinds=kinds)
    assert [next(lines).offset for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(LogCorruption, match=r"log line 7: expected crc \d+, got \d+") as caught:
        next(lines)
    assert caught.value.offset == 7
    with database.reader() as connection, pytest.raises(LogCorruption):
        find(connection, "f/p/e6")
    assert len(list(sqlite.read(after=7))) == 3


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x81\xa1t\xa6unheard", b"\x81\xa1t\xa4tick"])
def test_a_payload_that_is_no_record_is_refused(
    sqlite: SqliteLog, database: Database, payload: bytes
) -> None:
    sqlite.append([tick(1)], durable=True)
    change(database, "UPDATE log SET payload = ?, crc = ?", payload, zlib.crc32(payload))
    with pytest.raises(LogCorruption, match="log line 1: the payload is no record"):
        list(sqlite.read())


def test_a_reader_that_stands_still_does_not_hold_up_checkpoints(
    sqlite: SqliteLog, database: Database
) -> None:
    sqlite.append([tick(i) for i in range(2 * BATCH_LINES)], durable=True)
    lines = sqlite.read()
    next(lines)
    connection = sqlite3.connect(database.path)
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    assert busy == 0
    assert len(list(lines)) == 2 * BATCH_LINES - 1


PROFILE = Profile(
    country="GB",
    time_zone="Europe/London",
    cohort="new",
    apps=("com.rare.app",),
    tags=("vip-segment",),
    registered_ms=5,
    follows=(CreatorId("rare-creator"),),
    birth_year=1984,
)


def test_forgetting_a_user_overwrites_what_names_them_and_nothing_else(
    sqlite: SqliteLog, database: Database
) -> None:
    gone, stays = UserKey("k1"), UserKey("k2")
    sqlite.append(
        [
            UserRecord(gone, 1, UserId("alice@example.org"), PROFILE),
            UserRecord(stays, 2, UserId("bob@example.org"), PROFILE),
            page(),
            feedback("e1"),
            UserRecord(gone, 3, UserId("alice@example.org"), Profile(country="US")),
            BlockRecord(gone, 4, (CreatorId("an-ex"),), ("a-condition",)),
        ],
        durable=True,
    )
    before = list(sqlite.read())
    assert database.write(lambda c: forget(c, gone), durable=True).result(DEADLINE_S) == 3
    after = list(sqlite.read())
    assert after[1:4] == before[1:4]
    assert [(line.offset, line.written_ms) for line in after] == [
        (line.offset, line.written_ms) for line in before
    ]
    assert after[0].record == UserRecord(gone, 1, profile=Profile(country="GB", cohort="new"))
    assert after[4].record == UserRecord(gone, 3, profile=Profile(country="US"))
    assert after[5].record == BlockRecord(gone, 4)
    assert database.write(lambda c: forget(c, UserKey("k9")), durable=True).result() == 0


def test_after_forgetting_and_a_checkpoint_the_name_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    apps = tuple(f"com.rare.app{i}" for i in range(1_000))  # spills over into pages of its own
    with Database(path) as database:
        log = SqliteLog(database, lambda: WRITTEN_MS)
        for n in range(50):
            user = UserRecord(UserKey(f"k{n}"), n, UserId(f"alice{n}@example.org"), PROFILE)
            log.append([user], durable=True)
        alice = UserRecord(UserKey("k7"), 99, UserId("alice7@example.org"), Profile(apps=apps))
        log.append([alice], durable=True)
        forgotten = database.write(lambda c: forget(c, UserKey("k7")), durable=True)
        assert forgotten.result(DEADLINE_S) == 2
    stored = path.read_bytes()
    assert not Path(f"{path}-wal").exists()
    assert b"alice7@" not in stored
    assert b"com.rare.app999" not in stored
    assert b"alice8@" in stored


# --- several processes, and processes that die ----------------------------------------------------

APPENDING = """
import sys
from pathlib import Path
from env.records import FeedbackRecord
from env.vocabulary import DecisionId, SessionId, UserKey
from replay.log.sqlite.database import Database
from replay.log.sqlite.log import SqliteLog, insert

path, name, events = Path(sys.argv[1]), sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4]))
made = "CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL)"
count = "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1"
with Database(path, (made,)) as database:
    log = SqliteLog(database, lambda: 1)
    for n in events:
        record = FeedbackRecord(
            f"e{n}", DecisionId("p:0"), n, UserKey(name), SessionId("s"), "like"
        )

        def work(connection):
            (new,) = insert(connection, [record], 1)
            if new:
                connection.execute(count, (name,))

        database.write(work, durable=True).result()
        print(n, flush=True)
"""


def appending(path: Path, name: str, first: int, last: int) -> subprocess.Popen[str]:
    arguments = [
        sys.executable,
        "-W",
        "error",
        "-c",
        APPENDING,
        str(path),
        name,
        str(first),
        str(last),
    ]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def logged(log: EventLog) -> list[int]:
    return [line.record.at_ms for line in log.read()]


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    rng = np.random.default_rng(20220430)
    path, n_acknowledged = tmp_path / "swipes.db", 0
    for n_more in rng.integers(1, 300, size=5):
        process = appending(path, "k", n_acknowledged, 10**9)
        assert process.stdout is not None
        for _ in range(int(n_more)):
            assert int(process.stdout.readline()) == n_acknowledged
            n_acknowledged += 1
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()  # acknowledged before the kill, read after it
        n_acknowledged += rest.count("\n")
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
        process.stdout.close()
        with Database(path) as database:
            found = logged(SqliteLog(database, lambda: 1))
            assert found[:n_acknowledged] == list(range(n_acknowledged))
            assert len(found) - n_acknowledged in {0, 1}, "at most the one in flight"
            with database.reader() as reader:
                assert reader.execute("SELECT n FROM counts").fetchone() == (len(found),)
                assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_processes_append_at_once_and_a_follower_meets_each_line_once(tmp_path: Path) -> None:
    path = tmp_path / "swipes.db"
    with Database(path) as database:
        log = SqliteLog(database, lambda: 1)
        processes = [appending(path, f"k{k}", 100 * k, 100 * k + 200) for k in range(3)]
        followed: list[LogLine] = []
        running = True
        while running:
            running = any(process.poll() is None for process in processes)
            followed += log.read(after=followed[-1].offset if followed else 0)
        assert [process.communicate(timeout=DEADLINE_S) for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert followed == list(log.read())
        assert sorted(logged(log)) == list(range(400)), "events of two processes are one line"
        for k in range(3):
            own = [line.record.at_ms for line in followed if _user(line) == f"k{k}"]
            assert own == sorted(own)
            with database.reader() as reader:
                counted = reader.execute("SELECT n FROM counts WHERE name = ?", (f"k{k}",))
                assert (counted.fetchone() or (0,)) == (len(own),)


def _user(line: LogLine) -> str:
    assert isinstance(line.record, FeedbackRecord)
    return line.record.user
