"""What every event log must do, each run through it: on SQLite, and on a real Redis in shards."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lines import EVERY_KIND, feedback, page, tick
from redises import new_name, shared_url
from waiting import DEADLINE_S

from env.interface import EventLog
from env.records import FeedbackRecord, ItemRecord, LogLine, Record, TickRecord
from env.vocabulary import ItemId, UserKey
from replay.log.redis.log import RedisDatabase, RedisLog
from replay.log.sqlite.database import Database
from replay.log.sqlite.log import BATCH_LINES, SqliteLog

WRITTEN_MS = 1_700_000_000_000


def user_of(record: Record) -> UserKey | None:
    return getattr(record, "user", None)


def said(at_ms: int, user: UserKey) -> FeedbackRecord:
    return msgspec.structs.replace(feedback(f"e{at_ms}", at_ms=at_ms), user=user)


Open = Callable[[], AbstractContextManager[EventLog]]


@contextmanager
def sqlite_log(folder: Path) -> Iterator[SqliteLog]:
    with Database(folder / "swipes.db") as database:
        yield SqliteLog(database, lambda: WRITTEN_MS)


@contextmanager
def redis_log(folder: Path) -> Iterator[RedisLog]:
    database = RedisDatabase(
        shared_url(), lambda: WRITTEN_MS, name=folder.name, n_shards=3, durable=True
    )
    try:
        yield RedisLog(database)
    finally:
        database.close()


@pytest.fixture(params=[sqlite_log, redis_log])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """What opens the same log, in this process or after a restart."""
    store, folder = request.param, tmp_path / new_name()
    folder.mkdir()
    return lambda: store(folder)


@pytest.fixture
def log(reopen: Open) -> Iterator[EventLog]:
    with reopen() as log:
        yield log


def test_every_kind_of_record_comes_back_as_it_was_appended(reopen: Open) -> None:
    with reopen() as log:
        assert list(log.append(EVERY_KIND, durable=True)) == [True] * len(EVERY_KIND)
    with reopen() as log:
        records = [line.record for line in log.read()]
    assert len(records) == len(EVERY_KIND)
    for user in ("k1", None):  # lines about nobody are in order, and so are those of a user
        assert [r for r in records if user_of(r) == user] == [
            r for r in EVERY_KIND if user_of(r) == user
        ]


def test_the_order_of_lines_stays_what_it_was_when_they_were_first_read(reopen: Open) -> None:
    rng, first = np.random.default_rng(5), list[LogLine]()
    for start in range(0, 200, 20):
        with reopen() as log:
            for at_ms in range(start, start + 20):
                user = UserKey(f"k{rng.integers(9)}")
                log.append([tick(at_ms)] if user == "k0" else [said(at_ms, user)], durable=False)
            if rng.random() < 0.7:  # otherwise they are read with the next ones
                first += log.read(after=first[-1].offset if first else 0, limit=37)
    with reopen() as log:
        lines = list(log.read())
        assert lines[: len(first)] == first
        assert [line.offset for line in lines] == list(range(1, 201))
        assert log.last_offset() == log.count() == 200
        for offset in (0, 1, 57, 199, 200):
            shards = log.shard_offsets(offset)
            assert sum(shards) == offset
    users = [line.record for line in lines if isinstance(line.record, FeedbackRecord)]
    for user in {record.user for record in users}:
        times = [record.at_ms for record in users if record.user == user]
        assert times == sorted(times)


def test_an_empty_log_has_no_lines(log: EventLog) -> None:
    assert list(log.read()) == []
    assert list(log.append([], durable=True)) == []


def test_offsets_grow_in_the_order_of_appending_also_over_a_restart(reopen: Open) -> None:
    for start in (0, 10, 20):
        with reopen() as log:
            log.append([tick(start + i) for i in range(10)], durable=False)
    with reopen() as log:
        lines = list(log.read())
    assert [line.record.at_ms for line in lines] == list(range(30))
    assert lines[0].offset > 0
    assert all(a.offset < b.offset for a, b in itertools.pairwise(lines))


def test_a_record_that_is_there_already_is_no_line(reopen: Open) -> None:
    with reopen() as log:
        records: list[Record] = [
            page(),
            feedback("e1"),
            feedback("e1", at_ms=99),
            feedback("e2"),
            page(),
        ]
        assert list(log.append(records, durable=True)) == [True, True, False, True, False]
    with reopen() as log:
        assert list(log.append([feedback("e2"), feedback("e3")], durable=True)) == [False, True]
        assert [line.record for line in log.read()] == [
            page(),
            feedback("e1"),
            feedback("e2"),
            feedback("e3"),
        ]


def test_an_event_id_is_the_client_s_own_within_its_page(log: EventLog) -> None:
    events = [feedback("e1", page="p"), feedback("e1", page="q")]
    assert list(log.append(events, durable=True)) == [True, True]


def test_any_number_of_events_of_one_page_can_be_appended_at_once(log: EventLog) -> None:
    events = [feedback(f"e{n}") for n in range(10_000)]
    assert all(log.append(events, durable=True))
    assert not any(log.append(events[::100], durable=True))
    assert log.count() == 10_000


def test_records_without_an_id_count_every_time(log: EventLog) -> None:
    assert list(log.append([tick(1), tick(1)], durable=True)) == [True, True]
    assert list(log.append([tick(1)], durable=True)) == [True]
    assert len(list(log.read())) == 3


@pytest.mark.parametrize("n", [1, BATCH_LINES - 1, BATCH_LINES, 2 * BATCH_LINES + 3])
@pytest.mark.slow
def test_reading_goes_on_after_any_offset_and_stops_at_any_limit(log: EventLog, n: int) -> None:
    log.append([tick(i) for i in range(n)], durable=False)
    lines = list(log.read())
    assert [line.record.at_ms for line in lines] == list(range(n))
    for place in {0, n // 2, n - 1}:
        assert list(log.read(after=lines[place].offset)) == lines[place + 1 :]
        assert list(log.read(limit=place)) == lines[:place]
        assert list(log.read(after=lines[place].offset, limit=2)) == lines[place + 1 : place + 3]
    assert list(log.read(after=lines[-1].offset)) == []
    assert list(log.read(limit=n)) == lines


def test_a_reader_that_appends_misses_nothing_and_meets_nothing_twice(log: EventLog) -> None:
    log.append([tick(at_ms) for at_ms in range(BATCH_LINES)], durable=True)
    seen = []
    for line in log.read():
        seen.append(line)
        if len(seen) <= 3:
            log.append([tick(BATCH_LINES + len(seen))], durable=False)
    seen += log.read(after=seen[-1].offset)
    assert seen == list(log.read())
    assert len(seen) == BATCH_LINES + 3


def test_threads_append_and_each_event_is_new_to_one_of_them(log: EventLog) -> None:
    new: list[bool] = []

    def append() -> None:
        for n in range(100):
            new.extend(log.append([feedback(f"e{n}")], durable=True))

    threads = [threading.Thread(target=append) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert (len(new), sum(new)) == (600, 100)
    assert len(list(log.read())) == 100


def test_a_line_says_when_it_was_written(log: EventLog) -> None:
    log.append([tick(3)], durable=True)
    assert list(log.read()) == [LogLine(1, tick(3), WRITTEN_MS)]


def test_the_last_offset_is_that_of_the_last_line(log: EventLog) -> None:
    assert log.last_offset() == 0
    log.append(EVERY_KIND, durable=True)
    assert log.last_offset() == max(line.offset for line in log.read())


def test_only_lines_of_the_kinds_that_were_asked_for_are_read(log: EventLog) -> None:
    for i in range(300):
        log.append([tick(i), feedback(f"e{i}"), ItemRecord(ItemId("a"), i)], durable=False)
    lines = list(log.read())

    def expected(*types: type[Record]) -> list[LogLine]:
        return [line for line in lines if isinstance(line.record, types)]

    assert list(log.read(kinds=["item"])) == expected(ItemRecord)
    assert list(log.read(kinds=["item", "item"])) == expected(ItemRecord)
    assert list(log.read(kinds={"tick", "item"})) == expected(TickRecord, ItemRecord)
    assert (
        list(log.read(after=700, limit=9, kinds=("feedback", "item", "page")))
        == [line for line in expected(FeedbackRecord, ItemRecord) if line.offset > 700][:9]
    )
    assert list(log.read(kinds=["user"])) == []
    assert list(log.read(kinds=[])) == []
