"""One shard of a log on Redis: its keys and its reads.

A shard is a stream of lines, one hash per table with a stamp before each row, and an index of lines
by page and event id. Lines that identify a user stand in a hash of that user, because stream
entries cannot be overwritten and a user must be forgettable.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from env.records import PageRecord
from replay.redis_client import Client, Command, Entry
from replay.redis_line import Line

STAMP_BYTES = 8

LAST_CHARACTER = "\U0010ffff"
"""Appended to a prefix, it sorts after every string with that prefix."""

Key = tuple[str, str]
"""A row, as its table and its key."""


class Ahead(NamedTuple):
    """Data read from a shard before the transaction asked for it."""

    rows: Mapping[Key, bytes | None]  # with their stamps
    catalogue: int  # the shard's catalogue mark
    items: int  # the catalogue mark of the shard of items


class Shard:
    """Reads of one shard's current state."""

    def __init__(self, client: Client, name: str, number: int) -> None:
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

    def lines(self, after: int, n: int) -> list[Line]:
        """Return up to n lines after an offset."""
        return self.unpacked(self.client.entries(self.key("log"), after + 1, n))

    def line(self, offset: int) -> Line:
        """Return one line."""
        (line,) = self.lines(offset - 1, 1)
        return line

    def ask_entry(self, offset: int) -> Command:
        """Return the command for one line, whose reply `unpacked` takes."""
        return "XRANGE", self.key("log"), f"{offset}-0", f"{offset}-0"

    def unpacked(self, entries: Sequence[Entry]) -> list[Line]:
        """Return entries of the stream as lines, fetching payloads stored beside it."""
        named = [(entry[b"u"].decode(), key) for key, entry in entries if b"u" in entry]
        beside: Iterator[bytes | None] = iter(
            self.client.ask_all(
                [("HGET", self.key(f"about:{user}"), _offset(key)) for user, key in named]
            )
        )
        return [
            Line.unpacked(_offset(key), entry[b"l"] if b"l" in entry else next(beside) or b"")
            for key, entry in entries
        ]


def read_ahead(keys: Sequence[Key], answers: Sequence[Any]) -> Ahead:
    """Return the replies to `Shard.ask_ahead` as a record."""
    catalogue, items, *rows = answers
    return Ahead(dict(zip(keys, rows, strict=True)), int(catalogue or 0), int(items or 0))


def _offset(key: bytes) -> int:
    return int(key.partition(b"-")[0])
