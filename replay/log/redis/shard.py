"""One shard of a log on Redis: its keys and its reads.

A shard is a stream of lines, one hash per table with a stamp before each row, and an index of lines
by page and event id. Lines that identify a user stand in a hash of that user, because stream
entries cannot be overwritten and a user must be forgettable.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from env.records import Kind, PageRecord, Record, encode_record
from replay.log.redis.client import Command, Entry, RedisClient
from replay.log.sqlite.log import LogCorruption, anonymous, checked_record

_HEAD = struct.Struct("<cqqI")
"""Header of a payload: kind, time of the record, time of writing, crc."""

_LETTERS: dict[Kind, bytes] = {
    "page": b"p",
    "feedback": b"f",
    "item": b"i",
    "projection": b"j",
    "user": b"u",
    "block": b"b",
    "history": b"h",
    "tick": b"t",
}

_KINDS = {letter: kind for kind, letter in _LETTERS.items()}


class ShardLine(NamedTuple):
    """A line as stored in its shard."""

    offset: int  # in the shard, from 1, without gaps
    kind: str  # of its record
    at_ms: int  # of its record
    written_ms: int
    crc: int  # CRC-32 of the payload
    payload: bytes

    @classmethod
    def unpacked(cls, offset: int, packed: bytes) -> "ShardLine":
        """Return a line that `pack` encoded, or raise LogCorruption if it is too short."""
        if len(packed) < _HEAD.size:
            raise LogCorruption(offset, f"expected {_HEAD.size} bytes or more, got {len(packed)}")
        kind, at_ms, written_ms, crc = _HEAD.unpack_from(packed)
        return cls(offset, _KINDS.get(kind, ""), at_ms, written_ms, crc, packed[_HEAD.size :])

    def record(self) -> Record:
        """Return the record, or raise LogCorruption if its crc or payload is wrong."""
        return checked_record(self.offset, self.crc, self.payload)


def pack(record: Record, written_ms: int) -> bytes:
    """Return the encoded line that `ShardLine.unpacked` reads."""
    kind: Kind = record.__struct_config__.tag  # type: ignore[assignment]  # it is one of them
    payload = encode_record(record)
    head = _HEAD.pack(_LETTERS[kind], record.at_ms, written_ms, zlib.crc32(payload))
    return head + payload


def unnamed(packed: bytes, offset: int = 0) -> bytes:
    """Return a line without the fields that identify a user; raise LogCorruption if damaged."""
    line = ShardLine.unpacked(offset, packed)
    return pack(anonymous(line.record()), line.written_ms)


def is_kind(line: ShardLine, kinds: Collection[Kind] | None) -> bool:
    """Return whether a line is of one of these kinds; None: any kind."""
    return kinds is None or line.kind in kinds


STAMP_BYTES = 8
LAST_CHARACTER = "\U0010ffff"
"""Appended to a prefix, it sorts after every string with that prefix."""

Key = tuple[str, str]
"""A row, as its table and its key."""


class Prefetched(NamedTuple):
    """Data read from a shard before the transaction asked for it."""

    rows: Mapping[Key, bytes | None]  # with their stamps
    catalogue: int  # the shard's catalogue mark
    items: int  # the catalogue mark of the shard of items


class Shard:
    """Reads of one shard's current state."""

    def __init__(self, client: RedisClient, name: str, number: int) -> None:
        """Read by a client, which returns bytes."""
        self.client = client
        self.prefix = f"{{{name}.{number}}}:"

    def key(self, kind: str) -> str:
        """Return a key of this shard."""
        return f"{self.prefix}{kind}"

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows without their stamps; None for a missing one."""
        rows = self.stamped_rows(table, keys)
        return [None if row is None else row[STAMP_BYTES:] for row in rows]

    def stamped_rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows with their stamps; None for a missing one."""
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
        """Return the counters."""
        found = self.client.fields(self.key("totals"))
        return {name.decode(): int(value) for name, value in found.items()}

    def catalogue(self) -> int:
        """Return the shard's catalogue mark."""
        return int(self.client.ask("HGET", self.key("head"), "catalogue") or 0)

    def said(self, page_id: str, events: Sequence[str]) -> list[int | None]:
        """Return the offsets of a page's lines by event id; the page's own id is empty."""
        found = self.client.some_fields(self.key(f"said:{page_id}"), events)
        return [None if offset is None else int(offset) for offset in found]

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the first page with this id prefix, or None; raise LogCorruption if damaged."""
        low, high = f"[{beginning}", f"[{beginning}{LAST_CHARACTER}"
        command = ("ZRANGEBYLEX", self.key("pages"), low, high, "LIMIT", 0, 1)
        found: list[bytes] = self.client.ask(*command)
        if not found:
            return None
        (offset,) = self.said(found[0].decode(), [""])
        page = self.line(offset or 0).record()
        return page if isinstance(page, PageRecord) else None

    def ask_ahead(self, items: "Shard", keys: Sequence[Key]) -> list[Command]:
        """Return the commands for marks and rows, whose replies `read_ahead` takes."""
        rows = [("HGET", self.key(f"table:{table}"), key) for table, key in keys]
        return [*(("HGET", shard.key("head"), "catalogue") for shard in (self, items)), *rows]

    def lines(self, after: int, n: int) -> list[ShardLine]:
        """Return up to n lines after an offset."""
        return self.unpacked(self.client.entries(self.key("log"), after + 1, n))

    def line(self, offset: int) -> ShardLine:
        """Return one line."""
        (line,) = self.lines(offset - 1, 1)
        return line

    def ask_entry(self, offset: int) -> Command:
        """Return the command for one line, whose reply `unpacked` takes."""
        return "XRANGE", self.key("log"), f"{offset}-0", f"{offset}-0"

    def unpacked(self, entries: Sequence[Entry]) -> list[ShardLine]:
        """Return entries of the stream as lines, fetching payloads stored beside it."""
        named = [(entry[b"u"].decode(), key) for key, entry in entries if b"u" in entry]
        beside: Iterator[bytes | None] = iter(
            self.client.ask_all(
                [("HGET", self.key(f"about:{user}"), _offset(key)) for user, key in named]
            )
        )
        return [
            ShardLine.unpacked(_offset(key), entry[b"l"] if b"l" in entry else next(beside) or b"")
            for key, entry in entries
        ]


def read_ahead(keys: Sequence[Key], answers: Sequence[Any]) -> Prefetched:
    """Return the replies to `Shard.ask_ahead` as a record."""
    catalogue, items, *rows = answers
    return Prefetched(dict(zip(keys, rows, strict=True)), int(catalogue or 0), int(items or 0))


def _offset(key: bytes) -> int:
    return int(key.partition(b"-")[0])
