"""The lookups of the Redis store.

Related rows (a user's pseudonym and state, an item) are on one shard. Rows of several shards are
read one after the other, so such a view is not of one moment. No decision rests on it: a
transaction's reads are checked when it commits.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import compress
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeVar

import msgspec

from env.interface import PageHistory
from env.records import FeedbackRecord, LogLine, PageRecord, Record
from env.users.state import UserState, decode_state, encode_state
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from replay.log.redis.client import RELEASE, TAKE, RedisClient, RedisError
from replay.log.redis.log import LogNotFound, RedisDatabase, RedisLog, find_history, find_pages
from replay.log.redis.shard import STAMP_BYTES, read_ahead
from replay.log.redis.writer import ITEMS, Contended, ShardTransaction
from serve.config import Config
from serve.store.kind import (
    SLOW_S,
    WRITE_BYTES,
    StoreHealth,
    StoreKind,
    StoreMemory,
    median_s,
)
from serve.store.lease import held
from serve.store.store import (
    Activation,
    ActivationName,
    ImportMark,
    NotKept,
    RegisteredUser,
    RowTable,
    StoreLog,
    StoreUnavailable,
    translated,
    unavailable,
)
from serve.store.totals import Total, Vectors, count

USERS, STATES, ITEM_ROWS, REMOVED, MARKS, STAGED, IMPORTED = (
    "user",
    "state",
    "item",
    "removed",
    "mark",
    "staged",
    "imported",
)
"""Tables. An item's row holds its number, which orders listings, and the item."""

VECTORS, NUMBER, OLD_RANKER, IMPORT = "vectors", "number", "ranker", "import"
"""Marks. The release of 29 November 2026 kept the last activation of a ranker in `ranker`."""


class ActivationKeys(NamedTuple):
    """Table of all activations of one name, and marks of its newest epoch and activations.

    The last few stand in one mark as well, so that followers read one row.
    """

    table: str
    epoch: str
    newest: str


ACTIVATIONS: Mapping[ActivationName, ActivationKeys] = {
    "policy": ActivationKeys("version", "epoch", "newest"),
    "ranker": ActivationKeys("ranker", "ranker_epoch", "ranker_newest"),
    "collaborative": ActivationKeys("collaborative", "collaborative_epoch", "collaborative_newest"),
}

N_NEWEST = 16
LABEL = "\0"
"""Separator between a total's name and its label."""


class ShardRows(Protocol):
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
    """The lookups of one installation; see `serve.store.store.View`."""

    def __init__(self, database: RedisDatabase, home: int) -> None:
        self._database = database
        self._home = home

    # --- users ---

    def user(self, user_id: str) -> RegisteredUser | None:
        """Return a registered user, or None."""
        (user,) = self._of(user_id).rows(USERS, [user_id])
        return self._named(user)

    def users(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of every registered user."""
        found: dict[UserKey, tuple[UserId, Profile]] = {}
        for shard in self._database.shards[ITEMS + 1 :]:
            states = shard.table(STATES)
            for user_id, user in shard.table(USERS).items():
                if (state := states.get(user.decode())) is not None:
                    profile = decode_state(state).profile
                    found[UserKey(user.decode())] = UserId(user_id), profile
        return found

    def user_keys(self, limit: int) -> list[UserKey]:
        """Return the pseudonyms of at most `limit` registered users, in ascending order."""
        shards = self._database.shards[ITEMS + 1 :]
        return sorted(UserKey(user) for shard in shards for user in shard.keys_of(STATES))[:limit]

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

    def arrival(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        """Return the results of `user` and `catalogue_offset`, in two round trips."""
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

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of a logged event, and the events about it that precede this one."""
        return find_history(self._database, event)

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

    # --- activations ---

    def newest_epoch(self, name: ActivationName) -> int:
        """Return the epoch of the newest writer; 0: there was none."""
        row, old = self._at(ITEMS).rows(MARKS, [ACTIVATIONS[name].epoch, OLD_RANKER])
        return int(row or 0) or max((each.epoch for each in _adopted(name, old)), default=0)

    def activations_after(
        self, name: ActivationName, epoch: int, version: int, *, limit: int
    ) -> list[Activation]:
        """Return at most `limit` activations after a given one, the current first."""
        newest = self.newest_activations(name)
        after = [each for each in newest if (each.epoch, each.version) > (epoch, version)]
        return sorted(after, key=lambda each: (each.epoch, each.version), reverse=True)[:limit]

    def activations(self, name: ActivationName) -> list[Activation]:
        """Return all activations ever made, ordered by log offset and version."""
        rows = self._database.shards[ITEMS].table(ACTIVATIONS[name].table).values()
        found = [msgspec.msgpack.decode(row, type=Activation) for row in rows]
        found += _adopted(name, self._mark(OLD_RANKER))
        return sorted(found, key=lambda each: (each.offset, each.version))

    def last_version_number(self, name: ActivationName) -> int:
        """Return the highest version ever activated; 0: there is none."""
        return max((each.version for each in self.newest_activations(name)), default=0)

    def newest_activations(self, name: ActivationName) -> list[Activation]:
        """Return the last activations, at most `N_NEWEST`."""
        row, old = self._at(ITEMS).rows(MARKS, [ACTIVATIONS[name].newest, OLD_RANKER])
        if row is None:
            return _adopted(name, old)
        return msgspec.msgpack.decode(row, type=list[Activation])

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        found: dict[Total, int] = {}
        for shard in self._database.shards:
            for key, n in shard.totals().items():
                name, _, label = key.partition(LABEL)
                found[Total(name, label)] = found.get(Total(name, label), 0) + n
        return found

    def row(self, table: RowTable, key: str) -> bytes | None:
        """Return a row of the operator's, or None."""
        (row,) = self._at(ITEMS).rows(table, [key])
        return row

    def rows(self, table: RowTable) -> dict[str, bytes]:
        """Return all rows of a table of the operator's, by key."""
        return self._database.shards[ITEMS].table(table)

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return None: this store takes no import with its world."""
        return None

    # --- imports ---

    def import_mark(self) -> ImportMark | None:
        """Return the value that `set_import_mark` wrote last, or None."""
        row = self._mark(IMPORT)
        return None if row is None else msgspec.msgpack.decode(row, type=ImportMark)

    def staged_users(self) -> list[tuple[str, UserId]]:
        """Return the run and the user id of every staged row."""
        shards = self._database.shards[ITEMS + 1 :]
        names = (name.partition("/") for shard in shards for name in shard.keys_of(STAGED))
        return [(run, UserId(user_id)) for run, _, user_id in names]

    def staged(self, run: str, user_ids: Sequence[UserId]) -> list[bytes | None]:
        """Return the rows staged for these users of one shard; None for a missing one."""
        if not user_ids:
            return []
        return self._of(user_ids[0]).rows(STAGED, [_staged_key(run, each) for each in user_ids])

    def imported_views(self, users: Sequence[UserKey]) -> list[bytes]:
        """Return the keys of the imported views of users of one shard; empty without any."""
        if not users:
            return []
        return [row or b"" for row in self._of(users[0]).rows(IMPORTED, users)]

    def _numbered(self, item_ids: Collection[ItemId]) -> dict[ItemId, tuple[int, Item]]:
        rows = self._at(ITEMS).rows(ITEM_ROWS, item_ids)
        found = zip(item_ids, rows, strict=True)
        return {key: _item(row) for key, row in found if row is not None}

    def _named(self, user: bytes | None) -> RegisteredUser | None:
        if user is None:
            return None
        key = UserKey(user.decode())
        states = self.user_states([key])
        return RegisteredUser(key, states[key]) if states else None

    def _mark(self, name: str) -> bytes | None:
        (row,) = self._at(ITEMS).rows(MARKS, [name])
        return row

    def _items_catalogue(self) -> int:
        return self._database.shards[ITEMS].catalogue()

    def _of(self, name: str) -> ShardRows:
        return self._at(self._database.shard_of(name))

    def _at(self, shard: int) -> ShardRows:
        return self._database.shards[shard]


def _adopted(name: ActivationName, row: bytes | None) -> list[Activation]:
    """Return the activation of a ranker that the release of 29 November wrote, if any."""
    if name != "ranker" or row is None:
        return []
    move, version, digest = msgspec.msgpack.decode(row, type=tuple[int, int, str])
    return [Activation(version, move, 0, digest)]


def _staged_key(run: str, user_id: UserId) -> str:
    return f"{run}/{user_id}"


def _item(row: bytes) -> tuple[int, Item]:
    return msgspec.msgpack.decode(row, type=tuple[int, Item])


class RedisTransaction(RedisView):
    """Gathers writes, and reads that the commit checks; see `serve.store.store.Transaction`.

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

    # --- users ---

    def arrival(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        """Return the results of `user` and `catalogue_offset`."""
        return self.user(user_id), self.catalogue_offset()

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

    # --- activations and the rest ---

    def set_epoch(self, name: ActivationName, epoch: int) -> None:
        """Write the value of `newest_epoch`."""
        self._put("", MARKS, ACTIVATIONS[name].epoch, str(epoch).encode())

    def add_activation(self, name: ActivationName, activation: Activation) -> None:
        """Add an activation."""
        keys, row = ACTIVATIONS[name], f"{activation.epoch}/{activation.version}"
        newest = [*self.newest_activations(name), activation]
        newest.sort(key=lambda each: (each.epoch, each.version))
        self._put("", keys.table, row, msgspec.msgpack.encode(activation))
        self._put("", MARKS, keys.newest, msgspec.msgpack.encode(newest[-N_NEWEST:]))

    def put_row(self, table: RowTable, key: str, value: bytes | None) -> None:
        """Write a row of the operator's; None removes it."""
        self._put("", table, key, value)

    def put_imported_world(self, about: bytes, users: bytes) -> None:
        """Refuse: the items and users of an import are on several shards.

        Raises:
            NotKept: always.
        """
        raise NotKept("the store on Redis takes no import with its world: its users are in shards")

    def set_import_mark(self, mark: ImportMark | None) -> None:
        """Write the value of `import_mark`."""
        self._put("", MARKS, IMPORT, None if mark is None else msgspec.msgpack.encode(mark))

    def stage(self, run: str, rows: Mapping[UserId, bytes | None]) -> None:
        """Write the rows staged for users; None removes one."""
        for user_id, row in rows.items():
            self._put(user_id, STAGED, _staged_key(run, user_id), row)

    def put_imported_views(self, views: Mapping[UserKey, bytes]) -> None:
        """Write the values of `imported_views`; empty removes one."""
        for user, keys in views.items():
            self._put(user, IMPORTED, user, keys or None)

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

    def _at(self, shard: int) -> ShardRows:
        return self._shard if shard == self._home else super()._at(shard)


T = TypeVar("T")
_FAILURES = (RedisError, Contended)
"""Errors of the database while it is unavailable or under too many concurrent writes."""


class RedisStore:
    """The `serve.store.store.Store` of one installation on a Redis server."""

    def __init__(
        self,
        url: str,
        now_ms: Callable[[], int],
        *,
        name: str,
        n_shards: int,
        durable: bool,
        make: bool = True,
    ) -> None:
        """Connect to the server.

        Args:
            url: address of the server, see `replay.log.redis.log.RedisDatabase`.
            now_ms: the wall clock, for `LogLine.written_ms`.
            name: name of the installation; one server may hold several.
            n_shards: number of shards of users, fixed when the installation is made.
            durable: refuse a server that acknowledges a write before it is on disk.
            make: make a missing installation; otherwise refuse and write nothing.

        Raises:
            NotDurable: the server acknowledges too early.
            NoLog: the installation is missing.
            ValueError: the number of shards differs, or a newer nextswipe wrote it.
            StoreUnavailable: the server cannot be reached.
        """
        try:
            self.database = RedisDatabase(
                url, now_ms, name=name, n_shards=n_shards, durable=durable, make=make
            )
        except RedisError as error:
            raise unavailable(error) from error
        self._lines = RedisLog(self.database)
        self.log = StoreLog(self._lines, _FAILURES)

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine: no, it is a round trip."""
        return False

    def shard_of(self, name: str) -> int:
        """Return the shard of a user, by the caller's id or the pseudonym."""
        return self.database.shard_of(name)

    @contextlib.contextmanager
    def view(self, about: str = "") -> Iterator[RedisView]:
        """Lend a view; each of its reads is as of its own moment."""
        if self.database.is_closed:
            raise RuntimeError("the store is closed")
        try:
            yield RedisView(self.database, self._home(about))
        except RedisError as error:
            raise unavailable(error) from error

    def write(
        self,
        work: Callable[[RedisTransaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        """Queue a transaction, always durable; see `serve.store.store.Store.write`."""
        home = self._home(about)
        # `about` may be an id or a pseudonym: one of the two reads finds nothing.
        reads = [(USERS, about), (STATES, about)] if about else []
        reads += [(STATES, user) for user in users if user != about]
        writing = self.database.write(
            lambda shard: work(RedisTransaction(self.database, home, shard)),
            shard=home,
            reads=reads,
        )
        return translated(writing, _FAILURES)

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield at most `limit` lines about items after an offset in their shard."""
        with self.view():
            yield from self._lines.item_lines(after, limit)

    def close(self) -> None:
        """Commit the queued writes and disconnect; a second call does nothing."""
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

    def _home(self, about: str) -> int:
        return self.database.shard_of(about) if about else ITEMS


NEARLY_FULL = 0.9
KEPT_S = 60
"""Seconds after which the server forgets the key that a check wrote."""


def _open(config: Config, now_ms: Callable[[], int], *, make: bool) -> RedisStore:
    settings = config.store
    return RedisStore(
        settings.url,
        now_ms,
        name=settings.name,
        n_shards=settings.shards,
        durable=settings.durable,
        make=make,
    )


def _look(config: Config) -> StoreHealth:
    """Check the server without making a log there."""
    name = config.store.name
    try:
        _open(config, lambda: 0, make=False).close()
        said = f"a log of {name}"
    except LogNotFound:
        said = f"a log of {name} will be made at the start"
    except (ValueError, StoreUnavailable) as error:
        return StoreHealth("wrong", f"store.url: {error}")
    try:
        return _look_at_server(config, said)
    except RedisError as error:
        return StoreHealth("wrong", f"store.url: {unavailable(error)}")


def _look_at_server(config: Config, said: str) -> StoreHealth:
    key = f"{{{config.store.name}.0}}:doctor"
    with contextlib.closing(RedisClient(config.store.url)) as client:
        used_bytes, most_bytes = client.memory()
        write_s = median_s(lambda: client.ask("SET", key, bytes(WRITE_BYTES), "EX", KEPT_S))
        client.ask("UNLINK", key)
    said += f", {used_bytes / 2**30:.1f} GB taken, a write {1e3 * write_s:.1f} ms"
    if not config.store.durable:
        return StoreHealth("look", f"{said}: acknowledged ones may be lost (store.durable)")
    if not most_bytes:
        return StoreHealth("look", f"{said}; no maxmemory: when full it is killed, set one")
    said += f", full at {most_bytes / 2**30:.1f} GB"
    if used_bytes > NEARLY_FULL * most_bytes:
        return StoreHealth("look", f"{said}: it will refuse writes, and the log only grows")
    if write_s > SLOW_S:
        return StoreHealth("look", f"{said}: each feedback waits for one")
    return StoreHealth("well", said)


def _used_bytes(config: Config) -> int:
    with contextlib.closing(RedisClient(config.store.url)) as client:
        used_bytes, _ = client.memory()
    return used_bytes


def _remove(config: Config) -> None:
    """Delete an installation, key by key."""
    cursor = b"0"
    with contextlib.closing(RedisClient(config.store.url)) as client:
        while True:
            cursor, keys = client.ask(
                "SCAN", cursor, "MATCH", f"{{{config.store.name}.*", "COUNT", 1_000
            )
            client.ask_all([("UNLINK", key) for key in keys])
            if int(cursor) == 0:
                return


class RedisLease:
    """The lease of an installation; see `serve.store.lease.LeaseStore`."""

    def __init__(self, url: str, name: str) -> None:
        self._client = RedisClient(url)
        self._key = f"{{{name}.{ITEMS}}}:server"

    def take(self, value: bytes, mine: bytes, lease_s: float) -> bytes:
        """Write a value if there is none, or `mine`; return the value that stands there then."""
        found: bytes = self._client.ask(
            "EVAL", TAKE, 1, self._key, value, mine, round(1000 * lease_s)
        )
        return found

    def release(self, mine: bytes) -> None:
        """Remove the value if it is `mine`."""
        self._client.ask("EVAL", RELEASE, 1, self._key, mine)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


@contextlib.contextmanager
def _lease(config: Config, holder: bytes, lost: Callable[[bytes], None]) -> Iterator[None]:
    try:
        lease = held(RedisLease(config.store.url, config.store.name), holder, lost, _FAILURES)
        with contextlib.ExitStack() as stack:
            stack.enter_context(lease)
            yield
    except RedisError as error:
        raise unavailable(error) from error


REDIS = StoreKind(
    name="redis",
    open=_open,
    is_shared=True,
    keeps_ray_state=True,
    check=_look,
    lease=_lease,
    memory=StoreMemory(_used_bytes, _remove),
)
"""One installation on a Redis server."""
