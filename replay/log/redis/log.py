"""The order in which the lines of all shards are read, written down round by round.

A line may reach its shard after later ones were read elsewhere, so no rule could reconstruct the
order that a learner saw. The order is therefore part of the log: the first reader past the last
round writes the next one, and all readers follow it. Rules and rejected alternatives:
`docs/decisions/redis-log.md`.
"""

import heapq
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from env.interface import PageHistory
from env.records import (
    CATALOGUE_KINDS,
    FORMAT_VERSION,
    FeedbackRecord,
    ItemRecord,
    Kind,
    LogLine,
    PageRecord,
    ProjectionRecord,
    Record,
    TickRecord,
)
from env.vocabulary import PageId, split_decision_id
from replay.log.format import require_known_format
from replay.log.redis.client import ROUND, Entry, RedisClient, ResponseError
from replay.log.redis.shard import Key, Shard, ShardLine, is_kind
from replay.log.redis.writer import ITEMS, Job, ShardTransaction, Work, Writer, raise_marks
from replay.log.shards import gather, scatter

T = TypeVar("T")
_MEMORY = ("maxmemory", "maxmemory-policy")
_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class NotDurable(ValueError):  # noqa: N818  # a state, not a mistake
    """The server answers before a write is on disk."""


class LogNotFound(ValueError):  # noqa: N818  # a state, not a mistake
    """There is no installation with this name."""


class RedisDatabase:
    """An open installation on a Redis server; threads share it, and each process opens its own."""

    def __init__(
        self,
        url: str,
        now_ms: Callable[[], int],
        *,
        name: str,
        n_shards: int,
        durable: bool,
        make: bool = True,
    ) -> None:
        """Connect and start the writer.

        Args:
            url: redis://[user:password@]host[:port][/number]; rediss:// for TLS.
            now_ms: wall clock, for `LogLine.written_ms`.
            name: installation; one server may hold several.
            n_shards: shards of users, fixed when the installation is created.
            durable: raise NotDurable if the server replies before a write is on disk.
            make: create a missing installation; otherwise raise NoLog and write nothing.

        Raises:
            ValueError: another number of shards, or a newer nextswipe wrote it.
            RedisError: the server cannot be reached.
        """
        self.client = RedisClient(url)
        self.n_shards = n_shards
        self.shards = [Shard(self.client, name, number) for number in range(n_shards + 1)]
        try:
            if durable:
                _require_durable(self.client)
            if make:
                _make(self.client, self.shards[ITEMS].key("meta"), n_shards)
            _require_known(self.client, self.shards[ITEMS].key("meta"), name, n_shards)
            raise_marks(self.client, self.shards)
            self._writer = Writer(self.client, self.shards, now_ms)
        except BaseException:
            self.client.close()
            raise

    @property
    def is_closed(self) -> bool:
        """Whether writes are refused."""
        return self._writer.is_closed

    def shard_of(self, name: str) -> int:
        """Return the shard, from 1, of a user given by the caller's id or the pseudonym."""
        return 1 + zlib.crc32(name.encode()) % self.n_shards

    def write(self, work: Work[T], *, shard: int, reads: Sequence[Key] = ()) -> Future[T]:
        """Queue a function; its future resolves with the function's result after the commit.

        A function that raises is rolled back and fails only its own future; a failed commit fails
        all that were in it. It may run several times, and the last run counts.

        Args:
            work: called with a transaction.
            shard: shard that it reads and writes.
            reads: rows that it will probably read; those of all queued functions are fetched in one
                round trip.

        Raises:
            RuntimeError: the database is closed.
        """
        return self._writer.write(Job(work, shard, tuple(reads), Future[T]()))

    def close(self) -> None:
        """Commit queued work, stop the thread and disconnect; a second call does nothing."""
        self._writer.close()
        self.client.close()


def _require_durable(client: RedisClient) -> None:
    try:
        found = {name: client.setting(name) for name in (*_SETTINGS, *_MEMORY)}
    except ResponseError as error:
        raise NotDurable(
            f"expected to read the server's settings (CONFIG GET), got: {error}; allow it, or say "
            "that acknowledged writes may be lost (store.durable = false)"
        ) from error
    wrong = [f"{name} {found[name]}" for name in _SETTINGS if found[name] != _SETTINGS[name]]
    if wrong:
        expected = ", ".join(f"{name} {value}" for name, value in _SETTINGS.items())
        raise NotDurable(
            f"expected a Redis that has a write on disk before it answers ({expected}), got "
            f"{', '.join(wrong)}: set it (CONFIG SET, and in its file), or say that acknowledged "
            "writes may be lost (store.durable = false)"
        )
    if found["maxmemory"] != "0" and found["maxmemory-policy"] != "noeviction":
        raise NotDurable(
            "expected a Redis that evicts nothing when it is full, got maxmemory-policy "
            f"{found['maxmemory-policy']}: set noeviction"
        )


def _make(client: RedisClient, meta: str, n_shards: int) -> None:
    fields = {"format": FORMAT_VERSION, "shards": n_shards}
    client.ask_all([("HSETNX", meta, field, value) for field, value in fields.items()])


def _require_known(client: RedisClient, meta: str, name: str, n_shards: int) -> None:
    found = {field.decode(): int(value) for field, value in client.fields(meta).items()}
    if not found:
        raise LogNotFound(f"expected a log of {name}, found none (store.name)")
    require_known_format(found["format"], name)
    if found["shards"] != n_shards:
        raise ValueError(
            f"expected {found['shards']} shards, with which {name} was made, got {n_shards}: where "
            "a user is cannot change (store.shards)"
        )


ROUND_LINES = 1_000
_ROUNDS_READ = 64


class OrderedLine(NamedTuple):
    """A line with its offset in the order and its shard."""

    offset: int
    shard: int
    line: ShardLine


class MergeRound(NamedTuple):
    """A stretch of the order: in each shard the lines after `start`, up to `end`."""

    start: tuple[int, ...]
    end: tuple[int, ...]


class MergeOrder:
    """The order of the lines of one installation."""

    def __init__(self, database: RedisDatabase) -> None:
        self._client = database.client
        self._shards: Sequence[Shard] = database.shards
        self._key = database.shards[ITEMS].key("order")

    def read(self, after: int) -> Iterator[OrderedLine]:
        """Yield the lines after an offset, up to the current end of all shards."""
        while True:
            stretches = [self.lines(stretch) for stretch in self._rounds(after)]
            if not stretches:
                extended = self._extend(after)
                if extended is None:
                    return
                stretches = [iter(extended)]
            for placed in chain.from_iterable(stretches):
                if placed.offset > after:
                    yield placed
                    after = placed.offset

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset at this offset; raise ValueError if the log is shorter."""
        reached = list(self._start(offset))
        for placed in self.read(sum(reached)):
            if sum(reached) == offset:
                break
            reached[placed.shard] += 1
        if sum(reached) != offset:
            raise ValueError(f"expected an offset up to {sum(reached)}, got {offset}")
        return tuple(reached)

    def last_offset(self) -> int:
        """Return the number of lines in all shards."""
        return sum(self._heads(range(len(self._shards))))

    def lines(self, stretch: MergeRound) -> Iterator[OrderedLine]:
        """Yield the lines of a round, in order."""
        parts = [
            self._lines(shard, start, end - start)
            for shard, (start, end) in enumerate(zip(stretch.start, stretch.end, strict=True))
        ]
        yield from _placed(_merged(parts), stretch.start)

    def _lines(self, shard: int, after: int, n: int) -> list[ShardLine]:
        lines = self._shards[shard].lines(after, n) if n else []
        if len(lines) != n:
            raise RuntimeError(
                f"expected {n} lines behind {after} in shard {shard}, got {len(lines)}"
            )
        return lines

    def _rounds(self, after: int) -> list[MergeRound]:
        """Return the recorded rounds, beginning with the one of the line after an offset."""
        entries = self._client.entries(self._key, after + 1, _ROUNDS_READ)
        start, rounds = self._start(after), []
        for _, entry in entries:
            end = _vector(entry[b"v"])
            rounds.append(MergeRound(start, end))
            start = end
        return rounds

    def _start(self, after: int) -> tuple[int, ...]:
        return self._end(self._client.last_entry(self._key, f"{after}-0"))

    def _extend(self, after: int) -> list[OrderedLine] | None:
        """Record the round after an offset and return its lines, or None if there are none.

        An empty list means that another reader recorded it first, and that one counts.
        """
        last = self._client.last_entry(self._key)
        start = self._end(last)
        if sum(start) > after:
            return []
        users = self._heads(range(ITEMS + 1, len(self._shards)))
        (items,) = self._heads([ITEMS])  # read after the users' shards: an item precedes its pages
        heads = (items, *users)
        if heads == start:
            return None
        lines = self._next(start, heads)
        end = list(start)
        for shard, _ in lines:
            end[shard] += 1
        expected = last[0] if last else b"0-0"
        bounds = " ".join(map(str, end))
        is_ours = self._client.ask("EVAL", ROUND, 1, self._key, expected, f"{sum(end)}-0", bounds)
        return list(_placed(lines, start)) if is_ours else []

    def _end(self, entry: Entry | None) -> tuple[int, ...]:
        return (0,) * len(self._shards) if entry is None else _vector(entry[1][b"v"])

    def _next(self, start: tuple[int, ...], heads: tuple[int, ...]) -> list[tuple[int, ShardLine]]:
        """Return a round's lines: `ROUND_LINES` of items, or all of them and as many of users."""
        n_items = min(heads[ITEMS] - start[ITEMS], ROUND_LINES)
        n_users = ROUND_LINES if n_items < ROUND_LINES else 0
        most = [n_items] + [n_users] * (len(start) - 1)
        parts = [
            self._lines(shard, after, min(head - after, n))
            for shard, (after, head, n) in enumerate(zip(start, heads, most, strict=True))
        ]
        return list(islice(_merged(parts), n_items + n_users))

    def _heads(self, shards: Sequence[int]) -> tuple[int, ...]:
        keys = [self._shards[shard].key("head") for shard in shards]
        offsets = self._client.ask_all([("HGET", key, "offset") for key in keys])
        return tuple(int(offset or 0) for offset in offsets)


def _merged(parts: Sequence[Sequence[ShardLine]]) -> Iterator[tuple[int, ShardLine]]:
    """Yield lines with their shards: items first, then by time, the lower shard first."""
    yield from ((ITEMS, line) for line in parts[ITEMS])
    users = [[(shard, line) for line in part] for shard, part in enumerate(parts) if shard > ITEMS]
    yield from heapq.merge(*users, key=lambda found: (found[1].at_ms, found[0]))


def _placed(
    lines: Iterable[tuple[int, ShardLine]], start: tuple[int, ...]
) -> Iterator[OrderedLine]:
    for place, (shard, line) in enumerate(lines, sum(start) + 1):
        yield OrderedLine(place, shard, line)


def _vector(text: bytes) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


READ_LINES = 512


class RedisLog:
    """The `EventLog` of one installation, which any number of processes may append to and read."""

    def __init__(self, database: RedisDatabase) -> None:
        """Take a database, which the caller owns and keeps open."""
        self._database = database
        self._order = MergeOrder(database)

    def append(self, records: Sequence[Record], *, durable: bool) -> list[bool]:
        """Append and return for each record whether it was new, once all are on disk."""
        shards = [self._shard_of(record) for record in records]
        writings = {
            shard: self._database.write(_appending(part), shard=shard)
            for shard, part in scatter(records, shards).items()
        }
        return gather({shard: writing.result() for shard, writing in writings.items()}, shards)

    def read(
        self, after: int = 0, limit: int | None = None, kinds: Collection[Kind] | None = None
    ) -> Iterator[LogLine]:
        """Yield lines with an offset greater than `after`, in order, up to the log's end.

        Args:
            after: 0 for the whole log.
            limit: largest number of lines; None: no limit.
            kinds: only lines of these kinds; None: all kinds.

        Raises:
            LogCorruption: a line's crc or payload is wrong; the lines before it were yielded.
        """
        left = limit
        if limit == 0 or (kinds is not None and not kinds):
            return
        for placed in self._order.read(after):
            if is_kind(placed.line, kinds):
                yield LogLine(placed.offset, placed.line.record(), placed.line.written_ms)
                left = None if left is None else left - 1
            if left == 0:
                return

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield up to `limit` lines about items after an offset in their own shard."""
        left = limit
        while left > 0:
            lines = self._database.shards[ITEMS].lines(after, READ_LINES)
            for line in lines:
                after = line.offset
                if line.kind in CATALOGUE_KINDS and left > 0:
                    left -= 1
                    yield LogLine(line.offset, line.record(), line.written_ms)
            if len(lines) < READ_LINES:
                return

    def last_offset(self) -> int:
        """Return the offset of the last line, or 0 if the log is empty."""
        return self._order.last_offset()

    def count(self) -> int:
        """Return the number of lines."""
        return self._order.last_offset()

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset once all lines up to this offset are read; they sum to it."""
        return self._order.shard_offsets(offset)

    def _shard_of(self, record: Record) -> int:
        if isinstance(record, ItemRecord | ProjectionRecord | TickRecord):
            return ITEMS
        return self._database.shard_of(record.user)


def _appending(records: Sequence[Record]) -> Callable[[ShardTransaction], list[bool]]:
    return lambda transaction: transaction.append(records)


def find_history(database: RedisDatabase, event: FeedbackRecord) -> PageHistory | None:
    """Return the page of a logged event, and the events about it that precede this one.

    All are in the shard of their user, whose order is that of the log. It takes two round trips.

    Raises:
        LogCorruption: a line's crc or payload is wrong.
    """
    shard = database.shards[database.shard_of(event.user)]
    page_id, _ = split_decision_id(event.decision_id)
    found = database.client.fields(shard.key(f"said:{page_id}"))
    offsets = {name.decode(): int(offset) for name, offset in found.items()}
    begin, end = offsets.pop("", None), offsets.get(event.event_id, 0)
    if begin is None or begin >= end:
        return None
    wanted = [begin, *sorted(offset for offset in offsets.values() if begin < offset < end)]
    entries = database.client.ask_all([shard.ask_entry(offset) for offset in wanted])
    page, *events = (line.record() for its in entries for line in shard.unpacked(its))
    if not isinstance(page, PageRecord):
        return None
    return PageHistory(page, tuple(e for e in events if isinstance(e, FeedbackRecord)))


def find_pages(database: RedisDatabase, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
    """Return the pages with these ids, leaving out missing ones.

    A page id does not determine its shard, so all shards are queried: one round trip for the
    offsets and one for the lines.

    Raises:
        LogCorruption: a line's crc or payload is wrong.
    """
    client, users = database.client, database.shards[ITEMS + 1 :]
    asked = [(page_id, shard) for page_id in page_ids for shard in users]
    offsets = client.ask_all(
        [("HGET", shard.key(f"said:{page_id}"), "") for page_id, shard in asked]
    )
    places = [
        (page_id, shard, int(offset))
        for (page_id, shard), offset in zip(asked, offsets, strict=True)
        if offset is not None
    ]
    entries = client.ask_all([shard.ask_entry(offset) for _, shard, offset in places])
    found: dict[PageId, PageRecord] = {}
    for (page_id, shard, _), its in zip(places, entries, strict=True):
        for line in shard.unpacked(its):
            record = line.record()
            if isinstance(record, PageRecord):
                found[page_id] = record
    return found
