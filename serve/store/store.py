"""The protocol of the server's store: the log, and the lookups that are folds of it.

Lookups are written in the transaction that appends their records, so processes agree and a crash
cannot separate the two. `View` reads, `Transaction` reads and writes atomically on one shard. All
rows of a user are on the shard of their id; items, versions and the rest are on one more.
Derivation and rejected alternatives: `docs/decisions/serve-store.md`.

See also `docs/decisions/serve-rankers.md`, `docs/decisions/serve-versions.md`.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self, TypeVar

from env.interface import EventLog, PageHistory
from env.records import FeedbackRecord, Kind, LogLine, PageRecord, Record
from env.users.state import UserState
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from serve.store.totals import Total, Vectors

ActivationName = Literal["policy", "ranker", "collaborative"]
"""Something of which one version is current: the bandit's policy, the retention ranker, or the item
factors of what others like a user liked."""

RowTable = Literal["key"]
"""A table of what operators decide and the log does not hold: the API keys."""


class Activation(NamedTuple):
    """A version that was made current; the last one of the newest epoch is."""

    version: int = 0  # number of what was made current; 0: nothing is
    epoch: int = 0  # of the writer, from 1; see `serve.store.generations`
    offset: int = 0  # log offset up to which it has learned; 0: it is no fold of the log
    digest: str = ""  # of its manifest; empty: nothing is current


class ImportMark(NamedTuple):
    """The import of users that stages its rows or, once committed, is being finished."""

    run: str  # its name
    at_ms: int  # server time
    is_committed: bool = False


T = TypeVar("T")


class RegisteredUser(NamedTuple):
    """A registered user: pseudonym and state."""

    user: UserKey
    state: UserState


class StoreUnavailable(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """The store cannot be read or written now; the caller may try again."""


class NotKept(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """This kind of store does not support the operation; another kind does."""


class View(Protocol):
    """The lookups as of one moment."""

    # --- users ---

    def user(self, user_id: str) -> RegisteredUser | None:
        """Return a registered user, or None."""
        ...

    def users(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of every registered user."""
        ...

    def user_keys(self, limit: int) -> list[UserKey]:
        """Return the pseudonyms of at most `limit` registered users, in ascending order.

        Pseudonyms are random, so these are a sample that stays the same while users stay.
        """
        ...

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these users; unknown and forgotten users are left out."""
        ...

    def arrival(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        """Return the results of `user` and `catalogue_offset`, which every page request needs."""
        ...

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a user's page whose id has this prefix, the first by id of several, or None."""
        ...

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, of any user; missing ones are left out."""
        ...

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of a logged event, and the events about it that precede this one.

        None where the page does not precede the event in the log.
        """
        ...

    # --- items ---

    def catalogue_offset(self) -> int:
        """Return the offset of the last change of an item (see `item_lines`); 0: there was none.

        Seen from a user's shard it covers every change that was acknowledged to a client.
        """
        ...

    def item_ids(self) -> set[ItemId]:
        """Return the ids of all items."""
        ...

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        """Return these items as they were last put; missing ones are left out."""
        ...

    def items(self) -> list[Item]:
        """Return all items, in the order of their first put."""
        ...

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        """Return those ids of which an item was ever removed."""
        ...

    def vectors(self) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        ...

    def search(self, text: str, limit: int) -> list[Item]:
        """Return items of which each word of `text` begins a word.

        These are the words of id, title, description, creator and tags.

        Raises:
            NotKept: this store has no text index.
        """
        ...

    # --- activations ---

    def newest_epoch(self, name: ActivationName) -> int:
        """Return the epoch of the newest writer; 0: there was none."""
        ...

    def activations_after(
        self, name: ActivationName, epoch: int, version: int, *, limit: int
    ) -> list[Activation]:
        """Return at most `limit` activations after a given one, the current first."""
        ...

    def activations(self, name: ActivationName) -> list[Activation]:
        """Return all activations ever made, ordered by log offset and version."""
        ...

    def last_version_number(self, name: ActivationName) -> int:
        """Return the highest version ever activated; 0: there is none."""
        ...

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        ...

    def row(self, table: RowTable, key: str) -> bytes | None:
        """Return a row of the operator's, or None."""
        ...

    def rows(self, table: RowTable) -> dict[str, bytes]:
        """Return all rows of a table of the operator's, by key.

        In a transaction they are not guarded against other writers: change a row that `row` gave.
        """
        ...

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return the data that `serve.jobs.imported_world` keeps of the current import, or None."""
        ...

    # --- imports of users and their histories, see `serve.store.staging` ---

    def import_mark(self) -> ImportMark | None:
        """Return the value that `set_import_mark` wrote last, or None."""
        ...

    def staged_users(self) -> list[tuple[str, UserId]]:
        """Return the run and the user id of every staged row, in any order."""
        ...

    def staged(self, run: str, user_ids: Sequence[UserId]) -> list[bytes | None]:
        """Return the rows staged for these users of one shard; None for a missing one."""
        ...

    def imported_views(self, users: Sequence[UserKey]) -> list[bytes]:
        """Return the keys of the imported views of users of one shard; empty without any."""
        ...


class Transaction(View, Protocol):
    """A view that also writes, on the transaction's own shard."""

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append to the log and update the totals; return for each record whether it was new.

        A record whose `record_key` is in the log already changes nothing.
        """
        ...

    def forget(self, user: UserKey) -> int:
        """Overwrite a user's identity in the log; return the number of changed lines."""
        ...

    def add_user(self, user_id: UserId, user: UserKey) -> None:
        """Store the pseudonym of a new user."""
        ...

    def remove_user(self, user_id: UserId) -> None:
        """Remove the pseudonym of a user; `put_states` removes the state."""
        ...

    def put_states(self, states: Mapping[UserKey, UserState | None]) -> None:
        """Write users' states; None removes one."""
        ...

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items, after their records were appended in the same transaction."""
        ...

    def remove_item(self, item_id: ItemId) -> None:
        """Remove an item, after its record was appended in the same transaction."""
        ...

    def set_vectors(self, vectors: Vectors) -> None:
        """Write the value of `vectors`, in the transaction that changes the items."""
        ...

    def set_epoch(self, name: ActivationName, epoch: int) -> None:
        """Write the value of `newest_epoch`."""
        ...

    def add_activation(self, name: ActivationName, activation: Activation) -> None:
        """Add an activation; one of the newest epoch becomes the current one."""
        ...

    def put_row(self, table: RowTable, key: str, value: bytes | None) -> None:
        """Write a row of the operator's; None removes it."""
        ...

    def put_imported_world(self, about: bytes, users: bytes) -> None:
        """Write the value of `imported_world`."""
        ...

    def set_import_mark(self, mark: ImportMark | None) -> None:
        """Write the value of `import_mark`, in a transaction about no user."""
        ...

    def stage(self, run: str, rows: Mapping[UserId, bytes | None]) -> None:
        """Write the rows staged for users; None removes one."""
        ...

    def put_imported_views(self, views: Mapping[UserKey, bytes]) -> None:
        """Write the values of `imported_views`; empty removes one."""
        ...


class Store(Protocol):
    """An open store; use it as a context manager, or `close` it.

    Threads share it; each process opens its own.
    """

    @property
    def log(self) -> EventLog:
        """The event log in this store."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine, which needs no thread."""
        ...

    def shard_of(self, name: str) -> int:
        """Return the shard of a user, by the caller's id or the pseudonym."""
        ...

    def view(self, about: str = "") -> AbstractContextManager[View]:
        """Lend a view; release it soon.

        Args:
            about: id or pseudonym of the user concerned; empty: items, versions and the rest.

        Raises:
            RuntimeError: the store is closed.
            StoreUnavailable: it cannot be read.
        """
        ...

    def write(
        self,
        work: Callable[[Transaction], T],
        *,
        durable: bool,
        about: str = "",
        users: Collection[UserKey] = (),
    ) -> Future[T]:
        """Queue a transaction; the future resolves with the result of `work` after the commit.

        Work that raises is undone and fails its own future only. It runs on a thread of the store,
        possibly more than once (the last run counts), so it must change nothing but the
        transaction. It must be short and must not wait for another write.

        Args:
            work: called with a transaction.
            durable: resolve the future only when this work, and all earlier commits on its shard,
                are on disk; so even work that writes nothing is a barrier.
            about: id or pseudonym of the user concerned; empty: items, versions and the rest.
            users: other users of that shard with states to read; a remote store reads them in one
                batch.

        Raises:
            RuntimeError: the store is closed.
        """
        ...

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield at most `limit` lines about items after an offset, in order.

        The offsets count item changes, like `View.catalogue_offset`; a store of several shards
        counts them apart from the offsets of its log.
        """
        ...

    def close(self) -> None:
        """Commit the queued writes and release all resources; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def translated(
    done: Future[T], failures: type[Exception] | tuple[type[Exception], ...]
) -> Future[T]:
    """Return a future that raises `StoreUnavailable` where `done` raises one of `failures`."""
    told = Future[T]()

    def tell(done: Future[T]) -> None:
        error = done.exception()
        if isinstance(error, failures):
            told.set_exception(unavailable(error))
        elif error is not None:
            told.set_exception(error)
        else:
            told.set_result(done.result())

    done.add_done_callback(tell)
    return told


def unavailable(error: Exception) -> StoreUnavailable:
    """Return the `StoreUnavailable` for an error of the store's database."""
    told = StoreUnavailable(f"the store is busy, away or its disk failed: {error}")
    told.__cause__ = error
    return told


def write_now(store: Store, work: Callable[[Transaction], T], *, about: str = "") -> T:
    """Run a durable transaction and wait for it."""
    return store.write(work, durable=True, about=about).result()


async def read(store: Store, ask: Callable[[View], T], about: str = "") -> T:
    """Return the result of `ask` on a view; see `serve.store.store.Store.view`."""

    def asking() -> T:
        with store.view(about) as view:
            return ask(view)

    return await off_loop(store, asking)


async def off_loop(store: Store, ask: Callable[[], T]) -> T:
    """Return the result of a function that reads a store; on a thread unless the store is local."""
    return ask() if store.is_local else await asyncio.to_thread(ask)


class StorePast:
    """Finds the pages of late feedback in a store; see `env.interface.Past`."""

    def __init__(self, store: Store) -> None:
        """Take a store, which the caller keeps open."""
        self._store = store

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of a logged event, and the events about it that precede this one."""
        with self._store.view(event.user) as view:
            return view.history(event)


class StoreLog:
    """An `EventLog` that raises `StoreUnavailable` for certain errors of the log inside."""

    def __init__(self, log: EventLog, failures: tuple[type[Exception], ...]) -> None:
        """Wrap `log`; `failures` are its errors while the database is unavailable."""
        self._log = log
        self._failures = failures

    def append(self, records: Sequence[Record], *, durable: bool) -> Sequence[bool]:
        """Append records; return for each whether it was new."""
        with self._translating():
            return self._log.append(records, durable=durable)

    def read(
        self, after: int = 0, limit: int | None = None, kinds: Collection[Kind] | None = None
    ) -> Iterator[LogLine]:
        """Yield lines with an offset greater than `after`, in order, up to the log's end."""
        with self._translating():
            yield from self._log.read(after, limit, kinds)

    def last_offset(self) -> int:
        """Return the offset of the last line; 0 while the log is empty."""
        with self._translating():
            return self._log.last_offset()

    def count(self) -> int:
        """Return the number of lines."""
        with self._translating():
            return self._log.count()

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset once all lines up to `offset` are read."""
        with self._translating():
            return self._log.shard_offsets(offset)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise unavailable(error) from error
