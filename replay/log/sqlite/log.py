"""The event log on SQLite: group commits, idempotent appends, and a crc on each line.

A line is never moved, and never changed except by `forget`. Appending is a function over a
connection, so that a record and the state derived from it commit in one transaction. Reads use
short transactions, so a slow follower does not block checkpoints. Reasons:
`docs/decisions/sqlite-log.md`.
"""

import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import compress

import msgspec

from env.interface import PageHistory
from env.records import (
    BlockRecord,
    FeedbackRecord,
    ItemRecord,
    Kind,
    LogLine,
    PageRecord,
    ProjectionRecord,
    Record,
    TickRecord,
    UserRecord,
    decode_record,
    encode_record,
    record_key,
)
from env.vocabulary import UserId, UserKey
from replay.log.sqlite.database import Database, insert_rows, select_in

BATCH_LINES = 512

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS log (
        offset INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        user TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        written_ms INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        payload BLOB NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX IF NOT EXISTS log_key ON log (key) WHERE key <> ''",
    "CREATE INDEX IF NOT EXISTS log_kind ON log (kind)",
    "DROP INDEX IF EXISTS log_person",
    "CREATE INDEX IF NOT EXISTS log_about ON log (user) WHERE kind IN ('user', 'block')",
)

_INSERT = "INSERT INTO log (kind, key, user, at_ms, written_ms, crc, payload) VALUES"
_KNOWN = "SELECT key FROM log WHERE key <> '' AND key IN"
_LINES = "SELECT offset, written_ms, crc, payload FROM log WHERE offset > ?"
_FIND = "SELECT offset, crc, payload FROM log WHERE key = ? AND key <> ''"

_PAGE = """SELECT offset, crc, payload FROM log
    WHERE key >= ? AND key < ? AND key <> '' ORDER BY key LIMIT 1"""

# The pluses keep the planner from a scan of the offsets between page and event.
_EVENTS = """SELECT offset, crc, payload FROM log
    WHERE key >= ? AND key < ? AND key <> '' AND +offset > ? AND +offset < ? ORDER BY offset"""

_PERSON = "SELECT offset, crc, payload FROM log WHERE kind IN ('user', 'block') AND user = ?"
_OVERWRITE = "UPDATE log SET crc = ?, payload = ? WHERE offset = ?"


class LogCorruption(Exception):  # noqa: N818  # a state, not a mistake
    """A line differs from what was written, so no fold of the log can pass it."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"log line {offset}: {reason}; restore the database from a backup")
        self.offset = offset


class SqliteLog:
    """The `EventLog` of one database file, which any number of processes may append to and read."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        """Create the log's table if it is missing.

        Args:
            database: owned by the caller; it must stay open while the log is used.
            now_ms: wall clock for `LogLine.written_ms`, Unix milliseconds.
        """
        self._database = database
        self._now_ms = now_ms
        database.write(_create, durable=True).result()

    def append(self, records: Sequence[Record], *, durable: bool) -> list[bool]:
        """Append all records or none, and return for each whether it was new.

        Returns after the commit; with `durable`, after all of them are on disk, including those
        that were not new.
        """

        def work(connection: sqlite3.Connection) -> list[bool]:
            return insert(connection, records, self._now_ms())

        return self._database.write(work, durable=durable).result()

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
        wanted = None if kinds is None else sorted(set(kinds))
        left = 0 if wanted == [] else limit
        while left is None or left > 0:
            n = BATCH_LINES if left is None else min(BATCH_LINES, left)
            batch = self._fetch(after, n, wanted)
            for offset, written_ms, crc, payload in batch:
                yield LogLine(offset, checked_record(offset, crc, payload), written_ms)
                after = offset
            left = None if left is None else left - len(batch)
            if len(batch) < n:
                return

    def last_offset(self) -> int:
        """Return the offset of the last line, or 0 if the log is empty."""
        with self._database.reader() as connection:
            (offset,) = connection.execute("SELECT coalesce(max(offset), 0) FROM log").fetchone()
        return int(offset)

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return the offset itself, since there is one shard."""
        return (offset,)

    def count(self) -> int:
        """Return the number of lines."""
        with self._database.reader() as connection:
            (n,) = connection.execute("SELECT count(*) FROM log").fetchone()
        return int(n)

    def _fetch(
        self, after: int, n: int, kinds: Sequence[Kind] | None
    ) -> list[tuple[int, int, int, bytes]]:
        query, arguments = _query(after, n, kinds)
        with self._database.reader() as connection:
            return connection.execute(query, arguments).fetchall()


def insert(
    connection: sqlite3.Connection, records: Sequence[Record], written_ms: int
) -> list[bool]:
    """Append inside the caller's transaction and return for each record whether it was new.

    A record whose `record_key` is already in the log changes nothing.

    Args:
        records: in the order of their offsets.
        written_ms: wall clock, Unix milliseconds.
    """
    keys = [record_key(record) for record in records]
    known = {key for (key,) in select_in(connection, _KNOWN, [key for key in keys if key])}
    is_new = []
    for key in keys:
        is_new.append(key not in known)
        if key:
            known.add(key)
    rows = [_row(*keyed, written_ms) for keyed in compress(zip(records, keys, strict=True), is_new)]
    insert_rows(connection, _INSERT, rows)
    return is_new


def find(connection: sqlite3.Connection, key: str) -> Record | None:
    """Return the record with this `record_key`, or None; raise LogCorruption if it is damaged."""
    line = connection.execute(_FIND, (key,)).fetchone()
    return None if line is None else checked_record(*line)


def find_page(connection: sqlite3.Connection, beginning: str) -> PageRecord | None:
    """Return the first page by id with this id prefix, or None.

    Args:
        beginning: prefix of the id, without control characters.

    Raises:
        LogCorruption: its line's crc or payload is wrong.
    """
    key = f"p/{beginning}"
    line = connection.execute(_PAGE, (key, f"{key}\U0010ffff")).fetchone()
    page = None if line is None else checked_record(*line)
    return page if isinstance(page, PageRecord) else None


def find_history(connection: sqlite3.Connection, event: FeedbackRecord) -> PageHistory | None:
    """Return the page of a logged event, and the events about it that precede this one.

    None where the page does not precede the event; raise LogCorruption if a line is damaged.
    """
    key = record_key(event)
    page_key = f"p/{key[2 : key.index('/', 2)]}"
    own = connection.execute("SELECT offset FROM log WHERE key = ? AND key <> ''", (key,))
    page = connection.execute(_FIND, (page_key,)).fetchone()
    (end,) = own.fetchone() or (0,)
    if page is None or page[0] >= end:
        return None
    record = checked_record(*page)
    prefix = f"f/{page_key[2:]}/"
    lines = connection.execute(_EVENTS, (prefix, f"{prefix}\U0010ffff", page[0], end)).fetchall()
    events = (checked_record(*line) for line in lines)
    if not isinstance(record, PageRecord):
        return None
    return PageHistory(record, tuple(e for e in events if isinstance(e, FeedbackRecord)))


def forget(connection: sqlite3.Connection, user: UserKey) -> int:
    """Overwrite in place the fields that identify a user, and return the number of lines.

    Erased are the caller's id and, in the profile, installed apps, segments, followed or blocked
    creators, blocked tags, time zone, registration time and birth year. Offsets, kinds and times
    stay. The old bytes leave the disk after a truncating checkpoint; backups made before keep them
    (`docs/decisions/sqlite-log.md`).

    Args:
        user: the user's pseudonym, which stays.

    Raises:
        LogCorruption: one of the user's lines has a wrong crc or payload.
    """
    lines = connection.execute(_PERSON, (user,)).fetchall()
    for offset, crc, payload in lines:
        unnamed = encode_record(anonymous(checked_record(offset, crc, payload)))
        connection.execute(_OVERWRITE, (zlib.crc32(unnamed), unnamed, offset))
    return len(lines)


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)


def _row(record: Record, key: str, written_ms: int) -> tuple[str, str, str, int, int, int, bytes]:
    payload = encode_record(record)
    kind = str(record.__struct_config__.tag)
    crc = zlib.crc32(payload)
    return kind, key, _user(record), record.at_ms, written_ms, crc, payload


def _user(record: Record) -> str:
    match record:
        case ItemRecord() | ProjectionRecord() | TickRecord():
            return ""
        case _:
            return record.user


def _query(after: int, n: int, kinds: Sequence[Kind] | None) -> tuple[str, list[int | str]]:
    """Return the statement of one batch and its arguments.

    There is one branch per kind: each walks the index of kinds and SQLite merges them by offset, so
    a rare kind is found without scanning all others.
    """
    if kinds is None:
        return f"{_LINES} ORDER BY offset LIMIT ?", [after, n]
    branches = " UNION ALL ".join([f"{_LINES} AND kind = ?"] * len(kinds))
    arguments: list[int | str] = []
    for kind in kinds:
        arguments += [after, kind]
    return f"{branches} ORDER BY offset LIMIT ?", [*arguments, n]


def checked_record(offset: int, crc: int, payload: bytes) -> Record:
    """Return a line's record, or raise LogCorruption if its crc or payload is wrong."""
    if zlib.crc32(payload) != crc:
        raise LogCorruption(offset, f"expected crc {crc}, got {zlib.crc32(payload)}")
    try:
        return decode_record(payload)
    except msgspec.MsgspecError as error:
        raise LogCorruption(offset, f"the payload is no record ({error})") from error


def anonymous(record: Record) -> Record:
    """Return a record without the fields that identify a user; see `forget`."""
    if isinstance(record, BlockRecord):
        return msgspec.structs.replace(record, creators=(), tags=())
    if not isinstance(record, UserRecord):
        return record
    profile = record.profile and msgspec.structs.replace(
        record.profile,
        time_zone="",
        apps=(),
        tags=(),
        registered_ms=0,
        follows=(),
        birth_year=0,
        device_model="",
    )
    return msgspec.structs.replace(record, user_id=UserId(""), profile=profile)
