"""The engine answers the API's requests, without HTTP: it reads, draws and commits.

It holds idempotent pages, registration at first sight, sessions, feedback and profiles. Items are
left to `ItemService`, blocks to `Blocking`, readiness to `Status`. A commit is awaited off the
event loop, so a client that disconnects loses no page. Rejected alternatives:
`docs/decisions/serve-page-commit.md`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from env.items.catalogue import Catalogue
from env.records import Card, FeedbackRecord, PageRecord, item_key
from env.users.fold import MAX_BLOCKED
from env.users.state import UserState, blocked_creators, live_session
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Item,
    PageId,
    Profile,
    SessionId,
    ShortKeys,
    UserId,
    UserKey,
    decision_id,
    split_decision_id,
)
from policies.candidates.markets import Markets, product
from serve.access.rates import Quota, RateLimiter
from serve.config import Config
from serve.content.titles import configured_titles
from serve.feed.pipeline import PageMaker
from serve.feed.shelf import ItemService
from serve.learn.served import Folds
from serve.monitoring.heartbeats import Heartbeats
from serve.monitoring.status import Status
from serve.store.ledger import (
    Conflict,
    FeedbackOutcome,
    NoRoomError,
    PendingPage,
    WritePath,
    find_alike,
)
from serve.store.store import RegisteredUser, Store, read
from serve.tokens import Tokens, load_secret
from serve.wire.codec import ProblemError
from serve.wire.cohorts import CohortsResponse
from serve.wire.feed import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
    Refusal,
    SceneBody,
)
from serve.wire.users import (
    BlocksRequest,
    BlocksResponse,
    ProfileBody,
    UserResponse,
    UsersRequest,
    UsersResponse,
)


class ResponseBuilder:
    """Builds feed responses from page records."""

    def __init__(self, tokens: Tokens, catalogue: Catalogue, markets: Markets) -> None:
        self._tokens = tokens
        self._catalogue = catalogue
        self._markets = markets

    def of(self, page: PageRecord) -> FeedResponse:
        """Return the response that delivers a page."""
        cards = zip(page.drawn, page.cards, page.reasons, strict=True)
        items = tuple(
            self._card(page, drawn.slot, drawn.propensity, card, reason)
            for drawn, card, reason in cards
        )
        return FeedResponse(page.page_id, items, page.degraded)

    def _card(
        self, page: PageRecord, slot: int, propensity: float, card: Card, reason: str
    ) -> CardBody:
        item = self.item(card)
        country = page.scene.country
        return CardBody(
            decision_id=self._tokens.sign(decision_id(page.page_id, slot)),
            item_id=card.item_id,
            slot=slot,
            propensity=propensity,
            policy=page.policy,
            reason=reason,
            item=_for_client(item),
            product=product(item, country, self._markets.of(country)),
        )

    def item(self, card: Card) -> Item:
        """Return a card's item as it is now; a removed item is reduced to its id."""
        index = self._catalogue.index_of(card.item_id)
        return Item(card.item_id, listed=False) if index is None else self._catalogue.item(index)


def _for_client(item: Item) -> Item:
    """Return an item without what no card shows."""
    return msgspec.structs.replace(
        item, vector=None, products={}, bait=None, description="", embedder=""
    )


NO_ROOM = (
    f"expected at most {MAX_BLOCKED} blocked creators and {MAX_BLOCKED} blocked tags of a user "
    "with this request; nothing was blocked: take some back first"
)


class Blocking:
    """Reads and writes users' blocks."""

    def __init__(self, store: Store, ledger: WritePath, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._ledger = ledger
        self._now_ms = now_ms

    async def put(self, user_id: UserId, body: BlocksRequest) -> BlocksResponse:
        """Block or unblock creators and tags; return all of the user's blocks, once on disk.

        No page that is drawn afterwards, on any replica, shows a blocked item to this user.

        Raises:
            ProblemError: 404, the user is unknown; 409, the user would exceed the maximum number of
                blocks, and nothing was blocked.
        """
        work = partial(
            self._ledger.block,
            user_id=user_id,
            creators=tuple(map(CreatorId, body.creators)),
            tags=body.tags,
            wanted=body.wanted,
            at_ms=self._now_ms(),
        )
        try:
            return _response(user_id, await self._ledger.commit(work, durable=True, about=user_id))
        except NoRoomError as error:
            raise ProblemError(409, NO_ROOM) from error

    async def get(self, user_id: UserId) -> BlocksResponse:
        """Return all of a user's blocks.

        Raises:
            ProblemError: 404, the user is unknown.
        """
        user = await read(self._store, lambda view: view.user(user_id), user_id)
        return _response(user_id, user and user.state)


def nobody(user_id: UserId) -> ProblemError:
    """Return the problem for an unknown user id."""
    return ProblemError(404, f"nobody of id {user_id}", "user_id")


def _response(user_id: UserId, state: UserState | None) -> BlocksResponse:
    if state is None:
        raise nobody(user_id)
    return BlocksResponse(user_id, blocked_creators(state), state.blocked_tags)


MAX_HEADS = 20_000


class PageHeader(NamedTuple):
    """The parts of a page that feedback needs."""

    user: UserKey
    session: SessionId
    at_ms: int
    items: dict[int, int]  # key of the item in each slot


class PageCache:
    """A bounded cache of the headers of recently used pages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heads: dict[PageId, PageHeader] = {}

    def remember(self, page: PageRecord) -> PageHeader:
        """Store a page's header, and evict the one that was used longest ago."""
        drawn = zip(page.drawn, page.cards, strict=True)
        items = {each.slot: item_key(card.item_id) for each, card in drawn}
        head = PageHeader(page.user, page.session, page.at_ms, items)
        self._heads.pop(page.page_id, None)
        self._heads[page.page_id] = head
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        return head

    async def find(self, page_ids: Collection[PageId]) -> dict[PageId, PageHeader]:
        """Return the headers of those pages that are in the log."""
        found = {key: head for key in page_ids if (head := self._heads.pop(key, None)) is not None}
        self._heads |= found
        unknown = [page_id for page_id in page_ids if page_id not in found]
        if unknown:
            pages = await read(self._store, lambda view: view.pages(unknown))
            found |= {page_id: self.remember(page) for page_id, page in pages.items()}
        return found


MAX_DRAWS = 8
"""Maximum number of draws of a page while its user or its items change before the commit."""

NOTHING_TO_SHOW = "no item may be shown here"
CHANGING = "what may be shown here is changing; ask again"
FORGED = "the decision_id was not given out here"
NO_SUCH_PAGE = "the page of this decision_id is not known"
FORGOTTEN = "the user was deleted"
NEVER_SHOWN = "kind: expected a card that was reported on screen before, got one that never was"
_REASONS = {FeedbackOutcome.FORGOTTEN: FORGOTTEN, FeedbackOutcome.NEVER_SHOWN: NEVER_SHOWN}
TOO_MANY = "the card has had as many events as limits.events_per_card allows"
TOO_OFTEN = "the user has had more events than limits.events_per_minute allows"
OF_ANOTHER = "expected events about the token's user, got one about another user's card"
ASKS_TOO_OFTEN = "the user asks for more pages than limits.pages_per_minute allows; ask again"
BURST_S = 10.0
"""Seconds whose pages and events a user may have at once."""

_NO_KEYS: ShortKeys = np.zeros(0, dtype=np.uint32)


class _Shown(NamedTuple):
    decision: DecisionId
    head: PageHeader


class Engine:
    """Answers the requests of one replica."""

    def __init__(
        self,
        config: Config,
        store: Store,
        maker: PageMaker,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        """Bring the maker's catalogue up to date; make the secret if it is missing.

        Args:
            config: names the data folder, the clock and the markets.
            store: closed by its owner.
            maker: draws the pages.
            now_ms: the server's clock, Unix milliseconds.
        """
        self._store = store
        self._maker = maker
        self._now_ms = now_ms
        self._simulated = config.clock.simulated
        self.signals = config.signal_table
        self._of_card = Quota(config.limits.events_per_card)
        self._pages = RateLimiter(config.limits.pages_per_minute / 60, BURST_S)
        self._events = RateLimiter(config.limits.events_per_minute / 60, BURST_S)
        self._ledger = WritePath(store)
        folder = Path(config.data.folder)
        self._tokens = Tokens(load_secret(folder))
        self._answers = ResponseBuilder(self._tokens, maker.catalogue, Markets(config.markets))
        self._heads = PageCache(store)
        self.shelf = ItemService(
            store,
            self._ledger,
            maker.catalogue,
            now_ms=now_ms,
            titles=configured_titles(config),
        )
        self.blocking = Blocking(store, self._ledger, now_ms=now_ms)
        self.lookout = Status(store, self.shelf, Heartbeats(folder), now_ms=now_ms)

    @property
    def folds(self) -> Folds:
        """The folds of the log that an audit reads."""
        return self._maker.folds

    @property
    def cohorts(self) -> CohortsResponse:
        """The cohorts of users by behaviour, as this replica knows them."""
        learned = self._maker.learned
        return CohortsResponse.of(learned.version, learned.cohorts)

    # --- the feed ---

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page that is in the log; the same `request_id` gives the same page again.

        Raises:
            ProblemError: 409, the user was deleted meanwhile; 429, the user asks too often.
        """
        now_ms = self._clock(request.scene.at_ms)
        if not self._pages.take(request.user_id, now_ms):
            raise ProblemError(429, ASKS_TOO_OFTEN, "user_id")
        user, offset = await self._look_up(request.user_id)
        if user is None:
            user = await self._register(request.user_id, request.scene, now_ms)
        await self.shelf.refresh(offset)
        name = self._tokens.request(user.user, request.request_id)
        page = await self._find_page(user.user, name) if request.request_id else None
        return self._answer(page) if page else await self._draw(request, user, name, now_ms)

    async def _draw(
        self, request: FeedRequest, user: RegisteredUser, name: str, now_ms: int
    ) -> FeedResponse:
        """Draw a page and append it; draw again if its user or its items have changed meanwhile.

        Without this check, two concurrent requests would show the same cards, and a page that
        waited for the writer could show blocked or removed items. All page ids of this request
        begin with `name`; the first such page in the log is the response.
        """
        page_id = self._tokens.page_id(name)
        for n_left in reversed(range(MAX_DRAWS)):
            session = self._session(request, user, page_id, now_ms)
            page = self._maker.page(
                request,
                user.user,
                user.state,
                session=session,
                page_id=page_id,
                now_ms=now_ms,
                origin=self._tokens.origin(request.scene.address),
            )
            if page is None:
                return FeedResponse(page_id, (), NOTHING_TO_SHOW)
            # The last draw is appended even if its user's state has changed: a client that sends
            # feedback without pause gets a page too, and a repeated card costs less than none.
            draft = self._draft(page, name, user.state, is_last=n_left == 0)
            work = partial(self._ledger.take_page, draft=draft)
            match await self._ledger.commit(work, durable=False, about=user.user):
                case PageRecord() as written:
                    if written is page:
                        self._maker.committed(page)
                    return self._answer(written)
                case Conflict(state, sequence):
                    user = RegisteredUser(user.user, state)
                    await self.shelf.refresh(sequence)
                case None:
                    raise ProblemError(409, f"{FORGOTTEN} while the page was made", "user_id")
        return FeedResponse(page_id, (), CHANGING)

    def _draft(
        self, page: PageRecord, name: str, state: UserState, *, is_last: bool
    ) -> PendingPage:
        catalogue = self._maker.catalogue
        items = tuple(map(self._answers.item, page.cards))
        alike = find_alike(catalogue, page) if is_last else _NO_KEYS
        return PendingPage(page, name, state, catalogue.sequence, items, is_last, alike)

    async def _look_up(self, user_id: str) -> tuple[RegisteredUser | None, int]:
        return await read(self._store, lambda view: view.arrival(user_id), user_id)

    async def _find_page(self, user: UserKey, name: str) -> PageRecord | None:
        return await read(self._store, lambda view: view.find_page(user, name), user)

    async def _register(self, user_id: str, scene: SceneBody, now_ms: int) -> RegisteredUser:
        profile = Profile(country=scene.country, language=scene.language, device=scene.device)
        work = partial(
            self._ledger.register, user_id=UserId(user_id), profile=profile, at_ms=now_ms
        )
        return await self._ledger.commit(work, durable=False, about=user_id)

    def _session(
        self, request: FeedRequest, user: RegisteredUser, page_id: PageId, now_ms: int
    ) -> SessionId:
        if request.session_id is not None:
            return self._tokens.session_id(user.user, request.session_id)
        return live_session(user.state, now_ms) or SessionId(f"s{page_id}")

    def _answer(self, page: PageRecord) -> FeedResponse:
        self._heads.remember(page)
        return self._answers.of(page)

    # --- feedback ---

    async def feedback(
        self,
        request: FeedbackRequest,
        unread: Sequence[Refusal] = (),
        *,
        only: UserId | None = None,
    ) -> FeedbackResponse:
        """Accept valid events and return once they are on disk; refuse the others one by one.

        Args:
            request: the events that could be read.
            unread: refusals of the others.
            only: the user whom all events must be about; None: any.

        Raises:
            ProblemError: 403, an event is about another user's card; 429, all users of the request
                have had more events than the limits allow.
        """
        shown = await self._find_shown({event.decision_id for event in request.events})
        about = {each.head.user for each in shown.values() if isinstance(each, _Shown)}
        if only is not None:
            await self._require_own(only, about)
        now_ms = self._clock(max((event.at_ms for event in request.events), default=None))
        busy = {user for user in about if not self._events.allows(user, now_ms)}
        if about and busy == about:
            raise ProblemError(429, TOO_OFTEN, "events")
        read = [(e, self._read_event(e, shown[e.decision_id], busy)) for e in request.events]
        taken = [(e.event_id, r) for e, r in read if isinstance(r, FeedbackRecord)]
        records = [record for _, record in taken]
        outcomes = await self._ledger.commit_feedback(records, self._shown_only(records, shown))
        self._count(records, outcomes, now_ms)
        refused = [*unread]
        refused += [Refusal(e.event_id, reason) for e, reason in read if isinstance(reason, str)]
        refused += [
            Refusal(event_id, _REASONS[outcome])
            for (event_id, _), outcome in zip(taken, outcomes, strict=True)
            if outcome in _REASONS
        ]
        return FeedbackResponse(
            accepted=outcomes.count(FeedbackOutcome.ACCEPTED),
            duplicates=outcomes.count(FeedbackOutcome.DUPLICATE),
            refused=tuple(refused),
        )

    async def _require_own(self, user_id: UserId, about: Collection[UserKey]) -> None:
        user, _ = await self._look_up(user_id)
        if about and (user is None or set(about) != {user.user}):
            raise ProblemError(403, OF_ANOTHER, "events")

    def _count(
        self, records: Sequence[FeedbackRecord], outcomes: Sequence[FeedbackOutcome], now_ms: int
    ) -> None:
        """Count new events against the limits; repeats are free, or a retry would use them up."""
        new = [r for r, o in zip(records, outcomes, strict=True) if o is FeedbackOutcome.ACCEPTED]
        for record in new:
            self._of_card.spend(record.decision_id)
        for user, n in Counter(record.user for record in new).items():
            self._events.spend(user, now_ms, n)

    async def _find_shown(self, given: Collection[str]) -> dict[str, _Shown | str]:
        """Return the card of each decision id that a client sent, or the reason for having none."""
        decisions = {each: self._tokens.verify(each) for each in given}
        page_ids = {split_decision_id(decision)[0] for decision in decisions.values() if decision}
        heads = await self._heads.find(page_ids)
        return {each: _shown(decision, heads) for each, decision in decisions.items()}

    def _read_event(
        self, event: Event, shown: _Shown | str, busy: Collection[UserKey]
    ) -> FeedbackRecord | str:
        """Return an event as it is logged, or the reason for refusing it."""
        if reason := self.signals.refusal(event.kind, event.value, event.currency):
            return reason
        if isinstance(shown, str):
            return shown
        decision, head = shown
        at_ms, window_s = self._clock(event.at_ms), self.signals.rows[event.kind].window_s
        if at_ms - head.at_ms > 1000.0 * window_s:
            late_s = (at_ms - head.at_ms) / 1000.0
            return (
                f"kind: expected {event.kind} within {window_s:g} s of its page, "
                f"got it after {late_s:.0f} s"
            )
        if not self._of_card.allows(decision):
            return TOO_MANY
        if head.user in busy:
            return TOO_OFTEN
        interest, undoes = self.signals.carried(event.kind)
        return FeedbackRecord(
            event_id=self._tokens.event_id(head.user, event.event_id),
            decision_id=decision,
            at_ms=at_ms,
            user=head.user,
            session=head.session,
            kind=event.kind,
            value=event.value or 0.0,
            client_ms=event.at_ms,
            interest=interest,
            undoes=undoes,
        )

    def _shown_only(
        self, records: Sequence[FeedbackRecord], shown: Mapping[str, _Shown | str]
    ) -> dict[str, int]:
        """Return the item's key of each event, by its id, whose card must have been on screen."""
        heads = {each.decision: each.head for each in shown.values() if isinstance(each, _Shown)}
        return {
            record.event_id: heads[record.decision_id].items[slot]
            for record in records
            if self.signals.rows[record.kind].needs_impression
            for _, slot in (split_decision_id(record.decision_id),)
        }

    # --- users ---

    async def put_users(self, request: UsersRequest) -> UsersResponse:
        """Register users or change their profiles; answer once all are on disk.

        They are written in one transaction a shard of the store: if one fails, sending all of them
        again is safe.
        """
        users = [(UserId(body.user_id), body.profile()) for body in request.users]
        new, changed = await self._ledger.commit_users(users, self._now_ms())
        return UsersResponse(new, changed, len(users) - new - changed)

    async def put_user(self, user_id: UserId, body: ProfileBody) -> UserResponse:
        """Register a user or change their profile; return it once it is on disk."""
        work = partial(
            self._ledger.put_user, user_id=user_id, profile=body.profile(), at_ms=self._now_ms()
        )
        user = await self._ledger.commit(work, durable=True, about=user_id)
        return UserResponse(user_id, user.state.profile)

    async def get_user(self, user_id: UserId) -> UserResponse:
        """Return a user's profile.

        Raises:
            ProblemError: 404, the user is unknown.
        """
        user, _ = await self._look_up(user_id)
        if user is None:
            raise nobody(user_id)
        return UserResponse(user_id, user.state.profile)

    async def delete_user(self, user_id: UserId) -> None:
        """Forget a user: delete profile and state, and overwrite the user's identity in the log.

        Raises:
            ProblemError: 404, the user is unknown.
        """
        work = partial(self._ledger.forget_user, user_id=user_id, at_ms=self._now_ms())
        if not await self._ledger.commit(work, durable=True, about=user_id):
            raise nobody(user_id)

    def _clock(self, client_ms: int | None) -> int:
        return client_ms if self._simulated and client_ms is not None else self._now_ms()


def _shown(decision: DecisionId | None, heads: Mapping[PageId, PageHeader]) -> _Shown | str:
    if decision is None:
        return FORGED
    page_id, slot = split_decision_id(decision)
    head = heads.get(page_id)
    return NO_SUCH_PAGE if head is None or slot not in head.items else _Shown(decision, head)
