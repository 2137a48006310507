"""The lookups of the Redis store.

Related rows (a user's pseudonym and state, an item) are on one shard. Rows of several shards are
read one after the other, so such a view is not of one moment. No decision rests on it: a
transaction's reads are checked when it commits.
"""

from collections.abc import Collection
from typing import Protocol

import msgspec

from env.records import PageRecord
from env.users import UserState, decode_state
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from replay.redis_database import RedisDatabase
from replay.redis_log import find_pages
from replay.redis_shard import STAMP_BYTES, read_ahead
from replay.redis_writer import ITEMS
from serve.ranker_rows import RankerMove
from serve.store import NotKept, Person
from serve.totals import Total
from serve.vectors import Vectors
from serve.versions import Version

USERS, STATES, ITEM_ROWS, REMOVED, VERSIONS, MARKS = (
    "user",
    "state",
    "item",
    "removed",
    "version",
    "mark",
)
"""Tables. An item's row holds its number, which orders listings, and the item."""

VECTORS, EPOCH, RANKER, NEWEST, NUMBER = "vectors", "epoch", "ranker", "newest", "number"
"""Marks. `newest` holds the last published versions, so that followers read one row."""

N_NEWEST = 16
LABEL = "\0"
"""Separator between a total's name and its label."""


class Rows(Protocol):
    """The common reads of a shard and of a transaction on it."""

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows; None for a missing one."""
        ...

    def catalogue(self) -> int:
        """Return the catalogue's mark."""
        ...

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the page whose id has this prefix, the first by id of several, or None."""
        ...


class RedisView:
    """The lookups of one installation; see `serve.store.View`."""

    def __init__(self, database: RedisDatabase, home: int) -> None:
        self._database = database
        self._home = home

    # --- people ---

    def person(self, user_id: str) -> Person | None:
        """Return a registered user, or None."""
        (user,) = self._of(user_id).rows(USERS, [user_id])
        return self._named(user)

    def people(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of every registered user."""
        found: dict[UserKey, tuple[UserId, Profile]] = {}
        for shard in self._database.shards[ITEMS + 1 :]:
            states = shard.table(STATES)
            for user_id, user in shard.table(USERS).items():
                if (state := states.get(user.decode())) is not None:
                    profile = decode_state(state).profile
                    found[UserKey(user.decode())] = UserId(user_id), profile
        return found

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these users; unknown and forgotten users are left out."""
        by_shard: dict[int, list[UserKey]] = {}
        for user in users:
            by_shard.setdefault(self._database.shard_of(user), []).append(user)
        return {
            user: decode_state(state)
            for shard, theirs in by_shard.items()
            for user, state in zip(theirs, self._at(shard).rows(STATES, theirs), strict=True)
            if state is not None
        }

    def arrival(self, user_id: str) -> tuple[Person | None, int]:
        """Return the results of `person` and `catalogue_offset`, in two round trips."""
        home, items = self._database.shards[self._home], self._database.shards[ITEMS]
        key = USERS, user_id
        ahead = read_ahead([key], self._database.client.ask_all(home.ask_ahead(items, [key])))
        user = ahead.rows[key]
        return self._named(user and user[STAMP_BYTES:]), max(ahead.catalogue, ahead.items)

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a user's page whose id has this prefix, the first by id of several, or None."""
        return self._of(user).find_page(beginning)

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, of any user; missing ones are left out."""
        return find_pages(self._database, page_ids)

    # --- items ---

    def catalogue_offset(self) -> int:
        """Return the offset of the last change of an item.

        A transaction checks that the home shard's mark has not moved. A change that no shard knows
        of yet counts as well.
        """
        return max(self._at(self._home).catalogue(), self._items_catalogue())

    def item_ids(self) -> set[ItemId]:
        """Return the ids of all items."""
        return {ItemId(key) for key in self._database.shards[ITEMS].keys_of(ITEM_ROWS)}

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        """Return these items as they were last put; missing ones are left out."""
        return {key: item for key, (_, item) in self._numbered(item_ids).items()}

    def items(self) -> list[Item]:
        """Return all items, in the order of their first put."""
        rows = self._database.shards[ITEMS].table(ITEM_ROWS).values()
        return [item for _, item in sorted(map(_item, rows), key=lambda row: row[0])]

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        """Return those ids of which an item was ever removed."""
        rows = self._at(ITEMS).rows(REMOVED, item_ids)
        return {key for key, row in zip(item_ids, rows, strict=True) if row is not None}

    def vectors(self) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        row = self._mark(VECTORS)
        return Vectors(0, 0) if row is None else msgspec.msgpack.decode(row, type=Vectors)

    def search(self, text: str, limit: int) -> list[Item]:
        """Refuse: this store has no text index.

        Raises:
            NotKept: always.
        """
        raise NotKept("the store on Redis keeps no index of words: search where the items are from")

    # --- versions ---

    def newest_epoch(self) -> int:
        """Return the epoch of the newest learner; 0: there was none."""
        return int(self._mark(EPOCH) or 0)

    def current_version(self) -> Version | None:
        """Return the newest version of the newest epoch that published; None: there is none."""
        return next(iter(self.versions_after(0, 0, limit=1)), None)

    def versions_after(self, epoch: int, version: int, *, limit: int) -> list[Version]:
        """Return at most `limit` versions after a given one, the current first."""
        after = [v for v in self.newest_versions() if (v.epoch, v.version) > (epoch, version)]
        return sorted(after, key=lambda v: (v.epoch, v.version), reverse=True)[:limit]

    def versions(self) -> list[Version]:
        """Return all versions ever published, ordered by log offset."""
        rows = self._database.shards[ITEMS].table(VERSIONS).values()
        found = [msgspec.msgpack.decode(row, type=Version) for row in rows]
        return sorted(found, key=lambda version: (version.offset, version.version))

    def last_version_number(self) -> int:
        """Return the highest version ever published; 0: there is none."""
        return max((version.version for version in self.newest_versions()), default=0)

    def newest_versions(self) -> list[Version]:
        """Return the last published versions, at most `N_NEWEST`."""
        row = self._mark(NEWEST)
        return [] if row is None else msgspec.msgpack.decode(row, type=list[Version])

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        found: dict[Total, int] = {}
        for shard in self._database.shards:
            for key, n in shard.totals().items():
                name, _, label = key.partition(LABEL)
                found[Total(name, label)] = found.get(Total(name, label), 0) + n
        return found

    def ranker_move(self) -> RankerMove:
        """Return the last activation of a ranker."""
        row = self._mark(RANKER)
        return RankerMove() if row is None else msgspec.msgpack.decode(row, type=RankerMove)

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return None: this store takes no import with its world."""
        return None

    def _numbered(self, item_ids: Collection[ItemId]) -> dict[ItemId, tuple[int, Item]]:
        rows = self._at(ITEMS).rows(ITEM_ROWS, item_ids)
        found = zip(item_ids, rows, strict=True)
        return {key: _item(row) for key, row in found if row is not None}

    def _named(self, user: bytes | None) -> Person | None:
        if user is None:
            return None
        key = UserKey(user.decode())
        states = self.user_states([key])
        return Person(key, states[key]) if states else None

    def _mark(self, name: str) -> bytes | None:
        (row,) = self._at(ITEMS).rows(MARKS, [name])
        return row

    def _items_catalogue(self) -> int:
        return self._database.shards[ITEMS].catalogue()

    def _of(self, name: str) -> Rows:
        return self._at(self._database.shard_of(name))

    def _at(self, shard: int) -> Rows:
        return self._database.shards[shard]


def _item(row: bytes) -> tuple[int, Item]:
    return msgspec.msgpack.decode(row, type=tuple[int, Item])
