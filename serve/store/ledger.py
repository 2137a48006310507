"""The write path: transaction bodies that append records and update the lookups derived from them.

The server writes log and lookups nowhere else, so a crash cannot separate the two, and importers
and replicas write the same way. Rejected alternatives: `docs/decisions/serve-store.md`.

See also `docs/decisions/serve-page-commit.md`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from env.items.catalogue import Catalogue
from env.items.content import ContentEncoder, EncodedBlock, encoded, fold_tag
from env.items.projections import NO_PROJECTIONS, Projections
from env.records import (
    BlockRecord,
    FeedbackRecord,
    HistoryRecord,
    ItemRecord,
    PageRecord,
    ProjectionRecord,
    UserRecord,
)
from env.users.fold import fold, has_room, was_shown
from env.users.state import UserState, blocked_creators, unwanted_keys
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Item,
    ItemId,
    Profile,
    ShortKeys,
    UserId,
    UserKey,
)
from replay.log.shards import gather, scatter
from serve.store.store import RegisteredUser, Store, Transaction
from serve.store.totals import count_vectors
from serve.tokens import new_user_key
from serve.wire.items import ItemsResponse


@dataclass(frozen=True, slots=True)
class PendingPage:
    """A page that is not in the log yet, with the state it was drawn from."""

    page: PageRecord
    request: str  # common prefix of the ids of all pages that answer the same request
    state: UserState  # of the user, at the draw
    sequence: int  # of the catalogue, at the draw
    items: tuple[Item, ...]  # of the cards, as the catalogue had them
    is_last: bool  # write it despite a changed state, if every item may still be shown
    alike: ShortKeys  # result of `find_alike` if `is_last`; otherwise empty

    def still_suits(self, now: UserState) -> bool:
        """Return whether the page may still be written, given its user's present state."""
        if now == self.state:
            return True
        if not self.is_last or _terms(now.profile) != _terms(self.state.profile):
            return False
        return not self._is_blocked_by(now)

    def _is_blocked_by(self, now: UserState) -> bool:
        if np.isin(self.alike, unwanted_keys(now)).any():
            return True
        creators, tags = frozenset(blocked_creators(now)), frozenset(now.blocked_tags)
        return any(
            item.creator in creators or not tags.isdisjoint(map(fold_tag, item.tags))
            for item in self.items
        )


class Conflict(NamedTuple):
    """The state that a pending page should have been drawn from: the user's and the catalogue's."""

    state: UserState
    sequence: int


def find_alike(catalogue: Catalogue, page: PageRecord) -> ShortKeys:
    """Return the short keys of a page's items and of their near-duplicates, in any order."""
    found = [catalogue.index_of(card.item_id) for card in page.cards]
    index = np.array([index for index in found if index is not None], dtype=np.int64)
    alike = catalogue.alike(catalogue.duplicates[index])
    return catalogue.keys[alike].astype(np.uint32)


def _terms(profile: Profile) -> tuple[str, str, int]:
    """Return the fields of a profile on which eligibility depends."""
    return profile.country, profile.language, profile.birth_year


DEBUT_MS = 7 * 86_400_000
"""An upload older than this when it is first put was public before, so it is no launch."""


def put_items(
    transaction: Transaction,
    items: Sequence[Item],
    blocks: Sequence[EncodedBlock],
    at_ms: int,
    *,
    are_new: bool,
    keep_vectors: bool = True,
    projections: Projections = NO_PROJECTIONS,
) -> ItemsResponse:
    """Put items; unchanged ones are left alone.

    Args:
        transaction: of the store.
        items: each id once; one without an upload time gets the time of its first put.
        blocks: of the items, in their order.
        at_ms: time of the change.
        are_new: whether items put for the first time, if uploaded lately, are launches.
        keep_vectors: whether an item without a vector keeps what an embedder said about the same
            media.
        projections: encode the vectors that are kept.

    Raises:
        OtherLengthError: a vector has another length than those of the catalogue.
    """
    found = transaction.find_items([item.item_id for item in items])
    before = [found.get(item.item_id) for item in items]
    removed = transaction.removed([key.item_id for key in items if key.item_id not in found])
    dated = [_dated(item, old, at_ms) for item, old in zip(items, before, strict=True)]
    if keep_vectors:
        dated = list(map(_with_kept_vector, dated, before))
    kept_encoder = ContentEncoder(projections=projections)
    blocks = [
        block if item.vector is given.vector else encoded(item, kept_encoder)
        for item, given, block in zip(dated, items, blocks, strict=True)
    ]
    changes = [
        ItemRecord(
            item.item_id,
            at_ms,
            item,
            block.block,
            encoding=block.encoding,
            debut=are_new
            and old is None
            and item.item_id not in removed
            and at_ms - item.published_ms <= DEBUT_MS,
        )
        for item, old, block in zip(dated, before, blocks, strict=True)
        if item != old
    ]
    added = before.count(None)
    vectors = count_vectors(transaction.vectors(), before, dated)
    if changes:
        transaction.append(changes)
        changed = [change.item for change in changes if change.item is not None]
        transaction.put_items(changed)
        transaction.set_vectors(vectors)
    return ItemsResponse(added, len(changes) - added, len(items) - len(changes))


def put_projection(transaction: Transaction, record: ProjectionRecord) -> None:
    """Append a projection; items put from now on are encoded with it."""
    transaction.append([record])


def put_blocks(
    transaction: Transaction, items: Sequence[Item], blocks: Sequence[EncodedBlock], at_ms: int
) -> None:
    """Put items again with new blocks; one that has changed meanwhile is left alone."""
    found = transaction.find_items([item.item_id for item in items])
    changes = [
        ItemRecord(item.item_id, at_ms, item, block.block, encoding=block.encoding)
        for item, block in zip(items, blocks, strict=True)
        if found.get(item.item_id) == item
    ]
    if changes:
        transaction.append(changes)


def remove_item(transaction: Transaction, item_id: ItemId, at_ms: int) -> bool:
    """Remove an item for good; return whether it existed."""
    before = transaction.find_items([item_id]).get(item_id)
    if before is None:
        return False
    vectors = count_vectors(transaction.vectors(), [before], [])
    transaction.append([ItemRecord(item_id, at_ms)])
    transaction.remove_item(item_id)
    transaction.set_vectors(vectors)
    return True


def _dated(item: Item, before: Item | None, at_ms: int) -> Item:
    if item.published_ms:
        return item
    return msgspec.structs.replace(item, published_ms=before.published_ms if before else at_ms)


def _with_kept_vector(item: Item, before: Item | None) -> Item:
    """Return an item with what an embedder said about its media, unless it says that itself."""
    is_told = item.vector is not None or item.embedder
    if is_told or before is None or not before.embedder or item.media != before.media:
        return item
    return msgspec.structs.replace(item, vector=before.vector, embedder=before.embedder)


T = TypeVar("T")
PersonRecord = PageRecord | FeedbackRecord | UserRecord | BlockRecord | HistoryRecord
"""Records that change a user's state."""


NOTHING: Mapping[str, int] = MappingProxyType({})


class FeedbackOutcome(Enum):
    """The outcome of a feedback event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FORGOTTEN = "forgotten"
    NEVER_SHOWN = "never shown"  # its signal is for cards that were on screen


class NoRoomError(Exception):
    """A user has reached the maximum number of blocks; nothing was written."""


class WritePath:
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

    async def commit_feedback(
        self, events: Sequence[FeedbackRecord], shown_only: Mapping[str, int] = NOTHING
    ) -> list[FeedbackOutcome]:
        """Commit events durably, one transaction per shard; return the outcome of each event.

        Args:
            events: in the order in which they count.
            shown_only: by event id, the item's key of events that need a card that was on screen.
        """
        home = {user: self._store.shard_of(user) for user in {event.user for event in events}}
        shards = [home[event.user] for event in events]
        writings = {
            shard: self._queue(part, shown_only) for shard, part in scatter(events, shards).items()
        }
        outcomes = {
            shard: await asyncio.shield(asyncio.wrap_future(writing))
            for shard, writing in writings.items()
        }
        return gather(outcomes, shards)

    async def commit_users(
        self, users: Sequence[tuple[UserId, Profile]], at_ms: int
    ) -> tuple[int, int]:
        """Put users durably, one transaction per shard; return how many are new, and changed."""
        shards = [self._store.shard_of(user_id) for user_id, _ in users]
        works = [
            self._store.write(
                partial(self.put_users, users=part, at_ms=at_ms), durable=True, about=part[0][0]
            )
            for part in scatter(users, shards).values()
        ]
        counts = [await asyncio.shield(asyncio.wrap_future(writing)) for writing in works]
        return sum(new for new, _ in counts), sum(changed for _, changed in counts)

    def _queue(
        self, events: Sequence[FeedbackRecord], shown_only: Mapping[str, int]
    ) -> Future[list[FeedbackOutcome]]:
        work = partial(self.take_feedback, events=events, shown_only=shown_only)
        users = {event.user for event in events}
        return self._store.write(work, durable=True, about=events[0].user, users=users)

    # --- pages and feedback ---

    def take_page(
        self, transaction: Transaction, draft: PendingPage
    ) -> PageRecord | Conflict | None:
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
            return Conflict(now, transaction.catalogue_offset())
        transaction.append([draft.page])
        fold_states(transaction, [draft.page])
        return draft.page

    def _holds(self, transaction: Transaction, draft: PendingPage, now: UserState) -> bool:
        """Return whether a page may still be shown, given its user's and items' present state."""
        if not draft.still_suits(now):
            return False
        if transaction.catalogue_offset() == draft.sequence:
            return True
        found = transaction.find_items([item.item_id for item in draft.items])
        return all(found.get(item.item_id) == item for item in draft.items)

    def take_feedback(
        self,
        transaction: Transaction,
        events: Sequence[FeedbackRecord],
        shown_only: Mapping[str, int] = NOTHING,
    ) -> list[FeedbackOutcome]:
        """Append events of one shard's users, see `commit_feedback`; return their outcomes."""
        known = transaction.user_states(list({event.user for event in events}))
        never_shown = _never_shown(events, known, shown_only) if shown_only else frozenset[str]()
        taken = [e for e in events if e.user in known and e.event_id not in never_shown]
        is_new = transaction.append(taken)
        fresh = [event for event, new in zip(taken, is_new, strict=True) if new]
        transaction.put_states(_folded(known, fresh))
        news = iter(is_new)
        return [
            FeedbackOutcome.FORGOTTEN
            if event.user not in known
            else FeedbackOutcome.NEVER_SHOWN
            if event.event_id in never_shown
            else _outcome(next(news))
            for event in events
        ]

    # --- users ---

    def register(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> RegisteredUser:
        """Register a user if unknown; return the user's present state."""
        user = transaction.user(user_id)
        return user or self._add_user(transaction, user_id, profile, at_ms)

    def put_user(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> RegisteredUser:
        """Register a user or change their profile; an equal profile changes nothing."""
        user = transaction.user(user_id)
        if user is None:
            return self._add_user(transaction, user_id, profile, at_ms)
        if not profile.registered_ms:
            registered_ms = user.state.profile.registered_ms
            profile = msgspec.structs.replace(profile, registered_ms=registered_ms)
        if profile == user.state.profile:
            return user
        return self._describe(transaction, user.user, user_id, profile, at_ms)

    def put_users(
        self, transaction: Transaction, users: Sequence[tuple[UserId, Profile]], at_ms: int
    ) -> tuple[int, int]:
        """Put users of one shard; return how many are new, and changed."""
        new = changed = 0
        for user_id, profile in users:
            before = transaction.user(user_id)
            after = self.put_user(transaction, user_id, profile, at_ms)
            new += before is None
            changed += before is not None and before.state.profile != after.state.profile
        return new, changed

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
        user = transaction.user(user_id)
        if user is None:
            return None
        if creators or tags:
            record = BlockRecord(user.user, at_ms, creators, tags, wanted)
            if not has_room(user.state, record):
                raise NoRoomError
            transaction.append([record])
            fold_states(transaction, [record])
        return transaction.user_states([user.user])[user.user]

    def forget_user(self, transaction: Transaction, user_id: UserId, at_ms: int) -> bool:
        """Delete a user and overwrite their identity in the log; return whether they existed.

        Every fold of the log stays as it was, except that this user no longer has a state.
        """
        mark, was_staged = transaction.import_mark(), False
        if mark is not None:  # a staged row is no part of the log yet, and must not become one
            was_staged = transaction.staged(mark.run, [user_id]) != [None]
            transaction.stage(mark.run, {user_id: None})
        user = transaction.user(user_id)
        if user is None:
            return was_staged
        transaction.forget(user.user)
        transaction.remove_user(user_id)
        transaction.put_imported_views({user.user: b""})
        gone = UserRecord(user.user, at_ms)
        transaction.append([gone])
        fold_states(transaction, [gone])
        return True

    def _add_user(
        self, transaction: Transaction, user_id: UserId, profile: Profile, at_ms: int
    ) -> RegisteredUser:
        user = self.new_user(user_id)
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
    ) -> RegisteredUser:
        record = UserRecord(user, at_ms, user_id, profile)
        transaction.append([record])
        fold_states(transaction, [record])
        return RegisteredUser(user, transaction.user_states([user])[user])

    def new_user(self, user_id: UserId) -> UserKey:
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


def _never_shown(
    events: Sequence[FeedbackRecord],
    known: Mapping[UserKey, UserState],
    shown_only: Mapping[str, int],
) -> frozenset[str]:
    """Return the ids of the events whose card no event before, stored or of these, has shown."""
    never, shown = set[str](), set[DecisionId]()
    for event in events:
        state, key = known.get(event.user), shown_only.get(event.event_id)
        if key is None or state is None or was_shown(state, event.decision_id, key):
            shown.add(event.decision_id)
        elif event.decision_id not in shown:
            never.add(event.event_id)
    return frozenset(never)


def _outcome(new: bool) -> FeedbackOutcome:
    return FeedbackOutcome.ACCEPTED if new else FeedbackOutcome.DUPLICATE
