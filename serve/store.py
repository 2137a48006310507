"""What the server asks of its store: the log, and the lookups that are folds of it.

What is looked up while a request is answered (people, their state, items, versions, totals) is
written in the transaction that appends the records it follows from, so several processes agree and
a crash between the two cannot happen. A `View` reads as of one moment; a `Transaction` reads and
writes, and what was done in it happens at once or not at all. The bodies of transactions (`Ledger`,
`serve.versions`, `serve.ranker_rows`) are the same for every store: they decide, a store keeps.

A store may be split into shards. All of a person, lines and state, is on the shard of their id, and
items, versions and the rest are on one more; a transaction is about one shard and cannot write on
another. A store of one shard is the same thing with every name on it.

Rejected: state in memory with write-back (replicas would disagree about a person), lookups in a
second store (no common transaction with the log), and tables of bytes as the interface (what an
item or a person is would be known at every caller instead of here).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeVar

from env.interface import EventLog
from env.records import LogLine, PageRecord, Record
from env.users import UserState
from env.vocabulary import Item, ItemId, PageId, Profile, UserId, UserKey
from serve.ranker_rows import RankerMove
from serve.totals import Total
from serve.vectors import Vectors
from serve.versions import Version

T = TypeVar("T")


class Person(NamedTuple):
    """Somebody who is registered: pseudonym and state."""

    user: UserKey
    state: UserState


class StoreUnavailable(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """The store cannot be read or written now; what was asked for may be asked for again."""


class NotKept(RuntimeError):  # noqa: N818  # it tells what happened, not a mistake
    """This kind of store does not do what was asked for; another one does."""


class View(Protocol):
    """The lookups as of one moment."""

    # --- people ---

    def person(self, user_id: str) -> Person | None:
        """Return a registered person, or None."""
        ...

    def people(self) -> dict[UserKey, tuple[UserId, Profile]]:
        """Return the caller's id and the profile of everybody who is registered."""
        ...

    def user_states(self, users: Collection[UserKey]) -> dict[UserKey, UserState]:
        """Return the states of these people; whoever is unknown or forgotten is not in it."""
        ...

    def arrival(self, user_id: str) -> tuple[Person | None, int]:
        """Return what `person` and `catalogue_offset` do: what every request for a page asks."""
        ...

    def find_page(self, user: UserKey, beginning: str) -> PageRecord | None:
        """Return a person's page whose id begins so, the first by id of several, or None."""
        ...

    def pages(self, page_ids: Collection[PageId]) -> dict[PageId, PageRecord]:
        """Return these pages, whoever's they are; those that there are not are not in it."""
        ...

    # --- items ---

    def catalogue_offset(self) -> int:
        """Return the place of the last change of an item (see `item_lines`); 0: there was none.

        Seen from a person's shard it covers every change that somebody was told of.
        """
        ...

    def item_ids(self) -> set[ItemId]:
        """Return the ids of all items."""
        ...

    def find_items(self, item_ids: Collection[ItemId]) -> dict[ItemId, Item]:
        """Return these items as they were last put; those that there are not are not in it."""
        ...

    def items(self) -> list[Item]:
        """Return all items, in the order in which they first came."""
        ...

    def removed(self, item_ids: Collection[ItemId]) -> set[ItemId]:
        """Return those of these ids of which an item was ever taken down."""
        ...

    def vectors(self) -> Vectors:
        """Return how many items have a vector of the caller's, and its length."""
        ...

    def search(self, text: str, limit: int) -> list[Item]:
        """Return items in whose id, title, creator or tags every word of a text begins a word.

        Raises:
            NotKept: this store has no index of words.
        """
        ...

    # --- versions ---

    def newest_epoch(self) -> int:
        """Return the epoch of the learner that began last; 0: none did."""
        ...

    def current_version(self) -> Version | None:
        """Return the newest version of the newest epoch that published; None: there is none."""
        ...

    def versions_after(self, epoch: int, version: int, *, limit: int) -> list[Version]:
        """Return the versions after one, the current first, at most so many."""
        ...

    def versions(self) -> list[Version]:
        """Return all versions ever published, in the order of what they had learned."""
        ...

    def last_version_number(self) -> int:
        """Return the highest version ever published; 0: there is none."""
        ...

    # --- the rest ---

    def totals(self) -> dict[Total, int]:
        """Return all totals of the log above 0."""
        ...

    def ranker_move(self) -> RankerMove:
        """Return the last move of the current ranker."""
        ...

    def imported_world(self) -> tuple[bytes, bytes] | None:
        """Return what `serve.imported` keeps of the current import, or None."""
        ...


class Transaction(View, Protocol):
    """A view that also writes, on the shard that the transaction is about."""

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append to the log, move the totals, and return record by record whether it was new.

        A record whose `record_key` is in the log already changes nothing.
        """
        ...

    def forget(self, user: UserKey) -> int:
        """Overwrite what names a person in the log, and return in how many lines."""
        ...

    def add_user(self, user_id: UserId, user: UserKey) -> None:
        """Give a person who is not registered yet their pseudonym."""
        ...

    def remove_user(self, user_id: UserId) -> None:
        """Forget which pseudonym a person had; their state is put away by `put_states`."""
        ...

    def put_states(self, states: Mapping[UserKey, UserState | None]) -> None:
        """Write people's states; None: there is none any more."""
        ...

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items as they are now, in the transaction that appended their records, after it."""
        ...

    def remove_item(self, item_id: ItemId) -> None:
        """Remove an item, in the transaction that appended the record of it, after it."""
        ...

    def set_vectors(self, vectors: Vectors) -> None:
        """Write what `vectors` returns, in the transaction that changes the items."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Write what `newest_epoch` returns."""
        ...

    def add_version(self, version: Version) -> None:
        """Add a version, which is the current one from then on."""
        ...

    def add_ranker_move(self, move: RankerMove) -> None:
        """Write what `ranker_move` returns."""
        ...

    def put_imported_world(self, about: bytes, people: bytes) -> None:
        """Write what `imported_world` returns."""
        ...


class Store(Protocol):
    """An open store; use it as a context manager, or `close` it.

    Threads share it, processes open their own.
    """

    @property
    def log(self) -> EventLog:
        """The log, in this store."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether a lookup is a read on this machine, which is not worth a thread."""
        ...

    def shard_of(self, name: str) -> int:
        """Return the shard of a person, by the caller's id or the pseudonym."""
        ...

    def view(self, about: str = "") -> AbstractContextManager[View]:
        """Lend a view; leave it soon.

        Args:
            about: whom, by id or pseudonym; empty: items, versions and the rest.

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
        """Queue a transaction; its future resolves, with what `work` returned, after the commit.

        Work that raises is undone and fails its own future only. It runs on a thread of the
        store's, possibly more than once (only the last run counts), so it changes nothing but the
        transaction; it must be short, and call nothing that waits for another write.

        Args:
            work: called with a transaction.
            durable: whether the future waits until this work, and everything committed before it
                on its shard, is on disk; so even work that writes nothing is a barrier.
            about: whom, by id or pseudonym; empty: items, versions and the rest.
            users: others on that shard whose states it will ask for; a store on another machine
                reads those of all that waits at once.

        Raises:
            RuntimeError: the store is closed.
        """
        ...

    def item_lines(self, after: int, limit: int) -> Iterator[LogLine]:
        """Yield the lines about items behind a place, at most so many, in order.

        Their offsets are places among the changes of items, as `View.catalogue_offset` counts;
        a store of several shards counts them apart from the offsets of its log.
        """
        ...

    def close(self) -> None:
        """Commit what is queued and let go of everything; again does nothing."""
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
    """Return a future that fails by `StoreUnavailable` where another one fails by such errors."""
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
    """Return what to raise from an error of the store's own."""
    told = StoreUnavailable(f"the store is busy, away or its disk failed: {error}")
    told.__cause__ = error
    return told


def write_now(store: Store, work: Callable[[Transaction], T], *, about: str = "") -> T:
    """Run a durable transaction and wait for it."""
    return store.write(work, durable=True, about=about).result()
