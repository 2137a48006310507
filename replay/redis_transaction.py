"""A transaction on one shard: its reads, and the writes that it gathers."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from env.records import BlockRecord, FeedbackRecord, PageRecord, Record, UserRecord
from env.vocabulary import UserKey
from replay.redis_line import Line, pack, unnamed
from replay.redis_script import Change, ChangeLine
from replay.redis_shard import STAMP_BYTES, Ahead, Key, Shard


class ShardTransaction:
    """Reads one shard and gathers writes for the script of `replay.redis_script`.

    Several jobs run in one transaction in turn: each sees the writes of those before it, and one
    that fails is rolled back alone.
    """

    def __init__(self, shard: Shard, written_ms: int, ahead: Ahead, *, asks: bool) -> None:
        """Begin without reads or writes.

        Args:
            shard: shard to read and write.
            written_ms: wall clock, for `LogLine.written_ms`.
            ahead: data already read from the shard.
            asks: look up existing lines and pages, at one round trip each; otherwise assume that
                none exists, and the commit is refused if one does.
        """
        self._asks = asks
        self.shard = shard
        self.change = Change()
        self._written_ms = written_ms
        self._marks = ahead.catalogue, ahead.items
        self._ahead = dict(ahead.rows)
        self._read: dict[Key, bytes | None] = {}
        self._work = Change()
        self._forgotten: set[UserKey] = set()

    # --- reading ---

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows without their stamps; None for a missing one."""
        self._fetch(table, [key for key in keys if (table, key) not in self._read])
        return [self._row((table, key)) for key in keys]

    def catalogue(self) -> int:
        """Return the shard's catalogue mark, which the commit will check."""
        self.change.catalogue, _ = self._marks
        return self.change.catalogue

    def items_catalogue(self) -> int:
        """Return the catalogue mark of the shard of items, unchecked."""
        return self._marks[1]

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the first page by id with this id prefix, or None."""
        stored = self.shard.find_page(beginning) if self._asks else None
        if stored is None:
            self.change.fresh.add(beginning)
        ours = (
            Line.unpacked(0, line.payload).record()
            for line in self._lines()
            if line.kind == "page" and line.page.startswith(beginning)
        )
        pages = [page for page in (stored, *ours) if isinstance(page, PageRecord)]
        return min(pages, key=lambda page: page.page_id, default=None)

    # --- writing ---

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """Write a row; None deletes it."""
        self._work.rows[table, key] = value

    def add_totals(self, totals: Iterable[tuple[str, int]]) -> None:
        """Add to the counters."""
        for name, n in totals:
            self._work.totals[name] = self._work.totals.get(name, 0) + n

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append lines and return for each record whether it was new."""
        keys = [said_key(record) for record in records]
        taken = self._taken([key for key in keys if key is not None])
        is_new = []
        for record, key in zip(records, keys, strict=True):
            is_new.append(key is None or key not in taken)
            if key is None or key not in taken:
                self._add(record, key)
                taken |= set() if key is None else {key}
        return is_new

    def forget(self, user: UserKey) -> int:
        """Overwrite the fields that identify a user and return the number of lines.

        The append-only file holds the old bytes until Redis rewrites it.

        Raises:
            LogCorruption: one of the user's lines has a wrong crc or payload.
        """
        found = self.shard.client.fields(self.shard.key(f"about:{user}"))
        for offset, payload in found.items():
            self._work.edits.append((user, offset.decode(), unnamed(payload, int(offset))))
        n_ours = sum(line.about == user for line in self._lines())
        self._work.lines = _without_name(self._work.lines, user)
        self._forgotten.add(user)
        return len(found) + n_ours

    # --- jobs in turn ---

    def keep(self) -> None:
        """Add the current job's writes to the transaction."""
        work, change = self._work, self.change
        for user in self._forgotten:
            change.lines = _without_name(change.lines, user)
        change.lines += work.lines
        change.said |= work.said
        change.rows |= work.rows
        change.edits += work.edits
        for name, n in work.totals.items():
            change.totals[name] = change.totals.get(name, 0) + n
        self.drop()

    def drop(self) -> None:
        """Begin the next job; without `keep`, the current one's writes are rolled back.

        Its reads are still checked.
        """
        self._work, self._forgotten = Change(), set()

    def _fetch(self, table: str, keys: list[str]) -> None:
        missing = [key for key in keys if (table, key) not in self._ahead]
        rows = zip(missing, self.shard.stamped_rows(table, missing), strict=True)
        self._ahead.update({(table, key): row for key, row in rows})
        for key in keys:
            row = self._ahead[table, key]
            self.change.seen[table, key] = b"" if row is None else row[:STAMP_BYTES]
            self._read[table, key] = None if row is None else row[STAMP_BYTES:]

    def _row(self, key: Key) -> bytes | None:
        for rows in (self._work.rows, self.change.rows):
            if key in rows:
                return rows[key]
        return self._read[key]

    def _lines(self) -> Iterator[ChangeLine]:
        yield from self.change.lines
        yield from self._work.lines

    def _taken(self, keys: Sequence[Key]) -> set[Key]:
        taken = {key for key in keys if key in self.change.said or key in self._work.said}
        others = [key for key in dict.fromkeys(keys) if key not in taken]
        if not self._asks:
            self.change.free.update(others)
            return taken
        by_page: dict[str, list[str]] = {}
        for page_id, event in others:
            by_page.setdefault(page_id, []).append(event)
        found = self.shard.client.ask_all(
            [("HMGET", self.shard.key(f"said:{page}"), *names) for page, names in by_page.items()]
        )
        for (page_id, events), offsets in zip(by_page.items(), found, strict=True):
            for event, offset in zip(events, offsets, strict=True):
                (self.change.free if offset is None else taken).add((page_id, event))
        return taken

    def _add(self, record: Record, key: Key | None) -> None:
        about = record.user if isinstance(record, UserRecord | BlockRecord) else ""
        kind = str(record.__struct_config__.tag)
        packed = pack(record, self._written_ms)
        self._work.lines.append(ChangeLine(kind, packed, about, *(key or ("", ""))))
        if key is not None:
            self._work.said.add(key)


def _without_name(lines: Iterable[ChangeLine], user: UserKey) -> list[ChangeLine]:
    return [
        line._replace(payload=unnamed(line.payload)) if line.about == user else line
        for line in lines
    ]


def said_key(record: Record) -> Key | None:
    """Return the page and event id that make a line idempotent; None: every append counts."""
    match record:
        case PageRecord():
            return record.page_id, ""
        case FeedbackRecord():
            return record.decision_id.rpartition(":")[0], record.event_id
        case _:
            return None
