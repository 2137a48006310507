"""What is written down, and what follows from it, in one transaction.

Each method is the body of a transaction that a `serve.store.Store` lends: it appends records to the
log and moves the lookups that are folds of them. Nothing else in the server writes either, so a
crash between the two cannot happen, and importers and replicas write the same way.

Rejected: folding on the event loop and writing the result (two replicas would overwrite each
other's), and a follower that folds the log into the state (what a person did must matter to the
next page, not soon).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum
from functools import partial
from typing import TypeVar

import msgspec

from env.records import (
    BlockRecord,
    FeedbackRecord,
    PageRecord,
    UserRecord,
)
from env.user_fold import fold, has_room
from env.users import UserState
from env.vocabulary import CreatorId, Profile, UserId, UserKey
from replay.scatter import gather, scatter
from serve.drafts import Draft, Moved
from serve.store import Person, Store, Transaction
from serve.tokens import new_user_key

T = TypeVar("T")
PersonRecord = PageRecord | FeedbackRecord | UserRecord | BlockRecord
"""What moves a person's state."""


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"


class NoRoomError(Exception):
    """A person has blocked as much as is kept: nothing was written."""


class Ledger:
    """The transactions of one installation."""

    def __init__(self, store: Store) -> None:
        """Write to this store."""
        self._store = store

    async def commit(
        self, work: Callable[[Transaction], T], *, durable: bool, about: str = ""
    ) -> T:
        """Run a transaction off the event loop; a caller who is cancelled does not undo it.

        Args:
            work: a method of this class, its arguments bound.
            durable: whether to wait until it is on disk.
            about: whom, by id or pseudonym; empty: items.
        """
        writing = self._store.write(work, durable=durable, about=about)
        return await asyncio.shield(asyncio.wrap_future(writing))

    async def commit_feedback(self, events: Sequence[FeedbackRecord]) -> list[Outcome]:
        """Take events, on disk when this returns; return event by event what became of it.

        Those of people on one shard are one transaction.
        """
        home = {user: self._store.shard_of(user) for user in {event.user for event in events}}
        shards = [home[event.user] for event in events]
        writings = {shard: self._queue(part) for shard, part in scatter(events, shards).items()}
        outcomes = {
            shard: await asyncio.shield(asyncio.wrap_future(writing))
            for shard, writing in writings.items()
        }
        return gather(outcomes, shards)

    def _queue(self, events: Sequence[FeedbackRecord]) -> Future[list[Outcome]]:
        work = partial(self.take_feedback, events=events)
        users = {event.user for event in events}
        return self._store.write(work, durable=True, about=events[0].user, users=users)

    # --- pages and feedback ---

    def take_page(self, transaction: Transaction, draft: Draft) -> PageRecord | Moved | None:
        """Append a page, unless what it was drawn from is not true any more.

        Args:
            transaction: of the store.
            draft: the page, and what it was drawn from.

        Returns:
            The page, or the one that answers the request already; what is true now, if that is
            something else and nothing was appended; None: there is no such person.
        """
        now = transaction.user_states([draft.page.user]).get(draft.page.user)
        if now is None:
            return None
        stored = transaction.find_page(draft.page.user, draft.request)
        if stored is not None:
            return stored
        if not self._holds(transaction, draft, now):
            return Moved(now, transaction.catalogue_offset())
        transaction.append([draft.page])
        fold_states(transaction, [draft.page])
        return draft.page

    def _holds(self, transaction: Transaction, draft: Draft, now: UserState) -> bool:
        """Return whether a page's person and items are what they were when it was drawn."""
        if not draft.still_suits(now):
            return False
        if transaction.catalogue_offset() == draft.sequence:
            return True
        found = transaction.find_items([item.item_id for item in draft.items])
        return all(found.get(item.item_id) == item for item in draft.items)

    def take_feedback(
        self, transaction: Transaction, events: Sequence[FeedbackRecord]
    ) -> list[Outcome]:
        """Append events of people of one shard; return event by event what became of it."""
        known = transaction.user_states(list({event.user for event in events}))
        taken = [event for event in events if event.user in known]
        is_new = transaction.append(taken)
        fresh = [event for event, new in zip(taken, is_new, strict=True) if new]
        transaction.put_states(_folded(known, fresh))
        news = iter(is_new)
        return [_outcome(next(news)) if e.user in known else Outcome.FORGOTTEN for e in events]

    # --- people ---

    def register(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        """Register a person who is not known yet; return them as they are."""
        person = transaction.person(user_id)
        return person or self._add_user(transaction, user_id, profile, at_ms)

    def put_user(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        """Register a person or change their profile; the same profile again changes nothing."""
        person = transaction.person(user_id)
        if person is None:
            return self._add_user(transaction, user_id, profile, at_ms)
        if not profile.registered_ms:
            registered_ms = person.state.profile.registered_ms
            profile = msgspec.structs.replace(profile, registered_ms=registered_ms)
        if profile == person.state.profile:
            return person
        return self._describe(transaction, person.user, user_id, profile, at_ms)

    def block(
        self,
        transaction: Transaction,
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
        person = transaction.person(user_id)
        if person is None:
            return None
        if creators or tags:
            record = BlockRecord(person.user, at_ms, creators, tags, wanted)
            if not has_room(person.state, record):
                raise NoRoomError
            transaction.append([record])
            fold_states(transaction, [record])
        return transaction.user_states([person.user])[person.user]

    def forget_user(self, transaction: Transaction, user_id: UserId, at_ms: int) -> bool:
        """Delete what is known of a person and what names them in the log; return whether known.

        Every fold of the log stays as it was, except that this person has no state any more.
        """
        person = transaction.person(user_id)
        if person is None:
            return False
        transaction.forget(person.user)
        transaction.remove_user(user_id)
        gone = UserRecord(person.user, at_ms)
        transaction.append([gone])
        fold_states(transaction, [gone])
        return True

    def _add_user(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        user = self._pseudonym(user_id)
        transaction.add_user(user_id, user)
        if not profile.registered_ms:
            profile = msgspec.structs.replace(profile, registered_ms=at_ms)
        return self._describe(transaction, user, user_id, profile, at_ms)

    def _describe(
        self,
        transaction: Transaction,
        user: UserKey,
        user_id: UserId,
        profile: Profile,
        at_ms: int,
    ) -> Person:
        record = UserRecord(user, at_ms, user_id, profile)
        transaction.append([record])
        fold_states(transaction, [record])
        return Person(user, transaction.user_states([user])[user])

    def _pseudonym(self, user_id: UserId) -> UserKey:
        """Return a random pseudonym on the shard of the caller's id, where all of a person is."""
        shard = self._store.shard_of(user_id)
        while self._store.shard_of(user := new_user_key()) != shard:
            pass
        return user


def fold_states(transaction: Transaction, records: Sequence[PersonRecord]) -> None:
    """Move the states of the records' people, in the order of the records."""
    states = transaction.user_states(list({record.user for record in records}))
    transaction.put_states(_folded(states, records))


def _folded(
    states: Mapping[UserKey, UserState], records: Iterable[PersonRecord]
) -> dict[UserKey, UserState | None]:
    """Return the states that records move people's states to."""
    moved: dict[UserKey, UserState | None] = {}
    for record in records:
        state = moved[record.user] if record.user in moved else states.get(record.user)
        moved[record.user] = fold(state, record)
    return moved


def _outcome(new: bool) -> Outcome:
    return Outcome.ACCEPTED if new else Outcome.DUPLICATE
