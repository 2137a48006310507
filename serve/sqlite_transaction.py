"""The writes of the SQLite store, inside one transaction of its database."""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import compress

import msgspec

from env.records import Record
from env.users import UserState, encode_state
from env.vocabulary import Item, ItemId, UserId, UserKey
from replay.log import forget, insert
from replay.many_rows import insert_rows
from serve.ranker_rows import RankerMove
from serve.sqlite_view import SqliteView
from serve.totals import count
from serve.vectors import Vectors
from serve.versions import Version

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
    """Writes through one connection; see `serve.store.Transaction`."""

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

    # --- people ---

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
                (number, item.item_id, item.title, item.creator, " ".join(item.tags)),
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

    # --- versions and the rest ---

    def set_epoch(self, epoch: int) -> None:
        """Write the value of `newest_epoch`."""
        self._set_mark("epoch", epoch)

    def add_version(self, version: Version) -> None:
        """Add a version."""
        self.connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", version)

    def add_ranker_move(self, move: RankerMove) -> None:
        """Write the value of `ranker_move`."""
        self.connection.execute("INSERT INTO ranker_moves VALUES (?, ?, ?)", move)

    def put_imported_world(self, about: bytes, people: bytes) -> None:
        """Write the value of `imported_world`."""
        query = "INSERT OR REPLACE INTO imported_world VALUES (1, ?, ?)"
        self.connection.execute(query, (about, people))

    def _mark_catalogue(self) -> None:
        (offset,) = self.connection.execute(_LAST_OFFSET).fetchone()
        self._set_mark("catalogue", int(offset))

    def _set_mark(self, name: str, value: int) -> None:
        self.connection.execute("UPDATE marks SET value = ? WHERE name = ?", (value, name))
