"""What the server looks up while it answers: people, their state, items, versions.

All of it is a fold of the log, kept in the log's database so that a record and what follows from
it commit in one transaction, and so that several processes agree. Methods that take a connection
are for use inside `Database.write` or `Database.reader`; the others open a short read.

Rejected: state in memory with write-back (replicas would disagree about a person), and a second
database (no common transaction with the log).
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from env.records import BlockRecord, FeedbackRecord, PageRecord, UserRecord
from env.user_fold import fold
from env.users import UserState, decode_state, encode_state
from env.vocabulary import Item, ItemId, Profile, UserId, UserKey
from replay.database import Database
from serve import ranker_rows, totals
from serve.vectors import Vectors

PersonRecord = PageRecord | FeedbackRecord | UserRecord | BlockRecord
"""What moves a person's state."""

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
    """CREATE TABLE IF NOT EXISTS versions (
        version INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        log_offset INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS versions_current ON versions (epoch, version)",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    """INSERT OR IGNORE INTO marks
        VALUES ('catalogue', 0), ('epoch', 0), ('vectors', 0), ('vector_length', 0)""",
    # One row at most; see `serve.imported`.
    """CREATE TABLE IF NOT EXISTS imported_world (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        about BLOB NOT NULL,
        people BLOB NOT NULL
    ) STRICT""",
    ranker_rows.SCHEMA,
    *totals.SCHEMA,
)

_PERSON = """SELECT users.user, user_state.state
    FROM users LEFT JOIN user_state USING (user) WHERE users.user_id = ?"""
_PUT_STATE = """INSERT INTO user_state VALUES (?, ?)
    ON CONFLICT (user) DO UPDATE SET state = excluded.state"""
_PUT_ITEM = """INSERT INTO items (item_id, item) VALUES (?, ?)
    ON CONFLICT (item_id) DO UPDATE SET item = excluded.item RETURNING number"""
_SEARCH = """SELECT items.item FROM item_search JOIN items ON items.number = item_search.rowid
    WHERE item_search MATCH ? ORDER BY item_search.rank LIMIT ?"""


class Person(NamedTuple):
    """Somebody who is registered: pseudonym and state."""

    user: UserKey
    state: UserState


class Version(NamedTuple):
    """A published version of the policy.

    Attributes:
        version: rises with each publication.
        epoch: of the learner that published it.
        offset: of the log, up to which it learned.
        digest: of the snapshot's manifest.
    """

    version: int
    epoch: int
    offset: int
    digest: str


class StaleEpoch(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """A newer learner has taken over: this one must not publish and should stop."""


@dataclass(frozen=True, slots=True)
class State:
    """The lookups of one database."""

    database: Database

    # --- people ---

    def person(self, connection: sqlite3.Connection, user_id: str) -> Person | None:
        """Return a registered person, or None."""
        row = connection.execute(_PERSON, (user_id,)).fetchone()
        return None if row is None or row[1] is None else Person(row[0], decode_state(row[1]))

    def add_user(self, connection: sqlite3.Connection, user_id: UserId, user: UserKey) -> None:
        """Give a person who is not registered yet their pseudonym."""
        connection.execute("INSERT INTO users VALUES (?, ?)", (user_id, user))

    def remove_user(self, connection: sqlite3.Connection, user_id: UserId) -> None:
        """Forget which pseudonym a person had; their state goes with the fold."""
        connection.execute("DELETE FROM users WHERE user_id = ?", (user_id,))

    def people(self, connection: sqlite3.Connection) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of everybody who is registered."""
        query = "SELECT user, user_id, state FROM users JOIN user_state USING (user)"
        return {
            user: (user_id, decode_state(state).profile)
            for user, user_id, state in connection.execute(query)
        }

    def has_state(self, connection: sqlite3.Connection, user: UserKey) -> bool:
        """Return whether a pseudonym still stands for somebody."""
        row = connection.execute("SELECT 1 FROM user_state WHERE user = ?", (user,)).fetchone()
        return row is not None

    def user_state(self, connection: sqlite3.Connection, user: UserKey) -> UserState | None:
        """Return a person's state; None: unknown or forgotten."""
        row = connection.execute("SELECT state FROM user_state WHERE user = ?", (user,)).fetchone()
        return None if row is None else decode_state(row[0])

    def fold(self, connection: sqlite3.Connection, records: Iterable[PersonRecord]) -> None:
        """Move the states of the records' people, in the order of the records."""
        by_user: dict[UserKey, list[PersonRecord]] = {}
        for record in records:
            by_user.setdefault(record.user, []).append(record)
        for user, theirs in by_user.items():
            state = self.user_state(connection, user)
            for record in theirs:
                state = fold(state, record)
            self._put_state(connection, user, state)

    # --- items ---

    def catalogue_offset(self, connection: sqlite3.Connection) -> int:
        """Return the log's offset of the last change of an item; 0: there was none."""
        return self._mark(connection, "catalogue")

    def item_ids(self, connection: sqlite3.Connection) -> set[ItemId]:
        """Return the ids of all items."""
        return {item_id for (item_id,) in connection.execute("SELECT item_id FROM items")}

    def vectors(self, connection: sqlite3.Connection) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        return Vectors(self._mark(connection, "vectors"), self._mark(connection, "vector_length"))

    def set_vectors(self, connection: sqlite3.Connection, vectors: Vectors) -> None:
        """Write what `vectors` returns, in the transaction that changes the items."""
        self._set_mark(connection, "vectors", vectors.n)
        self._set_mark(connection, "vector_length", vectors.length)

    def item(self, connection: sqlite3.Connection, item_id: str) -> Item | None:
        """Return an item as it was last put, or None."""
        row = connection.execute("SELECT item FROM items WHERE item_id = ?", (item_id,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=Item)

    def items(self, connection: sqlite3.Connection) -> list[Item]:
        """Return all items, in the order in which they first came."""
        rows = connection.execute("SELECT item FROM items ORDER BY number").fetchall()
        return [msgspec.msgpack.decode(row[0], type=Item) for row in rows]

    def put_items(self, connection: sqlite3.Connection, items: Sequence[Item], offset: int) -> None:
        """Write items and their search rows.

        Args:
            connection: inside the transaction that appended their records.
            items: as they are now.
            offset: of the log, of the last of them.
        """
        for item in items:
            row = (item.item_id, msgspec.msgpack.encode(item))
            (number,) = connection.execute(_PUT_ITEM, row).fetchone()
            connection.execute("DELETE FROM item_search WHERE rowid = ?", (number,))
            connection.execute(
                "INSERT INTO item_search (rowid, item_id, title, creator, tags)"
                " VALUES (?, ?, ?, ?, ?)",
                (number, item.item_id, item.title, item.creator, " ".join(item.tags)),
            )
        self._set_mark(connection, "catalogue", offset)

    def remove_item(self, connection: sqlite3.Connection, item_id: ItemId, offset: int) -> None:
        """Remove an item and its search row; `offset` is that of the record of it."""
        connection.execute(
            "DELETE FROM item_search WHERE rowid = (SELECT number FROM items WHERE item_id = ?)",
            (item_id,),
        )
        connection.execute("DELETE FROM items WHERE item_id = ?", (item_id,))
        connection.execute("INSERT OR IGNORE INTO removed_items VALUES (?)", (item_id,))
        self._set_mark(connection, "catalogue", offset)

    def was_removed(self, connection: sqlite3.Connection, item_id: ItemId) -> bool:
        """Return whether an item of this id was ever taken down."""
        query = "SELECT 1 FROM removed_items WHERE item_id = ?"
        return connection.execute(query, (item_id,)).fetchone() is not None

    def search(self, connection: sqlite3.Connection, text: str, limit: int) -> list[Item]:
        """Return items in whose id, title, creator or tags every word of a text begins a word."""
        words = text.replace('"', " ").replace("\0", " ").split()
        if not words:
            return []
        query = " ".join(f'"{word}"*' for word in words)
        rows = connection.execute(_SEARCH, (query, limit)).fetchall()
        return [msgspec.msgpack.decode(item, type=Item) for (item,) in rows]

    # --- versions ---

    def newest_epoch(self, connection: sqlite3.Connection) -> int:
        """Return the epoch of the learner that began last; 0: none did."""
        return self._mark(connection, "epoch")

    def next_epoch(self, connection: sqlite3.Connection) -> int:
        """Begin the next epoch and return it; whoever published under an older one is cut off."""
        self._set_mark(connection, "epoch", self._mark(connection, "epoch") + 1)
        return self._mark(connection, "epoch")

    def require_epoch(self, connection: sqlite3.Connection, epoch: int) -> None:
        """Do nothing if an epoch is the newest.

        Raises:
            StaleEpoch: it is not.
        """
        newest = self._mark(connection, "epoch")
        if epoch != newest:
            raise StaleEpoch(f"expected epoch {newest}, got {epoch}: another learner runs")

    def publish_version(self, connection: sqlite3.Connection, version: Version) -> None:
        """Make a version the current one.

        Raises:
            StaleEpoch: its epoch is not the newest.
        """
        self.require_epoch(connection, version.epoch)
        connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", version)

    def current_version(self) -> Version | None:
        """Return the newest version of the newest epoch that published; None: there is none."""
        with self.database.reader() as connection:
            return self.current(connection)

    def current(self, connection: sqlite3.Connection) -> Version | None:
        """Return the current version as of a transaction."""
        query = "SELECT * FROM versions ORDER BY epoch DESC, version DESC LIMIT 1"
        row = connection.execute(query).fetchone()
        return None if row is None else Version(*row)

    def versions_after(self, epoch: int, version: int, *, limit: int) -> list[Version]:
        """Return the versions after one, the current first, at most so many."""
        query = """SELECT * FROM versions WHERE (epoch, version) > (?, ?)
            ORDER BY epoch DESC, version DESC LIMIT ?"""
        with self.database.reader() as connection:
            return [Version(*row) for row in connection.execute(query, (epoch, version, limit))]

    def versions(self) -> list[Version]:
        """Return all versions ever published, in the order of what they had learned."""
        query = "SELECT * FROM versions ORDER BY log_offset, version"
        with self.database.reader() as connection:
            return [Version(*row) for row in connection.execute(query)]

    def last_version_number(self) -> int:
        """Return the highest version ever published; 0: there is none."""
        with self.database.reader() as connection:
            (number,) = connection.execute("SELECT max(version) FROM versions").fetchone()
        return int(number or 0)

    def _put_state(
        self, connection: sqlite3.Connection, user: UserKey, state: UserState | None
    ) -> None:
        if state is None:
            connection.execute("DELETE FROM user_state WHERE user = ?", (user,))
        else:
            connection.execute(_PUT_STATE, (user, encode_state(state)))

    def _mark(self, connection: sqlite3.Connection, name: str) -> int:
        (value,) = connection.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return int(value)

    def _set_mark(self, connection: sqlite3.Connection, name: str, value: int) -> None:
        connection.execute("UPDATE marks SET value = ? WHERE name = ?", (value, name))
