"""The writes of the Redis store, on the shard of the user or the items concerned."""

from collections.abc import Mapping, Sequence
from itertools import compress

import msgspec

from env.records import Record
from env.users import UserState, encode_state
from env.vocabulary import Item, ItemId, UserId, UserKey
from replay.redis_database import RedisDatabase
from replay.redis_transaction import ShardTransaction
from replay.redis_writer import ITEMS
from serve.ranker_rows import RankerMove
from serve.redis_view import (
    EPOCH,
    ITEM_ROWS,
    LABEL,
    MARKS,
    N_NEWEST,
    NEWEST,
    NUMBER,
    RANKER,
    REMOVED,
    STATES,
    USERS,
    VECTORS,
    VERSIONS,
    RedisView,
    Rows,
)
from serve.store import NotKept, Person
from serve.totals import count
from serve.vectors import Vectors
from serve.versions import Version


class RedisTransaction(RedisView):
    """Gathers writes, and reads that the commit checks; see `serve.store.Transaction`.

    Rows of another shard can be read, unchecked, but not written.
    """

    def __init__(self, database: RedisDatabase, home: int, shard: ShardTransaction) -> None:
        super().__init__(database, home)
        self._shard = shard

    # --- the log ---

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append to the log and update the totals; return for each record whether it was new."""
        is_new = self._shard.append(records)
        totals = count(compress(records, is_new))
        self._shard.add_totals((f"{name}{LABEL}{label}", n) for (name, label), n in totals.items())
        return is_new

    def forget(self, user: UserKey) -> int:
        """Overwrite a user's identity in the log; return the number of changed lines."""
        return self._shard.forget(user)

    # --- people ---

    def arrival(self, user_id: str) -> tuple[Person | None, int]:
        """Return the results of `person` and `catalogue_offset`."""
        return self.person(user_id), self.catalogue_offset()

    def add_user(self, user_id: UserId, user: UserKey) -> None:
        """Store the pseudonym of a new user."""
        self._put(user_id, USERS, user_id, user.encode())

    def remove_user(self, user_id: UserId) -> None:
        """Remove the pseudonym of a user."""
        self._put(user_id, USERS, user_id, None)

    def put_states(self, states: Mapping[UserKey, UserState | None]) -> None:
        """Write users' states; None removes one."""
        for user, state in states.items():
            self._put(user, STATES, user, None if state is None else encode_state(state))

    # --- items ---

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items; the appended records have moved the catalogue's mark."""
        before = self._numbered([item.item_id for item in items])
        number = int(self._mark(NUMBER) or 0)
        for item in items:
            if item.item_id in before:
                place = before[item.item_id][0]
            else:
                place = number = number + 1
            self._put("", ITEM_ROWS, item.item_id, msgspec.msgpack.encode((place, item)))
        self._put("", MARKS, NUMBER, str(number).encode())

    def remove_item(self, item_id: ItemId) -> None:
        """Remove an item; the appended record has moved the catalogue's mark."""
        self._put("", ITEM_ROWS, item_id, None)
        self._put("", REMOVED, item_id, b"")

    def set_vectors(self, vectors: Vectors) -> None:
        """Write the value of `vectors`."""
        self._put("", MARKS, VECTORS, msgspec.msgpack.encode(vectors))

    # --- versions and the rest ---

    def set_epoch(self, epoch: int) -> None:
        """Write the value of `newest_epoch`."""
        self._put("", MARKS, EPOCH, str(epoch).encode())

    def add_version(self, version: Version) -> None:
        """Add a version."""
        newest = sorted([*self.newest_versions(), version], key=lambda v: (v.epoch, v.version))
        self._put("", VERSIONS, str(version.version), msgspec.msgpack.encode(version))
        self._put("", MARKS, NEWEST, msgspec.msgpack.encode(newest[-N_NEWEST:]))

    def add_ranker_move(self, move: RankerMove) -> None:
        """Write the value of `ranker_move`."""
        self._put("", MARKS, RANKER, msgspec.msgpack.encode(move))

    def put_imported_world(self, about: bytes, people: bytes) -> None:
        """Refuse: the items and users of an import are on several shards.

        Raises:
            NotKept: always.
        """
        raise NotKept("the store on Redis takes no import with its world: its people are in shards")

    def _put(self, name: str, table: str, key: str, value: bytes | None) -> None:
        shard = self._database.shard_of(name) if name else ITEMS
        if shard != self._home:
            raise ValueError(
                f"expected to write on shard {self._home}, got {table} of shard {shard}; whom was "
                "the transaction said to be about?"
            )
        self._shard.put(table, key, value)

    def _items_catalogue(self) -> int:
        return self._shard.items_catalogue()

    def _at(self, shard: int) -> Rows:
        return self._shard if shard == self._home else super()._at(shard)
