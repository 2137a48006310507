"""The lookups of the SQLite store, as of one transaction of its database."""

import sqlite3
from collections.abc import Collection

import msgspec

from env.records import PageRecord
from env.users import UserState, decode_state
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from replay.log import find, find_page
from serve.ranker_rows import RankerMove
from serve.store import Person
from serve.totals import Total
from serve.vectors import Vectors
from serve.versions import Version

_PERSON = """SELECT users.user, user_state.state
    FROM users LEFT JOIN user_state USING (user) WHERE users.user_id = ?"""
_STATE = "SELECT state FROM user_state WHERE user = ?"
_SEARCH = """SELECT items.item FROM item_search JOIN items ON items.number = item_search.rowid
    WHERE item_search MATCH ? ORDER BY item_search.rank LIMIT ?"""


class SqliteView:
    """Reads through one connection; see `serve.store.View`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    # --- people ---

    def person(self, user_id: str) -> Person | None:
        """Return a registered user, or None."""
        row = self.connection.execute(_PERSON, (user_id,)).fetchone()
        return None if row is None or row[1] is None else Person(row[0], decode_state(row[1]))

    def people(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of every registered user."""
        query = "SELECT user, user_id, state FROM users JOIN user_state USING (user)"
        return {
            user: (user_id, decode_state(state).profile)
            for user, user_id, state in self.connection.execute(query)
        }

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these users; unknown and forgotten users are left out."""
        rows = ((user, self.connection.execute(_STATE, (user,)).fetchone()) for user in users)
        return {user: decode_state(row[0]) for user, row in rows if row is not None}

    def arrival(self, user_id: str) -> tuple[Person | None, int]:
        """Return the results of `person` and `catalogue_offset`."""
        return self.person(user_id), self.catalogue_offset()

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a user's page whose id has this prefix, the first by id of several, or None."""
        return find_page(self.connection, beginning)

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, of any user; missing ones are left out."""
        found = {page_id: find(self.connection, f"p/{page_id}") for page_id in page_ids}
        return {key: page for key, page in found.items() if isinstance(page, PageRecord)}

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
        """Return items in whose id, title, creator or tags each word of `text` begins a word."""
        words = text.replace('"', " ").replace("\0", " ").split()
        if not words:
            return []
        query = " ".join(f'"{word}"*' for word in words)
        rows = self.connection.execute(_SEARCH, (query, limit)).fetchall()
        return [_item(item) for (item,) in rows]

    # --- versions ---

    def newest_epoch(self) -> int:
        """Return the epoch of the newest learner; 0: there was none."""
        return self._mark("epoch")

    def current_version(self) -> Version | None:
        """Return the newest version of the newest epoch that published; None: there is none."""
        return next(iter(self.versions_after(0, 0, limit=1)), None)

    def versions_after(self, epoch: int, version: int, *, limit: int) -> list[Version]:
        """Return at most `limit` versions after a given one, the current first."""
        query = """SELECT * FROM versions WHERE (epoch, version) > (?, ?)
            ORDER BY epoch DESC, version DESC LIMIT ?"""
        rows = self.connection.execute(query, (epoch, version, limit))
        return [Version(*row) for row in rows]

    def versions(self) -> list[Version]:
        """Return all versions ever published, ordered by log offset."""
        query = "SELECT * FROM versions ORDER BY log_offset, version"
        return [Version(*row) for row in self.connection.execute(query)]

    def last_version_number(self) -> int:
        """Return the highest version ever published; 0: there is none."""
        (number,) = self.connection.execute("SELECT max(version) FROM versions").fetchone()
        return int(number or 0)

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        rows = self.connection.execute("SELECT name, label, value FROM totals")
        return {Total(name, label): value for name, label, value in rows}

    def ranker_move(self) -> RankerMove:
        """Return the last activation of a ranker."""
        query = "SELECT * FROM ranker_moves ORDER BY move DESC LIMIT 1"
        row = self.connection.execute(query).fetchone()
        return RankerMove() if row is None else RankerMove(*row)

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return the data that `serve.imported` keeps of the current import, or None."""
        row = self.connection.execute("SELECT about, people FROM imported_world").fetchone()
        return None if row is None else (row[0], row[1])

    def _mark(self, name: str) -> int:
        query = "SELECT value FROM marks WHERE name = ?"
        (value,) = self.connection.execute(query, (name,)).fetchone()
        return int(value)


def _item(packed: bytes) -> Item:
    return msgspec.msgpack.decode(packed, type=Item)
