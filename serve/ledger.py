"""The write path: transaction bodies that append records and update the lookups derived from them.

The server writes log and lookups nowhere else, so a crash cannot separate the two, and importers
and replicas write the same way. Rejected alternatives: `docs/decisions/serve-store.md`.
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
"""Records that change a user's state."""


class Outcome(Enum):
    """The outcome of a feedback event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"


class NoRoomError(Exception):
    """A user has reached the maximum number of blocks; nothing was written."""


class Ledger:
    """The transaction bodies of one installation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(
        self, work: Callable[[Transaction], T], *, durable: bool, about: str = ""
    ) -> T:
        """Run a transaction off the event loop; cancelling the caller does not undo it.

        Args:
            work: a method of this class, with its arguments bound.
            durable: whether to wait until it is on disk.
            about: id or pseudonym of the user concerned; empty: items.
        """
        writing = self._store.write(work, durable=durable, about=about)
        return await asyncio.shield(asyncio.wrap_future(writing))

    async def commit_feedback(self, events: Sequence[FeedbackRecord]) -> list[Outcome]:
        """Commit events durably, one transaction per shard; return the outcome of each event."""
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
        """Append a page, unless the state it was drawn from has changed.

        Args:
            transaction: of the store.
            draft: the page and the state it was drawn from.

        Returns:
            The page, or an earlier page of the same request; the present state if that has changed
            and nothing was appended; None: the user is unknown.
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
        """Return whether a page may still be shown, given its user's and items' present state."""
        if not draft.still_suits(now):
            return False
        if transaction.catalogue_offset() == draft.sequence:
            return True
        found = transaction.find_items([item.item_id for item in draft.items])
        return all(found.get(item.item_id) == item for item in draft.items)

    def take_feedback(
        self, transaction: Transaction, events: Sequence[FeedbackRecord]
    ) -> list[Outcome]:
        """Append events of users of one shard; return the outcome of each event."""
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
        """Register a user if unknown; return the user's present state."""
        person = transaction.person(user_id)
        return person or self._add_user(transaction, user_id, profile, at_ms)

    def put_user(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> Person:
        """Register a user or change their profile; an equal profile changes nothing."""
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
        """Block or unblock creators and tags; return the user's new state, None if unknown.

        Raises:
            NoRoomError: the user would exceed the maximum number of blocks.
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
        """Delete a user and overwrite their identity in the log; return whether they existed.

        Every fold of the log stays as it was, except that this user no longer has a state.
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
        """Return a random pseudonym on the shard of the caller's id, where all of a user is."""
        shard = self._store.shard_of(user_id)
        while self._store.shard_of(user := new_user_key()) != shard:
            pass
        return user


def fold_states(transaction: Transaction, records: Sequence[PersonRecord]) -> None:
    """Update the states of the records' users, in the order of the records."""
    states = transaction.user_states(list({record.user for record in records}))
    transaction.put_states(_folded(states, records))


def _folded(
    states: Mapping[UserKey, UserState], records: Iterable[PersonRecord]
) -> dict[UserKey, UserState | None]:
    moved: dict[UserKey, UserState | None] = {}
    for record in records:
        state = moved[record.user] if record.user in moved else states.get(record.user)
        moved[record.user] = fold(state, record)
    return moved


def _outcome(new: bool) -> Outcome:
    return Outcome.ACCEPTED if new else Outcome.DUPLICATE
