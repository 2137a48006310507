"""A third store, in this process's memory: what somebody who adds a store writes.

Nothing of the product names it: settings with `kinds = { toy = "toy_store:TOY" }` open it at
`toy://NAME`. A transaction works on a copy of the tables, which takes the place of the old ones.
"""

import copy
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import compress
from typing import Self, TypeVar

from env.interface import EventLog, PageHistory
from env.records import (
    BlockRecord,
    FeedbackRecord,
    Kind,
    LogLine,
    PageRecord,
    Record,
    UserRecord,
    record_key,
)
from env.users.state import UserState, decode_state, encode_state
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from replay.join.late import KeptPast
from replay.log.sqlite.log import anonymous
from serve.config import Config
from serve.store.kind import StoreKind
from serve.store.store import (
    Activation,
    ActivationName,
    ImportMark,
    NotKept,
    RegisteredUser,
    RowTable,
    Transaction,
    View,
)
from serve.store.totals import Total, Vectors, count

T = TypeVar("T")


@dataclass
class Tables:
    """All rows of a store; they are replaced, never changed, once they are committed."""

    lines: list[LogLine] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    users: dict[UserId, UserKey] = field(default_factory=dict)
    states: dict[UserKey, bytes] = field(default_factory=dict)
    items: dict[ItemId, Item] = field(default_factory=dict)
    removed: set[ItemId] = field(default_factory=set)
    catalogue: int = 0
    vectors: Vectors = field(default_factory=lambda: Vectors(0, 0))
    epochs: Counter[ActivationName] = field(default_factory=Counter)
    activations: list[tuple[ActivationName, Activation]] = field(default_factory=list)
    totals: Counter[Total] = field(default_factory=Counter)
    rows: dict[RowTable, dict[str, bytes]] = field(default_factory=lambda: {"key": {}})
    import_mark: ImportMark | None = None
    staged: dict[tuple[str, UserId], bytes] = field(default_factory=dict)
    imported: dict[UserKey, bytes] = field(default_factory=dict)

    def copied(self) -> "Tables":
        return Tables(**{each.name: copy.copy(getattr(self, each.name)) for each in fields(self)})


class ToyView:
    """The lookups as of one moment; see `serve.store.store.View`."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def user(self, user_id: str) -> RegisteredUser | None:
        key = self.tables.users.get(UserId(user_id))
        state = None if key is None else self.tables.states.get(key)
        return None if key is None or state is None else RegisteredUser(key, decode_state(state))

    def users(self) -> dict[UserKey, tuple[UserId, Profile]]:
        states = self.user_states(self.tables.users.values())
        named = self.tables.users.items()
        return {key: (user_id, states[key].profile) for user_id, key in named if key in states}

    def user_keys(self, limit: int) -> list[UserKey]:
        return sorted(self.tables.states)[:limit]

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        states = self.tables.states
        return {user: decode_state(states[user]) for user in users if user in states}

    def arrival(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        return self.user(user_id), self.catalogue_offset()

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        found = [page for page in self._pages() if page.page_id.startswith(beginning)]
        return min(found, key=lambda page: page.page_id, default=None)

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        return {page.page_id: page for page in self._pages() if page.page_id in page_ids}

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        past = KeptPast()
        for line in self.tables.lines:
            if record_key(line.record) == record_key(event):
                return past.history(event)
            past.keep(line.record)
        return None

    def catalogue_offset(self) -> int:
        return self.tables.catalogue

    def item_ids(self) -> set[ItemId]:
        return set(self.tables.items)

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        return {key: self.tables.items[key] for key in item_ids if key in self.tables.items}

    def items(self) -> list[Item]:
        return list(self.tables.items.values())

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        return self.tables.removed & set(item_ids)

    def vectors(self) -> Vectors:
        return self.tables.vectors

    def search(self, text: str, limit: int) -> list[Item]:
        raise NotKept("the toy keeps no index of words")

    def newest_epoch(self, name: ActivationName) -> int:
        return self.tables.epochs[name]

    def activations_after(
        self, name: ActivationName, epoch: int, version: int, *, limit: int
    ) -> list[Activation]:
        after = [a for a in self.activations(name) if (a.epoch, a.version) > (epoch, version)]
        return sorted(after, key=lambda a: (a.epoch, a.version), reverse=True)[:limit]

    def activations(self, name: ActivationName) -> list[Activation]:
        made = [activation for of, activation in self.tables.activations if of == name]
        return sorted(made, key=lambda a: (a.offset, a.version))

    def last_version_number(self, name: ActivationName) -> int:
        return max((a.version for a in self.activations(name)), default=0)

    def totals(self) -> dict[Total, int]:
        return dict(self.tables.totals)

    def row(self, table: RowTable, key: str) -> bytes | None:
        return self.tables.rows[table].get(key)

    def rows(self, table: RowTable) -> dict[str, bytes]:
        return dict(self.tables.rows[table])

    def imported_world(self) -> tuple[bytes, bytes] | None:
        return None

    def import_mark(self) -> ImportMark | None:
        return self.tables.import_mark

    def staged_users(self) -> list[tuple[str, UserId]]:
        return list(self.tables.staged)

    def staged(self, run: str, user_ids: Sequence[UserId]) -> list[bytes | None]:
        return [self.tables.staged.get((run, user_id)) for user_id in user_ids]

    def imported_views(self, users: Sequence[UserKey]) -> list[bytes]:
        return [self.tables.imported.get(user, b"") for user in users]

    def _pages(self) -> Iterator[PageRecord]:
        records = (line.record for line in self.tables.lines)
        return (record for record in records if isinstance(record, PageRecord))


class ToyTransaction(ToyView):
    """Writes to tables that nobody else sees yet; see `serve.store.store.Transaction`."""

    def __init__(self, tables: Tables, written_ms: int) -> None:
        super().__init__(tables)
        self._written_ms = written_ms

    def append(self, records: Sequence[Record]) -> list[bool]:
        is_new = [self._append(record) for record in records]
        self.tables.totals.update(count(compress(records, is_new)))
        return is_new

    def _append(self, record: Record) -> bool:
        key = record_key(record)
        if key and key in self.tables.keys:
            return False
        self.tables.keys.add(key)
        line = LogLine(len(self.tables.lines) + 1, record, self._written_ms)
        self.tables.lines.append(line)
        return True

    def forget(self, user: UserKey) -> int:
        lines, n = self.tables.lines, 0
        for place, line in enumerate(lines):
            record = line.record
            if isinstance(record, UserRecord | BlockRecord) and record.user == user:
                lines[place] = LogLine(line.offset, anonymous(record), line.written_ms)
                n += 1
        return n

    def add_user(self, user_id: UserId, user: UserKey) -> None:
        self.tables.users[user_id] = user

    def remove_user(self, user_id: UserId) -> None:
        self.tables.users.pop(user_id, None)

    def put_states(self, states: Mapping[UserKey, UserState | None]) -> None:
        for user, state in states.items():
            if state is None:
                self.tables.states.pop(user, None)
            else:
                self.tables.states[user] = encode_state(state)

    def put_items(self, items: Sequence[Item]) -> None:
        self.tables.items |= {item.item_id: item for item in items}
        self.tables.catalogue = len(self.tables.lines)

    def remove_item(self, item_id: ItemId) -> None:
        self.tables.items.pop(item_id, None)
        self.tables.removed.add(item_id)
        self.tables.catalogue = len(self.tables.lines)

    def set_vectors(self, vectors: Vectors) -> None:
        self.tables.vectors = vectors

    def set_epoch(self, name: ActivationName, epoch: int) -> None:
        self.tables.epochs[name] = epoch

    def add_activation(self, name: ActivationName, activation: Activation) -> None:
        self.tables.activations.append((name, activation))

    def put_row(self, table: RowTable, key: str, value: bytes | None) -> None:
        rows = {**self.tables.rows[table], key: value}
        self.tables.rows[table] = {name: row for name, row in rows.items() if row is not None}

    def put_imported_world(self, about: bytes, users: bytes) -> None:
        raise NotKept("the toy takes no import with its world")

    def set_import_mark(self, mark: ImportMark | None) -> None:
        self.tables.import_mark = mark

    def stage(self, run: str, rows: Mapping[UserId, bytes | None]) -> None:
        for user_id, row in rows.items():
            self.tables.staged.pop((run, user_id), None)
            if row is not None:
                self.tables.staged[run, user_id] = row

    def put_imported_views(self, views: Mapping[UserKey, bytes]) -> None:
        self.tables.imported |= views


class ToyDatabase:
    """The committed tables of one address, and whose turn it is to write."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.turn = threading.Lock()


_DATABASES: dict[str, ToyDatabase] = {}
"""By address, so that a store that is opened again holds what it held."""


class ToyStore:
    """The `serve.store.store.Store` of one address."""

    is_local = True

    def __init__(self, database: ToyDatabase, now_ms: Callable[[], int]) -> None:
        self._database, self._now_ms = database, now_ms
        self._writer = ThreadPoolExecutor(1)
        self._is_closed = False
        self.log: EventLog = ToyLog(self)

    def shard_of(self, name: str) -> int:
        return 0

    @contextmanager
    def view(self, about: str = "") -> Iterator[View]:
        if self._is_closed:
            raise RuntimeError("the store is closed")
        yield ToyView(self._database.tables)

    def write(
        self,
        work: Callable[[Transaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        if self._is_closed:
            raise RuntimeError("the store is closed")
        return self._writer.submit(self._commit, work)

    def _commit(self, work: Callable[[Transaction], T]) -> T:
        with self._database.turn:
            tables = self._database.tables.copied()
            done = work(ToyTransaction(tables, self._now_ms()))
            self._database.tables = tables
        return done

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        return self.log.read(after, limit, kinds=["item"])

    def close(self) -> None:
        self._is_closed = True
        self._writer.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ToyLog:
    """The `env.interface.EventLog` of a toy."""

    def __init__(self, store: ToyStore) -> None:
        self._store = store

    def append(self, records: Sequence[Record], *, durable: bool) -> list[bool]:
        return self._store.write(lambda t: t.append(records), durable=durable).result()

    def read(
        self, after: int = 0, limit: int | None = None, kinds: Collection[Kind] | None = None
    ) -> Iterator[LogLine]:
        found = [line for line in self._lines()[after:] if kinds is None or _kind(line) in kinds]
        yield from found[:limit]

    def last_offset(self) -> int:
        return len(self._lines())

    def count(self) -> int:
        return len(self._lines())

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        return (offset,)

    def _lines(self) -> list[LogLine]:
        with self._store.view() as view:
            assert isinstance(view, ToyView)
            return view.tables.lines


def _kind(line: LogLine) -> str:
    return str(line.record.__struct_config__.tag)


def _open(config: Config, now_ms: Callable[[], int], *, make: bool) -> ToyStore:
    url = config.store.url
    if not make and url not in _DATABASES:
        raise ValueError("expected a toy, found none")
    return ToyStore(_DATABASES.setdefault(url, ToyDatabase()), now_ms)


TOY = StoreKind(name="toy", open=_open)
