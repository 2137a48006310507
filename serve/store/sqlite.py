"""The store in one database file of the data folder: lookups, transactions, backup copies."""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from env.interface import PageHistory
from env.records import CATALOGUE_KINDS, FeedbackRecord, LogLine, PageRecord, Record
from env.users.state import UserState, decode_state, encode_state
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from replay.log.sqlite.database import WAL_BYTES, Database, insert_rows
from replay.log.sqlite.log import SqliteLog, find, find_history, find_page, forget, insert
from serve.config import Config
from serve.store.kind import FileCopies, StoreKind
from serve.store.store import (
    Activation,
    ActivationName,
    ImportMark,
    RegisteredUser,
    RowTable,
    StoreLog,
    translated,
    unavailable,
)
from serve.store.totals import Total, Vectors, count

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS users (
        user_id TEXT PRIMARY KEY,
        user TEXT NOT NULL UNIQUE
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS user_state (user TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS items (
        number INTEGER PRIMARY KEY,
        item_id TEXT NOT NULL UNIQUE,
        item BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS removed_items (item_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    """CREATE VIRTUAL TABLE IF NOT EXISTS item_search USING fts5(
        item_id, title, creator, tags, tokenize = 'unicode61 remove_diacritics 2'
    )""",
    """CREATE TABLE IF NOT EXISTS activations (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        log_offset INTEGER NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (name, epoch, version)
    ) STRICT, WITHOUT ROWID""",
    # A version of the policy is a fold of the log: a second one of its number is another's.
    """CREATE UNIQUE INDEX IF NOT EXISTS activations_policy ON activations (version)
        WHERE name = 'policy'""",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    """INSERT OR IGNORE INTO marks
        VALUES ('catalogue', 0), ('epoch', 0), ('ranker_epoch', 0),
            ('collaborative_epoch', 0), ('vectors', 0), ('vector_length', 0)""",
    # One row at most; see `serve.jobs.imported_world`.
    """CREATE TABLE IF NOT EXISTS imported_world (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        about BLOB NOT NULL,
        users BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS operator_rows (
        name TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID""",
    # See `serve.store.staging`: one row at most, rows that are no part of the log yet, and the keys
    # of those that are.
    """CREATE TABLE IF NOT EXISTS import_mark (
        run TEXT PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        is_committed INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS staged_users (
        run TEXT NOT NULL,
        user_id TEXT NOT NULL,
        row BLOB NOT NULL,
        PRIMARY KEY (run, user_id)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS imported_views (user TEXT PRIMARY KEY, views BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS totals (
        name TEXT NOT NULL,
        label TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (name, label)
    ) STRICT, WITHOUT ROWID""",
)

_EPOCHS: Mapping[ActivationName, str] = {
    "policy": "epoch",
    "ranker": "ranker_epoch",
    "collaborative": "collaborative_epoch",
}
"""Marks of the newest epochs."""

_ADOPT = (
    """INSERT INTO activations
        SELECT 'policy', version, epoch, log_offset, digest FROM versions""",
    "INSERT INTO activations SELECT 'ranker', version, move, 0, digest FROM ranker_moves",
    """UPDATE marks SET value = (SELECT coalesce(max(move), 0) FROM ranker_moves)
        WHERE name = 'ranker_epoch'""",
    "DROP TABLE versions",
    "DROP TABLE ranker_moves",
)
"""Moves what the release of 29 November 2026 kept in two tables."""

_PERSON = """SELECT users.user, user_state.state
    FROM users LEFT JOIN user_state USING (user) WHERE users.user_id = ?"""

_STATE = "SELECT state FROM user_state WHERE user = ?"

_SEARCH = """SELECT items.item FROM item_search JOIN items ON items.number = item_search.rowid
    WHERE item_search MATCH ? ORDER BY item_search.rank LIMIT ?"""


class SqliteView:
    """Reads through one connection; see `serve.store.store.View`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    # --- users ---

    def user(self, user_id: str) -> RegisteredUser | None:
        """Return a registered user, or None."""
        row = self.connection.execute(_PERSON, (user_id,)).fetchone()
        return (
            None if row is None or row[1] is None else RegisteredUser(row[0], decode_state(row[1]))
        )

    def users(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of every registered user."""
        query = "SELECT user, user_id, state FROM users JOIN user_state USING (user)"
        return {
            user: (user_id, decode_state(state).profile)
            for user, user_id, state in self.connection.execute(query)
        }

    def user_keys(self, limit: int) -> list[UserKey]:
        """Return the pseudonyms of at most `limit` registered users, in ascending order."""
        query = "SELECT user FROM user_state ORDER BY user LIMIT ?"
        return [UserKey(user) for (user,) in self.connection.execute(query, (limit,))]

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these users; unknown and forgotten users are left out."""
        rows = ((user, self.connection.execute(_STATE, (user,)).fetchone()) for user in users)
        return {user: decode_state(row[0]) for user, row in rows if row is not None}

    def arrival(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        """Return the results of `user` and `catalogue_offset`."""
        return self.user(user_id), self.catalogue_offset()

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a user's page whose id has this prefix, the first by id of several, or None."""
        return find_page(self.connection, beginning)

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, of any user; missing ones are left out."""
        found = {page_id: find(self.connection, f"p/{page_id}") for page_id in page_ids}
        return {key: page for key, page in found.items() if isinstance(page, PageRecord)}

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of a logged event, and the events about it that precede this one."""
        return find_history(self.connection, event)

    # --- items ---

    def catalogue_offset(self) -> int:
        """Return the log offset of the last change of an item; 0: there was none."""
        return self._mark("catalogue")

    def item_ids(self) -> set[ItemId]:
        """Return the ids of all items."""
        return {item_id for (item_id,) in self.connection.execute("SELECT item_id FROM items")}

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        """Return these items as they were last put; missing ones are left out."""
        query = "SELECT item FROM items WHERE item_id = ?"
        rows = ((key, self.connection.execute(query, (key,)).fetchone()) for key in item_ids)
        return {key: _item(row[0]) for key, row in rows if row is not None}

    def items(self) -> list[Item]:
        """Return all items, in the order of their first put."""
        rows = self.connection.execute("SELECT item FROM items ORDER BY number").fetchall()
        return [_item(row[0]) for row in rows]

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        """Return those ids of which an item was ever removed."""
        query = "SELECT 1 FROM removed_items WHERE item_id = ?"
        return {key for key in item_ids if self.connection.execute(query, (key,)).fetchone()}

    def vectors(self) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        return Vectors(self._mark("vectors"), self._mark("vector_length"))

    def search(self, text: str, limit: int) -> list[Item]:
        """Return items of whose fields each word of `text` begins a word."""
        words = text.replace('"', " ").replace("\0", " ").split()
        if not words:
            return []
        query = " ".join(f'"{word}"*' for word in words)
        rows = self.connection.execute(_SEARCH, (query, limit)).fetchall()
        return [_item(item) for (item,) in rows]

    # --- activations ---

    def newest_epoch(self, name: ActivationName) -> int:
        """Return the epoch of the newest writer; 0: there was none."""
        return self._mark(_EPOCHS[name])

    def activations_after(
        self, name: ActivationName, epoch: int, version: int, *, limit: int
    ) -> list[Activation]:
        """Return at most `limit` activations after a given one, the current first."""
        query = """SELECT version, epoch, log_offset, digest FROM activations
            WHERE name = ? AND (epoch, version) > (?, ?)
            ORDER BY epoch DESC, version DESC LIMIT ?"""
        rows = self.connection.execute(query, (name, epoch, version, limit))
        return [Activation(*row) for row in rows]

    def activations(self, name: ActivationName) -> list[Activation]:
        """Return all activations ever made, ordered by log offset and version."""
        query = """SELECT version, epoch, log_offset, digest FROM activations
            WHERE name = ? ORDER BY log_offset, version"""
        return [Activation(*row) for row in self.connection.execute(query, (name,))]

    def last_version_number(self, name: ActivationName) -> int:
        """Return the highest version ever activated; 0: there is none."""
        query = "SELECT max(version) FROM activations WHERE name = ?"
        (number,) = self.connection.execute(query, (name,)).fetchone()
        return int(number or 0)

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        rows = self.connection.execute("SELECT name, label, value FROM totals")
        return {Total(name, label): value for name, label, value in rows}

    def row(self, table: RowTable, key: str) -> bytes | None:
        """Return a row of the operator's, or None."""
        query = "SELECT value FROM operator_rows WHERE name = ? AND key = ?"
        row = self.connection.execute(query, (table, key)).fetchone()
        return None if row is None else row[0]

    def rows(self, table: RowTable) -> dict[str, bytes]:
        """Return all rows of a table of the operator's, by key."""
        query = "SELECT key, value FROM operator_rows WHERE name = ?"
        return dict(self.connection.execute(query, (table,)).fetchall())

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return the data that `serve.jobs.imported_world` keeps of the current import, or None."""
        row = self.connection.execute("SELECT about, users FROM imported_world").fetchone()
        return None if row is None else (row[0], row[1])

    # --- imports ---

    def import_mark(self) -> ImportMark | None:
        """Return the value that `set_import_mark` wrote last, or None."""
        query = "SELECT run, at_ms, is_committed FROM import_mark"
        row = self.connection.execute(query).fetchone()
        return None if row is None else ImportMark(row[0], row[1], bool(row[2]))

    def staged_users(self) -> list[tuple[str, UserId]]:
        """Return the run and the user id of every staged row."""
        return self.connection.execute("SELECT run, user_id FROM staged_users").fetchall()

    def staged(self, run: str, user_ids: Sequence[UserId]) -> list[bytes | None]:
        """Return the rows staged for these users; None for a missing one."""
        query = "SELECT row FROM staged_users WHERE run = ? AND user_id = ?"
        rows = [self.connection.execute(query, (run, each)).fetchone() for each in user_ids]
        return [None if row is None else bytes(row[0]) for row in rows]

    def imported_views(self, users: Sequence[UserKey]) -> list[bytes]:
        """Return the keys of the imported views of users; empty without any."""
        query = "SELECT views FROM imported_views WHERE user = ?"
        rows = [self.connection.execute(query, (user,)).fetchone() for user in users]
        return [b"" if row is None else bytes(row[0]) for row in rows]

    def _mark(self, name: str) -> int:
        query = "SELECT value FROM marks WHERE name = ?"
        (value,) = self.connection.execute(query, (name,)).fetchone()
        return int(value)


def _item(packed: bytes) -> Item:
    return msgspec.msgpack.decode(packed, type=Item)


_ADD_TOTALS = (
    "INSERT INTO totals VALUES",
    "ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value",
)

_PUT_STATES = (
    "INSERT INTO user_state VALUES",
    "ON CONFLICT (user) DO UPDATE SET state = excluded.state",
)

_PUT_ITEM = """INSERT INTO items (item_id, item) VALUES (?, ?)
    ON CONFLICT (item_id) DO UPDATE SET item = excluded.item RETURNING number"""

_LAST_OFFSET = "SELECT coalesce(max(offset), 0) FROM log"


class SqliteTransaction(SqliteView):
    """Writes through one connection; see `serve.store.store.Transaction`."""

    def __init__(self, connection: sqlite3.Connection, written_ms: int) -> None:
        super().__init__(connection)
        self._written_ms = written_ms

    # --- the log ---

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append to the log and update the totals; return for each record whether it was new."""
        is_new = insert(self.connection, records, self._written_ms)
        rows = [(*total, n) for total, n in count(compress(records, is_new)).items()]
        begin, end = _ADD_TOTALS
        insert_rows(self.connection, begin, rows, end)
        return is_new

    def forget(self, user: UserKey) -> int:
        """Overwrite a user's identity in the log; return the number of changed lines."""
        return forget(self.connection, user)

    # --- users ---

    def add_user(self, user_id: UserId, user: UserKey) -> None:
        """Store the pseudonym of a new user."""
        self.connection.execute("INSERT INTO users VALUES (?, ?)", (user_id, user))

    def remove_user(self, user_id: UserId) -> None:
        """Remove the pseudonym of a user."""
        self.connection.execute("DELETE FROM users WHERE user_id = ?", (user_id,))

    def put_states(self, states: Mapping[UserKey, UserState | None]) -> None:
        """Write users' states; None removes one."""
        gone = [(user,) for user, state in states.items() if state is None]
        self.connection.executemany("DELETE FROM user_state WHERE user = ?", gone)
        rows = [(user, encode_state(state)) for user, state in states.items() if state is not None]
        begin, end = _PUT_STATES
        insert_rows(self.connection, begin, rows, end)

    # --- items ---

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items and their search rows."""
        for item in items:
            row = (item.item_id, msgspec.msgpack.encode(item))
            (number,) = self.connection.execute(_PUT_ITEM, row).fetchone()
            self.connection.execute("DELETE FROM item_search WHERE rowid = ?", (number,))
            self.connection.execute(
                "INSERT INTO item_search (rowid, item_id, title, creator, tags)"
                " VALUES (?, ?, ?, ?, ?)",
                # A column of its own for the description would need a new table in old folders.
                (
                    number,
                    item.item_id,
                    item.title,
                    item.creator,
                    " ".join((*item.tags, item.description)),
                ),
            )
        self._mark_catalogue()

    def remove_item(self, item_id: ItemId) -> None:
        """Remove an item and its search row."""
        self.connection.execute(
            "DELETE FROM item_search WHERE rowid = (SELECT number FROM items WHERE item_id = ?)",
            (item_id,),
        )
        self.connection.execute("DELETE FROM items WHERE item_id = ?", (item_id,))
        self.connection.execute("INSERT OR IGNORE INTO removed_items VALUES (?)", (item_id,))
        self._mark_catalogue()

    def set_vectors(self, vectors: Vectors) -> None:
        """Write the value of `vectors`."""
        self._set_mark("vectors", vectors.n)
        self._set_mark("vector_length", vectors.length)

    # --- activations and the rest ---

    def set_epoch(self, name: ActivationName, epoch: int) -> None:
        """Write the value of `newest_epoch`."""
        self._set_mark(_EPOCHS[name], epoch)

    def add_activation(self, name: ActivationName, activation: Activation) -> None:
        """Add an activation."""
        query = "INSERT INTO activations VALUES (?, ?, ?, ?, ?)"
        self.connection.execute(query, (name, *activation))

    def put_row(self, table: RowTable, key: str, value: bytes | None) -> None:
        """Write a row of the operator's; None removes it."""
        if value is None:
            query = "DELETE FROM operator_rows WHERE name = ? AND key = ?"
            self.connection.execute(query, (table, key))
        else:
            query = "INSERT OR REPLACE INTO operator_rows VALUES (?, ?, ?)"
            self.connection.execute(query, (table, key, value))

    def put_imported_world(self, about: bytes, users: bytes) -> None:
        """Write the value of `imported_world`."""
        query = "INSERT OR REPLACE INTO imported_world VALUES (1, ?, ?)"
        self.connection.execute(query, (about, users))

    def set_import_mark(self, mark: ImportMark | None) -> None:
        """Write the value of `import_mark`."""
        self.connection.execute("DELETE FROM import_mark")
        if mark is not None:
            self.connection.execute("INSERT INTO import_mark VALUES (?, ?, ?)", mark)

    def stage(self, run: str, rows: Mapping[UserId, bytes | None]) -> None:
        """Write the rows staged for users; None removes one."""
        gone = [(run, user_id) for user_id, row in rows.items() if row is None]
        self.connection.executemany("DELETE FROM staged_users WHERE run = ? AND user_id = ?", gone)
        put = [(run, user_id, row) for user_id, row in rows.items() if row is not None]
        self.connection.executemany("INSERT OR REPLACE INTO staged_users VALUES (?, ?, ?)", put)

    def put_imported_views(self, views: Mapping[UserKey, bytes]) -> None:
        """Write the values of `imported_views`; empty removes one."""
        gone = [(user,) for user, keys in views.items() if not keys]
        self.connection.executemany("DELETE FROM imported_views WHERE user = ?", gone)
        put = [(user, keys) for user, keys in views.items() if keys]
        self.connection.executemany("INSERT OR REPLACE INTO imported_views VALUES (?, ?)", put)

    def _mark_catalogue(self) -> None:
        (offset,) = self.connection.execute(_LAST_OFFSET).fetchone()
        self._set_mark("catalogue", int(offset))

    def _set_mark(self, name: str, value: int) -> None:
        self.connection.execute("UPDATE marks SET value = ? WHERE name = ?", (value, name))


def _is_of_two_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'ranker_moves'"
    return connection.execute(query).fetchone() is not None


def _adopt(connection: sqlite3.Connection) -> None:
    """Move the rows of an older release, unless another process has just done it."""
    if _is_of_two_tables(connection):
        for statement in _ADOPT:
            connection.execute(statement)


T = TypeVar("T")


class SqliteStore:
    """The `serve.store.store.Store` of one database file."""

    def __init__(
        self, path: Path, now_ms: Callable[[], int], *, wal_bytes: int = WAL_BYTES
    ) -> None:
        """Open the file; make missing tables and a missing file.

        Args:
            path: path of the file, see `replay.log.sqlite.database.Database`.
            now_ms: the wall clock, for `LogLine.written_ms`.
            wal_bytes: length above which the write-ahead log is copied back into the file.

        Raises:
            ValueError: a newer nextswipe wrote the file.
            sqlite3.DatabaseError: the file is no database or cannot be opened.
        """
        self.database = Database(path, schema=SCHEMA, wal_bytes=wal_bytes)
        with self.database.reader() as connection:
            is_old = _is_of_two_tables(connection)
        if is_old:
            self.database.write(_adopt, durable=True).result()
        self.log = StoreLog(SqliteLog(self.database, now_ms), (sqlite3.OperationalError,))
        self._now_ms = now_ms

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine: yes."""
        return True

    def shard_of(self, name: str) -> int:  # part of the Store protocol
        """Return the only shard, 0."""
        return 0

    @contextlib.contextmanager
    def view(self, about: str = "") -> Iterator[SqliteView]:
        """Lend a view; release it soon, because an open view keeps the write-ahead log growing."""
        try:
            with self.database.reader() as connection:
                yield SqliteView(connection)
        except sqlite3.OperationalError as error:
            raise unavailable(error) from error

    def write(
        self,
        work: Callable[[SqliteTransaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        """Queue a transaction; see `serve.store.store.Store.write`."""
        writing = self.database.write(
            lambda connection: work(SqliteTransaction(connection, self._now_ms())), durable=durable
        )
        return translated(writing, sqlite3.OperationalError)

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield lines about items after an offset of the log."""
        return self.log.read(after, limit, kinds=CATALOGUE_KINDS)

    def close(self) -> None:
        """Commit the queued writes and close the file; a second call does nothing."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


DATABASE = "nextswipe.db"
PAGES_A_STEP = 1_000


class FrozenDatabase:
    """The database as of one read transaction; see `serve.store.kind.FrozenStore`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.view = SqliteView(connection)

    def n_pages(self) -> int:
        """Return the number of database pages."""
        (n,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(n)

    def copy(self, path: Path, advance: Callable[[int], None]) -> None:
        """Write a copy of the database; tell the number of pages copied since the last call."""
        path.unlink(missing_ok=True)
        done = 0

        def tell(status: int, remaining: int, total: int) -> None:
            nonlocal done
            advance(total - remaining - done)
            done = total - remaining

        with contextlib.closing(sqlite3.connect(path)) as target:
            self._connection.backup(target, pages=PAGES_A_STEP, progress=tell)


@contextlib.contextmanager
def _freeze(config: Config) -> Generator[FrozenDatabase]:
    """Lend the database; its read transaction begins at the first read."""
    with (
        _open(config, lambda: 0, make=False) as store,
        store.database.reader() as connection,
    ):
        yield FrozenDatabase(connection)


def _open(config: Config, now_ms: Callable[[], int], *, make: bool) -> SqliteStore:
    path = Path(config.data.folder) / DATABASE
    if not make and not path.is_file():
        raise ValueError(
            f"expected a data folder with {DATABASE}, found none: `nextswipe up` makes one, or "
            "name another (--data)"
        )
    try:
        return SqliteStore(path, now_ms)
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"expected {DATABASE} to be a database of nextswipe, got: {error}; restore a backup "
            "(nextswipe restore), or name another folder (--data)"
        ) from error


def _require_idle(config: Config) -> None:
    """Raise ValueError while a process has the database open; a missing one is idle.

    An exclusive lock on the database decides. Rejected alternative:
    `docs/decisions/serve-configuration.md`.
    """
    path = Path(config.data.folder) / DATABASE
    if not path.exists():
        return
    with contextlib.closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as lock:
        try:
            lock.execute("PRAGMA locking_mode=EXCLUSIVE")
            lock.execute("BEGIN IMMEDIATE")
            lock.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone()
            lock.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise ValueError(
                f"{path.parent} is in use ({error}): stop the server, or the job that runs on it"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: {error}") from error


def _last_offset(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (offset,) = connection.execute(_LAST_OFFSET).fetchone()
    return int(offset)


def _check(path: Path) -> int:
    uri = f"{path.absolute().as_uri()}?immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            (offset,) = connection.execute(_LAST_OFFSET).fetchone()
    except sqlite3.DatabaseError as error:
        raise ValueError(str(error)) from error
    if verdict != "ok":
        raise ValueError(f"expected a whole database, got one whose check says: {verdict}")
    return int(offset)


SQLITE = StoreKind(
    name="sqlite",
    open=_open,
    is_searchable=True,
    takes_imports=True,
    require_idle=_require_idle,
    copies=FileCopies(DATABASE, _freeze, _last_offset, _check),
)
"""A database in the data folder; its disk is checked with the folder's."""
