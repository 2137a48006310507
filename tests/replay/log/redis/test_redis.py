"""The log on Redis beside what every log must do: its order, its failures, what it refuses."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from lines import feedback, page, tick
from redises import Server, counted_trips, new_name, proxied, running, shared_url
from waiting import DEADLINE_S

from env.records import FORMAT_VERSION, ItemRecord, LogLine, Record
from env.vocabulary import ItemId, PageId, UserKey
from replay.log.redis.client import RedisClient, RedisError
from replay.log.redis.log import ROUND_LINES, NotDurable, RedisDatabase, RedisLog, find_pages
from replay.log.redis.writer import ITEMS, ShardTransaction
from replay.log.sqlite.log import LogCorruption


@pytest.fixture
def name() -> str:
    return new_name()


@pytest.fixture
def database(name: str) -> Iterator[RedisDatabase]:
    database = opened(name)
    yield database
    database.close()


def opened(name: str, url: str = "", n_shards: int = 3, *, make: bool = True) -> RedisDatabase:
    return RedisDatabase(
        url or shared_url(), lambda: 0, name=name, n_shards=n_shards, durable=True, make=make
    )


def said(at_ms: int, user: str) -> Record:
    return msgspec.structs.replace(feedback(f"e{at_ms}", at_ms=at_ms), user=UserKey(user))


def test_items_come_before_users_and_users_by_time_whatever_shard(
    database: RedisDatabase,
) -> None:
    log = RedisLog(database)
    for at_ms in range(40, 0, -1):  # the clocks of those who write disagree
        log.append([said(at_ms, f"u{at_ms % 5}")], durable=True)
    log.append([ItemRecord(ItemId("a"), 99), tick(98)], durable=True)
    lines = list(log.read())
    assert [line.record.at_ms for line in lines[:2]] == [99, 98]
    by_shard: dict[int, list[int]] = {}
    for line in lines[2:]:
        shard = database.shard_of(getattr(line.record, "user", ""))
        by_shard.setdefault(shard, []).append(line.record.at_ms)
    assert len(by_shard) > 1
    assert all(times == sorted(times, reverse=True) for times in by_shard.values())


def test_what_is_read_is_read_in_the_same_order_for_ever_by_everybody(name: str) -> None:
    """Readers of several processes write the order down while others append."""
    databases = [opened(name) for _ in range(3)]
    writing = threading.Event()
    writing.set()
    read: dict[int, list[LogLine]] = {}

    def append() -> None:
        log = RedisLog(databases[0])
        for at_ms in range(0, 2 * ROUND_LINES, 20):
            users = [f"u{(at_ms + k) % 7}" for k in range(20)]
            log.append([said(at_ms + k, user) for k, user in enumerate(users)], durable=False)
        writing.clear()

    def follow(reader: int) -> None:
        log, lines = RedisLog(databases[1 + reader % 2]), list[LogLine]()
        while writing.is_set() or log.last_offset() > len(lines):
            lines += log.read(after=lines[-1].offset if lines else 0, limit=300)
        read[reader] = lines

    threads = [threading.Thread(target=append)]
    threads += [threading.Thread(target=follow, args=(reader,)) for reader in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = list(RedisLog(databases[0]).read())
    assert len(again) == 2 * ROUND_LINES
    assert all(lines == again for lines in read.values())
    for database in databases:
        database.close()


def test_whoever_writes_the_order_down_fetches_no_line_twice(tmp_path: Path, name: str) -> None:
    with running(tmp_path) as server:
        database = opened(name, server.url)
        log = RedisLog(database)
        log.append([said(at_ms, f"u{at_ms}") for at_ms in range(20)] + [tick(1)], durable=True)
        reads = []
        for _ in ("writes it down", "finds it written"):
            database.client.ask("CONFIG", "RESETSTAT")
            assert len(list(log.read())) == 21
            told = database.client.ask("INFO", "commandstats")
            reads.append(told["cmdstat_xrange"]["calls"])
        assert reads[0] == reads[1]
        database.close()


def test_a_line_that_is_not_what_was_written_is_found(database: RedisDatabase) -> None:
    log = RedisLog(database)
    log.append([page(), feedback("e1")], durable=True)
    shard = database.shards[database.shard_of(page().user)]
    first, second = database.client.entries(shard.key("log"), 1, 2)
    second[1][b"l"] = second[1][b"l"][:-1] + b"\x7f"
    database.client.ask("DEL", shard.key("log"))
    for entry, fields in (first, second):
        flat = [part for field in fields.items() for part in field]
        database.client.ask("XADD", shard.key("log"), entry, *flat)
    lines = log.read()
    assert next(lines).record == page()
    with pytest.raises(LogCorruption, match="expected crc"):
        next(lines)


def test_another_number_of_shards_is_refused(name: str) -> None:
    opened(name).close()
    with pytest.raises(ValueError, match=r"expected 3 shards, .* got 4"):
        opened(name, n_shards=4)


def test_an_installation_that_is_missing_is_made_only_where_it_is_wanted(name: str) -> None:
    """A mistyped name leaves nothing behind, so that another number of shards is still free."""
    with pytest.raises(ValueError, match=rf"expected a log of {name}, found none"):
        opened(name, n_shards=4, make=False)
    opened(name, n_shards=3).close()
    opened(name, n_shards=3, make=False).close()


def test_a_log_that_a_newer_nextswipe_wrote_is_refused(name: str) -> None:
    database = opened(name)
    database.client.ask("HSET", database.shards[ITEMS].key("meta"), "format", 1 + FORMAT_VERSION)
    with pytest.raises(ValueError, match=f"{name}: expected log format .*: upgrade this one"):
        opened(name)
    database.close()


def n_connections(server: Server) -> int:
    client = RedisClient(server.url)
    n = int(client.ask("INFO", "clients")["connected_clients"])
    client.close()
    return n


def test_a_database_that_cannot_be_opened_leaves_no_connection(tmp_path: Path, name: str) -> None:
    with running(tmp_path) as server:
        before = n_connections(server)
        opened(name, server.url).close()
        client = RedisClient(server.url)
        client.ask("SET", f"{{{name}.{ITEMS}}}:head", "no hash")
        client.close()
        with pytest.raises(RedisError, match="WRONGTYPE") as failed:
            opened(name, server.url)
        assert failed.tb is not None, "which keeps alive what was not closed"
        assert n_connections(server) == before


def test_a_server_that_answers_before_a_write_is_on_disk_is_refused_unless_it_may(
    tmp_path: Path, name: str
) -> None:
    with running(tmp_path, appendfsync="everysec") as server:
        with pytest.raises(NotDurable, match=r"got appendfsync everysec: set it .*store\.durable"):
            opened(name, server.url)
        database = RedisDatabase(server.url, lambda: 0, name=name, n_shards=3, durable=False)
        assert RedisLog(database).append([tick(1)], durable=True) == [True]
        database.client.ask("CONFIG", "SET", "appendfsync", "always", "maxmemory", "100mb")
        database.client.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(NotDurable, match="evicts nothing when it is full"):
            opened(name, server.url)
        database.close()


def append_one(log: RedisLog, n: int) -> bool:
    """Append a line, and return whether it was acknowledged."""
    try:
        return log.append([said(n, f"u{n % 9}")], durable=True) == [True]
    except RedisError:
        return False


def test_what_was_acknowledged_is_there_after_the_server_is_killed(
    tmp_path: Path, name: str
) -> None:
    with running(tmp_path) as server:
        database = opened(name, server.url)
        log, acknowledged = RedisLog(database), 0
        for _ in range(3):
            stop = threading.Timer(0.2, server.kill)
            stop.start()
            while append_one(log, acknowledged):
                acknowledged += 1
            stop.join()
            server.start()
            found = sorted(line.record.at_ms for line in log.read())
            assert found[:acknowledged] == list(range(acknowledged))
            assert len(found) - acknowledged in {0, 1}, "at most the one in flight"
            acknowledged = len(found)
        assert acknowledged > 10
        database.close()


def test_the_position_of_every_shard_is_known_at_any_offset(database: RedisDatabase) -> None:
    log = RedisLog(database)
    for at_ms in range(60):
        log.append([said(at_ms, f"u{at_ms % 7}"), tick(at_ms)], durable=False)
    read = [0] * (1 + database.n_shards)
    assert log.shard_offsets(0) == tuple(read)
    for line in log.read():
        user = getattr(line.record, "user", "")
        read[database.shard_of(user) if user else ITEMS] += 1
        if line.offset % 7 == 0:
            assert log.shard_offsets(line.offset) == tuple(read)
    with pytest.raises(ValueError, match="expected an offset up to 120, got 121"):
        log.shard_offsets(121)


def test_pages_are_found_in_two_trips_however_many_they_are(tmp_path: Path, name: str) -> None:
    with running(tmp_path) as server:
        database = opened(name, server.url)
        pages = [msgspec.structs.replace(page(f"p{k}"), user=UserKey(f"u{k}")) for k in range(30)]
        RedisLog(database).append(pages, durable=True)
        assert len({database.shard_of(each.user) for each in pages}) == 3
        with counted_trips(server.url) as n_trips:
            found = find_pages(database, [*(each.page_id for each in pages), PageId("q")])
        assert found == {each.page_id: each for each in pages}
        assert n_trips == [2]
        database.close()


def held_up(database: RedisDatabase) -> threading.Event:
    """Keep the writer busy until the event is set: what is written meanwhile goes as one."""
    begun, may_end = threading.Event(), threading.Event()

    def wait(transaction: ShardTransaction) -> None:
        begun.set()
        may_end.wait(DEADLINE_S)

    database.write(wait, shard=1)
    assert begun.wait(DEADLINE_S)
    return may_end


def test_what_fails_on_one_shard_fails_only_what_was_for_that_one(name: str) -> None:
    database = opened(name, n_shards=4)
    database.client.ask("SET", database.shards[1].key("log"), "no stream")
    for number in (2, 4):
        database.client.ask("SET", database.shards[number].key("table:t"), "no hash")
    may_end = held_up(database)
    script = database.write(lambda shard: shard.append([tick(1)]), shard=1)
    read = database.write(lambda shard: shard.rows("t", ["key"]), shard=2)
    well = database.write(lambda shard: shard.append([tick(3)]), shard=3)
    ahead = database.write(lambda shard: shard.append([tick(4)]), shard=4, reads=[("t", "key")])
    may_end.set()
    assert well.result(10) == [True]
    for failed in (script, read, ahead):
        with pytest.raises(RedisError, match="WRONGTYPE"):
            failed.result(10)
    assert len(database.shards[3].lines(0, 9)) == 1
    database.close()


def test_a_page_that_comes_while_another_one_for_its_request_is_written_is_the_answer(
    database: RedisDatabase, name: str
) -> None:
    other, runs = opened(name), []

    def answer(shard: ShardTransaction) -> str:
        runs.append(shard.find_page("r"))
        if len(runs) == 1:
            other.write(lambda shard: shard.append([page("r2")]), shard=1).result(10)
        if runs[-1] is None:
            shard.append([page("r1")])
        return "r1" if runs[-1] is None else runs[-1].page_id

    assert database.write(answer, shard=1).result(10) == "r2"
    assert runs == [None, page("r2")]
    assert len(database.shards[1].lines(0, 9)) == 1
    other.close()


def test_a_change_of_an_item_of_which_not_all_shards_were_told_is_told_when_asked_again(
    database: RedisDatabase,
) -> None:
    """The takedown was committed, whoever asked for it heard 503, and the item is gone by then."""
    head = database.shards[1].key("head")
    database.client.ask("SET", head, "no hash")
    taken_down = database.write(
        lambda shard: shard.append([ItemRecord(ItemId("a"), 1)]), shard=ITEMS
    )
    with pytest.raises(RedisError, match="WRONGTYPE"):
        taken_down.result(10)
    database.client.ask("DEL", head)
    database.write(lambda shard: shard.rows("item", ["a"]), shard=ITEMS).result(10)
    assert database.shards[1].catalogue() == database.shards[ITEMS].catalogue() == 1


def test_a_commit_whose_answer_was_lost_is_not_written_or_judged_again(name: str) -> None:
    """Redis has it, the client hears nothing and sends it again."""
    with proxied(shared_url()) as proxy:
        database = opened(name, proxy.url)
        runs = []

        def move(shard: ShardTransaction) -> list[bytes | None]:
            runs.append(shard.rows("t", ["key"]))
            shard.put("t", "key", b"moved")
            shard.append([tick(1)])
            return runs[-1]

        proxy.drop(b"EVALSHA")
        assert database.write(move, shard=ITEMS).result(10) == [None]
        assert proxy.dropped
        assert runs == [[None]]
        assert len(list(RedisLog(database).read())) == 1
        assert database.write(move, shard=ITEMS).result(10) == [b"moved"]
        assert len(list(RedisLog(database).read())) == 2
        database.close()
