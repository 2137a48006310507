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

from env.records import (
    BlockRecord,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    UserRecord,
)
from env.user_fold import has_room
from env.users import UserState
from env.vocabulary import CreatorId, Item, ItemId, Profile, UserId, UserKey
from replay.log import find_page, forget, insert
from serve import totals
from serve.drafts import Draft, Moved
from serve.items_wire import ItemsResponse
from serve.state import Person, State
from serve.tokens import new_user_key
from serve.vectors import count_vectors

T = TypeVar("T")

DEBUT_MS = 7 * 86_400_000
"""An upload that is older when it first comes was public before: it makes no debut."""


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"


class NoRoomError(Exception):
    """A person has blocked as much as is kept: nothing was written."""


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

    def take_page(self, connection: sqlite3.Connection, draft: Draft) -> PageRecord | Moved | None:
        """Append a page, unless what it was drawn from is not true any more.

        Args:
            connection: inside a transaction.
            draft: the page, and what it was drawn from.

        Returns:
            The page, or the one that answers the request already; what is true now, if that is
            something else and nothing was appended; None: there is no such person.
        """
        now = self._state.user_state(connection, draft.page.user)
        if now is None:
            return None
        stored = find_page(connection, draft.request)
        if stored is not None:
            return stored
        if not self._holds(connection, draft, now):
            return Moved(now, self._state.catalogue_offset(connection))
        self._append(connection, [draft.page])
        self._state.fold(connection, [draft.page])
        return draft.page

    def _holds(self, connection: sqlite3.Connection, draft: Draft, now: UserState) -> bool:
        """Return whether a page's person and items are what they were when it was drawn."""
        if not draft.still_suits(now):
            return False
        if self._state.catalogue_offset(connection) == draft.sequence:
            return True
        return all(self._state.item(connection, item.item_id) == item for item in draft.items)

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
        *,
        are_new: bool,
    ) -> ItemsResponse:
        """Put items; those that say nothing new are left alone.

        Args:
            connection: inside a transaction.
            items: each id once; one without an upload time gets the time it is first put.
            blocks: their static blocks, float16 bytes.
            at_ms: of the change.
            are_new: those that come for the first time, uploaded lately, are new to the public.

        Raises:
            OtherLengthError: a vector has another length than those of the catalogue.
        """
        before = [self._state.item(connection, item.item_id) for item in items]
        dated = [_dated(item, old, at_ms) for item, old in zip(items, before, strict=True)]
        changes = [
            ItemRecord(
                item.item_id,
                at_ms,
                item,
                block,
                debut=are_new and old is None and self._makes_debut(connection, item, at_ms),
            )
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

    def _makes_debut(self, connection: sqlite3.Connection, item: Item, at_ms: int) -> bool:
        """Return whether an item that is not there is new; what was taken down once is not."""
        is_recent = at_ms - item.published_ms <= DEBUT_MS
        return is_recent and not self._state.was_removed(connection, item.item_id)

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

    def block(
        self,
        connection: sqlite3.Connection,
        user_id: UserId,
        creators: tuple[CreatorId, ...],
        tags: tuple[str, ...],
        *,
        wanted: bool,
        at_ms: int,
    ) -> UserState | None:
        """Block creators and tags for a person, or take that back; None: there is no such person.

        Returns:
            The person's state after it.

        Raises:
            NoRoomError: they would block more than is kept.
        """
        person = self._state.person(connection, user_id)
        if person is None:
            return None
        if creators or tags:
            record = BlockRecord(person.user, at_ms, creators, tags, wanted)
            if not has_room(person.state, record):
                raise NoRoomError
            self._append(connection, [record])
            self._state.fold(connection, [record])
        return self._state.user_state(connection, person.user)

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
