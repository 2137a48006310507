"""One shard of a log on Redis: its keys, what is read of it, and a transaction that writes to it.

A shard is a stream of lines, tables of rows (a hash each, every value behind the stamp of the write
that made it), and what finds lines again: for each page a hash of the ids that were said about it,
and the ids of all pages in order. Lines that name a person have their payload in a hash of that
person's beside the stream, since an entry of a stream cannot be overwritten and forgetting somebody
must.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from env.records import (
    BlockRecord,
    FeedbackRecord,
    Kind,
    PageRecord,
    Record,
    UserRecord,
    decode_record,
    encode_record,
)
from env.vocabulary import UserKey
from replay.log import LogCorruption, anonymous
from replay.redis_client import Client, Entry
from replay.redis_script import Change, ChangeLine

STAMP_BYTES = 8
_CRC_BYTES = 4

Key = tuple[str, str]
"""A row: its table and its key in it."""


class Line(NamedTuple):
    """A line as it stands in its shard.

    Attributes:
        offset: in the shard, from 1, without gaps.
        at_ms: of its record.
    """

    offset: int
    kind: str
    at_ms: int
    written_ms: int
    payload: bytes

    def record(self) -> Record:
        """Return the record.

        Raises:
            LogCorruption: it is not what was written.
        """
        crc, payload = self.payload[:_CRC_BYTES], self.payload[_CRC_BYTES:]
        if crc != _crc(payload):
            raise LogCorruption(self.offset, f"expected crc {crc.hex()}, got {_crc(payload).hex()}")
        try:
            return decode_record(payload)
        except msgspec.MsgspecError as error:
            raise LogCorruption(self.offset, f"the payload is no record ({error})") from error


class Shard:
    """What is read of one shard, as it is at each call."""

    def __init__(self, client: Client, name: str, number: int) -> None:
        """Read by a client, which returns bytes.

        Args:
            client: threads may share it.
            name: of the installation.
            number: of the shard.
        """
        self.client = client
        self.prefix = f"{{{name}.{number}}}:"

    def key(self, kind: str) -> str:
        """Return a key of this shard."""
        return f"{self.prefix}{kind}"

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows without their stamps; None where there is none."""
        rows = self.stamped_rows(table, keys)
        return [None if row is None else row[STAMP_BYTES:] for row in rows]

    def stamped_rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows behind their stamps; None where there is none."""
        if not keys:
            return []
        return self.client.some_fields(self.key(f"table:{table}"), list(keys))

    def table(self, table: str) -> dict[str, bytes]:
        """Return all rows of a table, without their stamps."""
        found = self.client.fields(self.key(f"table:{table}"))
        return {key.decode(): row[STAMP_BYTES:] for key, row in found.items()}

    def keys_of(self, table: str) -> list[str]:
        """Return the keys of all rows of a table."""
        found: list[bytes] = self.client.ask("HKEYS", self.key(f"table:{table}"))
        return [key.decode() for key in found]

    def totals(self) -> dict[str, int]:
        """Return what was added up."""
        found = self.client.fields(self.key("totals"))
        return {name.decode(): int(value) for name, value in found.items()}

    def catalogue(self) -> int:
        """Return the shard's mark of the catalogue."""
        return int(self.client.ask("HGET", self.key("head"), "catalogue") or 0)

    def said(self, page_id: str, events: Sequence[str]) -> list[int | None]:
        """Return the offsets of lines about a page, by their ids; the page's own is empty."""
        found = self.client.some_fields(self.key(f"said:{page_id}"), events)
        return [None if offset is None else int(offset) for offset in found]

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the page whose id begins so, the first by id of several, or None.

        Raises:
            LogCorruption: its line's crc or payload is wrong.
        """
        low, high = f"[{beginning}", f"[{beginning}\U0010ffff"
        command = ("ZRANGEBYLEX", self.key("pages"), low, high, "LIMIT", 0, 1)
        found: list[bytes] = self.client.ask(*command)
        if not found:
            return None
        (offset,) = self.said(found[0].decode(), [""])
        page = self.line(offset or 0).record()
        return page if isinstance(page, PageRecord) else None

    def lines(self, after: int, n: int) -> list[Line]:
        """Return the next lines behind an offset, at most n."""
        return self._lines(self.client.entries(self.key("log"), after + 1, n))

    def line(self, offset: int) -> Line:
        """Return one line."""
        (line,) = self.lines(offset - 1, 1)
        return line

    def _lines(self, entries: Sequence[Entry]) -> list[Line]:
        """Return entries of the stream as lines; payloads that stand beside it are fetched."""
        named = [(entry[b"u"].decode(), key) for key, entry in entries if b"u" in entry]
        beside: Iterator[bytes | None] = iter(
            self.client.ask_all(
                [("HGET", self.key(f"about:{user}"), _offset(key)) for user, key in named]
            )
        )
        return [
            Line(
                _offset(key),
                entry[b"k"].decode(),
                int(entry[b"a"]),
                int(entry[b"w"]),
                entry[b"p"] if b"p" in entry else next(beside) or b"",
            )
            for key, entry in entries
        ]


class ShardTransaction:
    """Reads one shard, and gathers what shall be written to it; see `replay.redis_script`.

    Several pieces of work run in one transaction, one after the other: each sees what those before
    it wrote, and one that fails is taken back alone.
    """

    def __init__(self, shard: Shard, written_ms: int, *, asks: bool = True) -> None:
        """Begin with nothing.

        Args:
            shard: that it is about.
            written_ms: the wall clock, for `LogLine.written_ms`.
            asks: look up which lines are there already, which costs a trip; otherwise none is taken
                to be, and where one is, the commit is refused.
        """
        self._asks = asks
        self.shard = shard
        self.change = Change()
        self._written_ms = written_ms
        self._read: dict[Key, bytes | None] = {}
        self._work = Change()

    # --- reading ---

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows without their stamps; None where there is none."""
        self._fetch(table, [key for key in keys if (table, key) not in self._read])
        return [self._row((table, key)) for key in keys]

    def catalogue(self) -> int:
        """Return the shard's mark of the catalogue."""
        if self.change.catalogue < 0:
            self.change.catalogue = self.shard.catalogue()
        return self.change.catalogue

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the page whose id begins so, the first by id of several, or None.

        Whether another one comes meanwhile is not checked: it moves its person's state.
        """
        stored = self.shard.find_page(beginning)
        ours = (
            decode_record(payload[_CRC_BYTES:])
            for kind, _, _, payload, _, page_id, _ in self._lines()
            if kind == "page" and page_id.startswith(beginning)
        )
        pages = [page for page in (stored, *ours) if isinstance(page, PageRecord)]
        return min(pages, key=lambda page: page.page_id, default=None)

    # --- writing ---

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """Write a row; None: there is none any more."""
        self._work.rows[table, key] = value

    def add_totals(self, totals: Iterable[tuple[str, int]]) -> None:
        """Add to what is added up."""
        for name, n in totals:
            self._work.totals[name] = self._work.totals.get(name, 0) + n

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append lines and return record by record whether it was new."""
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
        """Overwrite what names a person, beside the stream, and return in how many lines.

        The append-only file holds the old bytes until Redis rewrites it.

        Raises:
            LogCorruption: a line of theirs has a wrong crc or payload.
        """
        found = self.shard.client.fields(self.shard.key(f"about:{user}"))
        for offset, payload in found.items():
            record = Line(int(offset), "", 0, 0, payload).record()
            self._work.edits.append((user, offset.decode(), _packed(anonymous(record))))
        for place, line in enumerate(self.change.lines):
            if line[4] == user:
                fresh = _packed(anonymous(decode_record(line[3][_CRC_BYTES:])))
                self.change.lines[place] = (*line[:3], fresh, *line[4:])
        return len(found)

    # --- one piece of work after the other ---

    def keep(self) -> None:
        """Let what the present piece of work wrote be part of the transaction."""
        work, change = self._work, self.change
        change.lines += work.lines
        change.said |= work.said
        change.rows |= work.rows
        change.edits += work.edits
        for name, n in work.totals.items():
            change.totals[name] = change.totals.get(name, 0) + n
        self._work = Change()

    def drop(self) -> None:
        """Take back what the present piece of work wrote; what it read stays to be checked."""
        self._work = Change()

    def _fetch(self, table: str, keys: list[str]) -> None:
        for key, row in zip(keys, self.shard.stamped_rows(table, keys), strict=True):
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
        """Return those of the keys of lines that are taken, in the shard or in this transaction."""
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
        said = ("", "") if key is None else key
        line = (kind, record.at_ms, self._written_ms, _packed(record), about, *said)
        self._work.lines.append(line)
        if key is not None:
            self._work.said.add(key)


def said_key(record: Record) -> Key | None:
    """Return the page and the id by which a line is idempotent; None: every append counts."""
    match record:
        case PageRecord():
            return record.page_id, ""
        case FeedbackRecord():
            return record.decision_id.rpartition(":")[0], record.event_id
        case _:
            return None


def is_kind(line: Line, kinds: Collection[Kind] | None) -> bool:
    """Return whether a line is of one of these kinds; None: all kinds."""
    return kinds is None or line.kind in kinds


def _packed(record: Record) -> bytes:
    payload = encode_record(record)
    return _crc(payload) + payload


def _crc(payload: bytes) -> bytes:
    return zlib.crc32(payload).to_bytes(_CRC_BYTES, "little")


def _offset(key: bytes) -> int:
    return int(key.partition(b"-")[0])
