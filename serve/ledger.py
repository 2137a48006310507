"""What is written down, and what follows from it, in one transaction.

Each method is the body of a transaction on a connection that `Database.write` lends: it appends
records to the log and moves the lookups of `serve.state` that are folds of them. Nothing else in
the server writes either, so a crash between the two cannot happen, and importers and replicas
write the same way.

Rejected: folding on the event loop and writing the result (two replicas would overwrite each
other's), and a follower that folds the log into the state (what a person did must matter to the
next page, not soon).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import compress
from typing import TypeVar

import msgspec

from env.records import FeedbackRecord, ItemRecord, PageRecord, Record, UserRecord
from env.users import UserState
from env.vocabulary import Item, ItemId, Profile, UserId, UserKey
from replay.log import find_page, forget, insert
from serve import totals
from serve.state import Person, State
from serve.tokens import new_user_key
from serve.vectors import count_vectors
from serve.wire import ItemsResponse

T = TypeVar("T")


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"


class Ledger:
    """The transactions of one installation."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        """Write with this state.

        Args:
            state: of the database that lends the connections.
            now_ms: the wall clock, for `LogLine.written_ms`.
        """
        self._state = state
        self._now_ms = now_ms

    async def commit(self, work: Callable[[sqlite3.Connection], T], *, durable: bool) -> T:
        """Run a transaction off the event loop; a caller who is cancelled does not undo it.

        Args:
            work: a method of this class, its arguments bound.
            durable: whether to wait until it is on disk.
        """
        writing = self._state.database.write(work, durable=durable)
        return await asyncio.shield(asyncio.wrap_future(writing))

    # --- pages and feedback ---

    def take_page(
        self, connection: sqlite3.Connection, page: PageRecord, request: str, seen: UserState | None
    ) -> PageRecord | UserState | None:
        """Append a page, unless its person is not any more who it was drawn for.

        Args:
            connection: inside a transaction.
            page: drawn for `seen`.
            request: how the ids of all pages begin that answer the same request, `page` included.
            seen: the person's state as it was read; None: append the page whatever it is now.

        Returns:
            The page, or the one that answers the request already; the person's state if it has
            changed, and nothing was appended; None: there is no such person.
        """
        now = self._state.user_state(connection, page.user)
        if now is None:
            return None
        stored = find_page(connection, request)
        if stored is not None:
            return stored
        if seen is not None and now != seen:
            return now
        self._append(connection, [page])
        self._state.fold(connection, [page])
        return page

    def take_feedback(
        self, connection: sqlite3.Connection, events: Sequence[FeedbackRecord]
    ) -> list[Outcome]:
        """Append events of any number of people; return event by event what became of it."""
        users = {event.user for event in events}
        known = {user for user in users if self._state.has_state(connection, user)}
        taken = [event for event in events if event.user in known]
        is_new = self._append(connection, taken)
        fresh = [event for event, new in zip(taken, is_new, strict=True) if new]
        self._state.fold(connection, fresh)
        news = iter(is_new)
        return [_outcome(next(news)) if e.user in known else Outcome.FORGOTTEN for e in events]

    # --- items ---

    def put_items(
        self,
        connection: sqlite3.Connection,
        items: Sequence[Item],
        blocks: Sequence[bytes],
        at_ms: int,
    ) -> ItemsResponse:
        """Put items; those that say nothing new are left alone.

        Args:
            connection: inside a transaction.
            items: each id once; one without an upload time gets the time it is first put.
            blocks: their static blocks, float16 bytes.
            at_ms: of the change.

        Raises:
            OtherLengthError: a vector has another length than those of the catalogue.
        """
        before = [self._state.item(connection, item.item_id) for item in items]
        dated = [_dated(item, old, at_ms) for item, old in zip(items, before, strict=True)]
        changes = [
            ItemRecord(item.item_id, at_ms, item, block)
            for item, old, block in zip(dated, before, blocks, strict=True)
            if item != old
        ]
        added = before.count(None)
        vectors = count_vectors(self._state.vectors(connection), before, dated)
        if changes:
            self._append(connection, changes)
            changed = [change.item for change in changes if change.item is not None]
            self._state.put_items(connection, changed, _last_offset(connection))
            self._state.set_vectors(connection, vectors)
        return ItemsResponse(added, len(changes) - added, len(items) - len(changes))

    def remove_item(self, connection: sqlite3.Connection, item_id: ItemId, at_ms: int) -> bool:
        """Take an item down for good; return whether it was there."""
        before = self._state.item(connection, item_id)
        if before is None:
            return False
        vectors = count_vectors(self._state.vectors(connection), [before], [])
        self._append(connection, [ItemRecord(item_id, at_ms)])
        self._state.remove_item(connection, item_id, _last_offset(connection))
        self._state.set_vectors(connection, vectors)
        return True

    # --- people ---

    def register(
        self, connection: sqlite3.Connection, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        """Register a person who is not known yet; return them as they are."""
        person = self._state.person(connection, user_id)
        return person or self._add_user(connection, user_id, profile, at_ms)

    def put_user(
        self, connection: sqlite3.Connection, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        """Register a person or change their profile; the same profile again changes nothing."""
        person = self._state.person(connection, user_id)
        if person is None:
            return self._add_user(connection, user_id, profile, at_ms)
        if not profile.registered_ms:
            registered_ms = person.state.profile.registered_ms
            profile = msgspec.structs.replace(profile, registered_ms=registered_ms)
        if profile == person.state.profile:
            return person
        return self._describe(connection, person.user, user_id, profile, at_ms)

    def forget_user(self, connection: sqlite3.Connection, user_id: UserId, at_ms: int) -> bool:
        """Delete what is known of a person and what names them in the log; return whether known.

        Every fold of the log stays as it was, except that this person has no state any more.
        """
        person = self._state.person(connection, user_id)
        if person is None:
            return False
        forget(connection, person.user)
        self._state.remove_user(connection, user_id)
        gone = UserRecord(person.user, at_ms)
        self._append(connection, [gone])
        self._state.fold(connection, [gone])
        return True

    def _add_user(
        self, connection: sqlite3.Connection, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        user = new_user_key()
        self._state.add_user(connection, user_id, user)
        if not profile.registered_ms:
            profile = msgspec.structs.replace(profile, registered_ms=at_ms)
        return self._describe(connection, user, user_id, profile, at_ms)

    def _describe(
        self,
        connection: sqlite3.Connection,
        user: UserKey,
        user_id: UserId,
        profile: Profile,
        at_ms: int,
    ) -> Person:
        record = UserRecord(user, at_ms, user_id, profile)
        self._append(connection, [record])
        self._state.fold(connection, [record])
        state = self._state.user_state(connection, user)
        if state is None:
            raise RuntimeError("expected a state after a registration, got none")
        return Person(user, state)

    def _append(self, connection: sqlite3.Connection, records: Sequence[Record]) -> list[bool]:
        is_new = insert(connection, records, self._now_ms())
        totals.add(connection, compress(records, is_new))
        return is_new


def _outcome(new: bool) -> Outcome:
    return Outcome.ACCEPTED if new else Outcome.DUPLICATE


def _dated(item: Item, before: Item | None, at_ms: int) -> Item:
    if item.published_ms:
        return item
    return msgspec.structs.replace(item, published_ms=before.published_ms if before else at_ms)


def _last_offset(connection: sqlite3.Connection) -> int:
    (offset,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    return int(offset)
