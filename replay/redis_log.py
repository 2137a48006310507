"""The event log on Redis: one stream per shard, read in the order of `replay.redis_order`.

It gives the same guarantees as the log on SQLite (`replay.log`), with one exception: records
appended together for different shards are atomic within each shard only.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from env.records import ItemRecord, Kind, LogLine, PageRecord, Record, TickRecord
from env.vocabulary import PageId
from replay.redis_database import RedisDatabase
from replay.redis_line import is_kind
from replay.redis_order import MergeOrder
from replay.redis_transaction import ShardTransaction
from replay.redis_writer import ITEMS
from replay.scatter import gather, scatter

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
                if line.kind == "item" and left > 0:
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
        if isinstance(record, ItemRecord | TickRecord):
            return ITEMS
        return self._database.shard_of(record.user)


def _appending(records: Sequence[Record]) -> Callable[[ShardTransaction], list[bool]]:
    return lambda transaction: transaction.append(records)


def find_pages(database: RedisDatabase, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
    """Return the pages with these ids, leaving out missing ones.

    A page id does not determine its shard, so all shards are queried: one round trip for the
    offsets and one for the lines.

    Raises:
        LogCorruption: a line's crc or payload is wrong.
    """
    client, people = database.client, database.shards[ITEMS + 1 :]
    asked = [(page_id, shard) for page_id in page_ids for shard in people]
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
