"""The event log on SQLite: appended in group commits, idempotent by id, each line under a crc.

The log is the truth and everything else a fold of it, so a line is never moved, and never changed
but for the one field that forgetting a user overwrites. Appending is a function over a
connection, so that a record and the state that follows from it commit in one transaction.
Reading goes in short transactions: a follower never keeps the write-ahead log from being
checkpointed, however far behind it is.
"""

import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import compress

import msgspec

from env.records import (
    BlockRecord,
    FeedbackRecord,
    Kind,
    LogLine,
    PageRecord,
    Record,
    UserRecord,
    decode_record,
    encode_record,
    record_key,
)
from env.vocabulary import UserId, UserKey
from replay.database import Database
from replay.many_rows import insert_rows, select_in

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
_PERSON = "SELECT offset, crc, payload FROM log WHERE kind IN ('user', 'block') AND user = ?"
_OVERWRITE = "UPDATE log SET crc = ?, payload = ? WHERE offset = ?"


class LogCorruption(Exception):  # noqa: N818  # it tells a state of the file, not a mistake
    """A line is not what was written: a fold of the log cannot go on past it."""

    def __init__(self, offset: int, reason: str) -> None:
        """Name the line and what is wrong with it."""
        super().__init__(f"log line {offset}: {reason}; restore the database from a backup")
        self.offset = offset


class SqliteLog:
    """The `EventLog` of one database file; any number of processes append and read."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        """Make the log's table where it is missing.

        Args:
            database: stays open as long as the log is used, and is closed by its owner.
            now_ms: the wall clock for `LogLine.written_ms`, Unix milliseconds.
        """
        self._database = database
        self._now_ms = now_ms
        database.write(_create, durable=True).result()

    def append(self, records: Sequence[Record], *, durable: bool) -> list[bool]:
        """Append all or none, and return record by record whether it was new.

        Returns after the commit; with `durable`, after all of them are on disk, also those that
        were not new.
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
            limit: at most so many lines; None: all there are.
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
        """Return the offset of the last line; 0 while the log is empty."""
        with self._database.reader() as connection:
            (offset,) = connection.execute("SELECT coalesce(max(offset), 0) FROM log").fetchone()
        return int(offset)

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return the offset: there is one shard."""
        return (offset,)

    def count(self) -> int:
        """Return how many lines there are."""
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
    """Append inside the caller's transaction and return record by record whether it was new.

    A record whose `record_key` is in the log already changes nothing.

    Args:
        connection: as `Database.write` lends it.
        records: in the order of their offsets.
        written_ms: the wall clock, Unix milliseconds.
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
    """Return the record that was appended under a `record_key`, inside a transaction, or None.

    Raises:
        LogCorruption: its line's crc or payload is wrong.
    """
    line = connection.execute(_FIND, (key,)).fetchone()
    return None if line is None else checked_record(*line)


def find_page(connection: sqlite3.Connection, beginning: str) -> PageRecord | None:
    """Return the page whose id begins so, the first by id of several, or None.

    Args:
        connection: inside a transaction.
        beginning: of the id, without control characters.

    Raises:
        LogCorruption: its line's crc or payload is wrong.
    """
    key = f"p/{beginning}"
    line = connection.execute(_PAGE, (key, f"{key}\U0010ffff")).fetchone()
    page = None if line is None else checked_record(*line)
    return page if isinstance(page, PageRecord) else None


def forget(connection: sqlite3.Connection, user: UserKey) -> int:
    """Overwrite what names a user in the log, in place, and return in how many lines.

    The caller's id goes, and of the profile the installed apps, the segments, the creators
    followed or blocked, the tags blocked, the time zone, the time of registration and the year of
    birth; offsets, kinds and times stay, and so does every fold in which the user has no state
    any more.

    The old bytes stay in the database until a checkpoint copies the new ones over them, and
    frames of the write-ahead log may hold them beyond that: they are surely gone from the disk's
    files after a checkpoint that truncates it (TRUNCATE), which the `Checkpointer` runs once
    nobody has written for a while, and closing the last connection does too. Backups made before
    keep them.

    Args:
        connection: as `Database.write` lends it.
        user: the user's pseudonym, which stays.

    Raises:
        LogCorruption: a line of theirs has a wrong crc or payload.
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
        case PageRecord() | FeedbackRecord() | UserRecord() | BlockRecord():
            return record.user
        case _:
            return ""


def _query(after: int, n: int, kinds: Sequence[Kind] | None) -> tuple[str, list[int | str]]:
    """Return the statement of one batch and its arguments.

    One branch a kind: each walks the index of kinds, SQLite merges them by offset, and a rare
    kind is found without passing over all others.
    """
    if kinds is None:
        return f"{_LINES} ORDER BY offset LIMIT ?", [after, n]
    branches = " UNION ALL ".join([f"{_LINES} AND kind = ?"] * len(kinds))
    arguments: list[int | str] = []
    for kind in kinds:
        arguments += [after, kind]
    return f"{branches} ORDER BY offset LIMIT ?", [*arguments, n]


def checked_record(offset: int, crc: int, payload: bytes) -> Record:
    """Return a line's record.

    Raises:
        LogCorruption: it is not what was written.
    """
    if zlib.crc32(payload) != crc:
        raise LogCorruption(offset, f"expected crc {crc}, got {zlib.crc32(payload)}")
    try:
        return decode_record(payload)
    except msgspec.MsgspecError as error:
        raise LogCorruption(offset, f"the payload is no record ({error})") from error


def anonymous(record: Record) -> Record:
    """Return a line without what names a user; see `forget`."""
    if isinstance(record, BlockRecord):
        return msgspec.structs.replace(record, creators=(), tags=())
    if not isinstance(record, UserRecord):
        return record
    profile = record.profile and msgspec.structs.replace(
        record.profile, time_zone="", apps=(), tags=(), registered_ms=0, follows=(), birth_year=0
    )
    return msgspec.structs.replace(record, user_id=UserId(""), profile=profile)
