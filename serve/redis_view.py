"""The lookups of the Redis store.

What belongs together (a person's pseudonym and state, an item) is on one shard; rows of several
shards are read one after the other, so a view of them all is not of one moment. Nothing is decided
by such a view: what a transaction decides by is checked when it commits.
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
"""Tables. An item's row is its number, by which they are listed, and the item."""

VECTORS, EPOCH, RANKER, NEWEST, NUMBER = "vectors", "epoch", "ranker", "newest", "number"
"""Marks. `newest` are the versions that were published last, so that followers read one row."""

N_NEWEST = 16
LABEL = "\0"
"""Between a total's name and its label."""


class Rows(Protocol):
    """What a shard and a transaction on it have in common."""

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows; None where there is none."""
        ...

    def catalogue(self) -> int:
        """Return the mark of the catalogue."""
        ...

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the page whose id begins so, the first by id of several, or None."""
        ...


class RedisView:
    """What is read from one installation; see `serve.store.View`."""

    def __init__(self, database: RedisDatabase, home: int) -> None:
        """Read from a database; `home` is the shard of whom the view is about."""
        self._database = database
        self._home = home

    # --- people ---

    def person(self, user_id: str) -> Person | None:
        """Return a registered person, or None."""
        (user,) = self._of(user_id).rows(USERS, [user_id])
        return self._named(user)

    def people(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of everybody who is registered."""
        found: dict[UserKey, tuple[UserId, Profile]] = {}
        for shard in self._database.shards[ITEMS + 1 :]:
            states = shard.table(STATES)
            for user_id, user in shard.table(USERS).items():
                if (state := states.get(user.decode())) is not None:
                    profile = decode_state(state).profile
                    found[UserKey(user.decode())] = UserId(user_id), profile
        return found

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these people; whoever is unknown or forgotten is not in it."""
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
        """Return what `person` and `catalogue_offset` do, in two trips."""
        home, items = self._database.shards[self._home], self._database.shards[ITEMS]
        key = USERS, user_id
        ahead = read_ahead([key], self._database.client.ask_all(home.ask_ahead(items, [key])))
        user = ahead.rows[key]
        return self._named(user and user[STAMP_BYTES:]), max(ahead.catalogue, ahead.items)

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a person's page whose id begins so, the first by id of several, or None."""
        return self._of(user).find_page(beginning)

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, whoever's they are; those that there are not are not in it."""
        return find_pages(self._database, page_ids)

    # --- items ---

    def catalogue_offset(self) -> int:
        """Return the place of the last change of an item.

        That the home shard was told of none since is what a transaction checks; one of which
        nobody was told yet counts as well.
        """
        return max(self._at(self._home).catalogue(), self._items_catalogue())

    def item_ids(self) -> set[ItemId]:
        """Return the ids of all items."""
        return {ItemId(key) for key in self._database.shards[ITEMS].keys_of(ITEM_ROWS)}

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        """Return these items as they were last put; those that there are not are not in it."""
        return {key: item for key, (_, item) in self._numbered(item_ids).items()}

    def items(self) -> list[Item]:
        """Return all items, in the order in which they first came."""
        rows = self._database.shards[ITEMS].table(ITEM_ROWS).values()
        return [item for _, item in sorted(map(_item, rows), key=lambda row: row[0])]

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of these ids of which an item was ever taken down."""
        rows = self._at(ITEMS).rows(REMOVED, item_ids)
        return {key for key, row in zip(item_ids, rows, strict=True) if row is not None}

    def vectors(self) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        row = self._mark(VECTORS)
        return Vectors(0, 0) if row is None else msgspec.msgpack.decode(row, type=Vectors)

    def search(self, text: str, limit: int) -> list[Item]:
        """Refuse: there is no index of words.

        Raises:
            NotKept: always.
        """
        raise NotKept("the store on Redis keeps no index of words: search where the items are from")

    # --- versions ---

    def newest_epoch(self) -> int:
        """Return the epoch of the learner that began last; 0: none did."""
        return int(self._mark(EPOCH) or 0)

    def current_version(self) -> Version | None:
        """Return the newest version of the newest epoch that published; None: there is none."""
        return next(iter(self.versions_after(0, 0, limit=1)), None)

    def versions_after(self, epoch: int, version: int, *, limit: int) -> list[Version]:
        """Return the versions after one, the current first, at most so many."""
        after = [v for v in self.newest_versions() if (v.epoch, v.version) > (epoch, version)]
        return sorted(after, key=lambda v: (v.epoch, v.version), reverse=True)[:limit]

    def versions(self) -> list[Version]:
        """Return all versions ever published, in the order of what they had learned."""
        rows = self._database.shards[ITEMS].table(VERSIONS).values()
        found = [msgspec.msgpack.decode(row, type=Version) for row in rows]
        return sorted(found, key=lambda version: (version.offset, version.version))

    def last_version_number(self) -> int:
        """Return the highest version ever published; 0: there is none."""
        return max((version.version for version in self.newest_versions()), default=0)

    def newest_versions(self) -> list[Version]:
        """Return the versions that were published last, at most `N_NEWEST`."""
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
        """Return the last move of the current ranker."""
        row = self._mark(RANKER)
        return RankerMove() if row is None else msgspec.msgpack.decode(row, type=RankerMove)

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return None: nothing is imported with its world into this store."""
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
