"""Two latent tastes: items without tags and without vectors, which only answers can tell apart.

Half of the items are of one taste and half of the other, and so are the users; nothing that the
server is told says which. A user watches a card of their own taste with probability `PLAYED` and
skips one of the other's as often. Users swipe through the real pipeline while the learner folds
their log and item factors are fitted now and then. Then newcomers of both tastes answer a first
page of two or five cards, and their next page is looked at; nothing is learned of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from env.items.content import static_block
from env.records import FeedbackKind, ItemRecord, LogLine, PageRecord, Record, pack_halves
from env.users import fold as user_fold
from env.users.state import UserState, newcomer
from env.vocabulary import CreatorId, Item, ItemId, PageId, Profile, SessionId, UserKey
from policies.collaborative.fit import fit
from serve.config import Config
from serve.feed.pipeline import Pipeline
from serve.learn.collaborative import Generation, fit_args
from serve.learn.fold import LearnerState
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, vowpal_args
from serve.wire.feed import FeedRequest
from tests.studies.served_world.users import report
from tests.studies.served_world.world import publish

Advance = Callable[[int], None]
PLAYED = 0.9
LIKED = 0.1
"""Of the played cards of one's own taste."""

WATCHED_S, SKIPPED_S = 24.0, 1.5
DURATION_S = 30.0
START_MS = 1_700_000_000_000
CARD_MS = 20_000
DRAW_KEY = b"two tastes"


class TastesSize(msgspec.Struct, frozen=True):
    """How much is swiped.

    Attributes:
        users: of both tastes together.
        cards: that each of them sees.
        items: of both tastes together.
        page: cards of a page.
        fit_every: answers between two fits.
        newcomers: of both tastes together, after each number of answers.
    """

    users: int = 400
    cards: int = 100
    items: int = 1_000
    page: int = 10
    fit_every: int = 4_000
    newcomers: int = 400


class TastesResult(msgspec.Struct, frozen=True):
    """How well latent tastes are found; .5 is chance.

    Attributes:
        own_taste_after_2: share of a newcomer's own taste on the page after 2 answers.
        own_taste_after_5: likewise after 5.
        own_taste_at_end: of the users' last 20 cards.
        own_taste_without: of the same without item factors.
    """

    own_taste_after_2: float
    own_taste_after_5: float
    own_taste_at_end: float
    own_taste_without: float


@dataclass(slots=True)
class _User:
    key: UserKey
    taste: int
    state: UserState
    n_pages: int = 0


class TwoTastes:
    """A server, and users of two tastes in front of it."""

    def __init__(self, size: TastesSize, *, seed: int, config: Config) -> None:
        """Put the items; nobody has been shown anything."""
        self.size, self.config = size, config
        self._rng = np.random.default_rng(seed)
        self.clock_ms = START_MS
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self.pipeline = Pipeline(config, draw_key=DRAW_KEY, served=first)
        self.learning = LearnerState(learning_args(config))
        self.tastes: dict[ItemId, int] = {}
        self.own: list[bool] = []
        self._lines: list[Record] = []
        self._version = self._n_fitted = 0
        for k in range(size.items):
            self._put(ItemId(f"clip-{k:05d}"), int(self._rng.integers(2)))

    def swipe(self, advance: Advance) -> None:
        """Let all users swipe in turn, page by page, and learn meanwhile."""
        users = [self._meet(f"u{k}", k % 2) for k in range(self.size.users)]
        for _ in range(self.size.cards // self.size.page):
            for k, user in enumerate(users):
                self._lines += self._turn(user, self.size.page)
                if k % 40 == 39:
                    self._learn()
            self._learn()
            advance(len(users))

    def own_after(self, n_answers: int) -> float:
        """Return the share of their own taste on the page after so many answers of newcomers."""
        shares = []
        for k in range(self.size.newcomers):
            user = self._meet(f"new-{n_answers}-{k}", k % 2)
            self._turn(user, n_answers)
            page = self._draw(user, self.size.page)
            shares.append(np.mean([self.tastes[c.item_id] == user.taste for c in page.cards]))
        return float(np.mean(shares))

    def _put(self, item_id: ItemId, taste: int) -> None:
        item = Item(item_id, creator=CreatorId(f"by-{item_id}"), duration_s=DURATION_S)
        record = ItemRecord(item_id, START_MS, item, pack_halves(static_block(item)))
        self.tastes[item_id] = taste
        self.pipeline.catalogue.apply(record)
        self._lines.append(record)

    def _meet(self, name: str, taste: int) -> _User:
        return _User(UserKey(name), taste, newcomer(Profile()))

    def _turn(self, user: _User, size: int) -> list[Record]:
        """Let a user answer a page; return what the log says of it."""
        page = self._draw(user, size)
        said: list[Record] = [page]
        for k, card in enumerate(page.cards):
            is_own = self.tastes[card.item_id] == user.taste
            self.own.append(is_own)
            said += self._answer(page, k, is_own=is_own)
        for record in said:
            user.state = user_fold.fold(user.state, record) or user.state
        self.clock_ms += CARD_MS * (len(page.cards) + 1)
        return said

    def _answer(self, page: PageRecord, k: int, *, is_own: bool) -> Sequence[Record]:
        plays = (self._rng.random() < PLAYED) == is_own
        likes = is_own and plays and self._rng.random() < LIKED
        dwell_s = WATCHED_S if plays else SKIPPED_S
        at_ms = self.clock_ms + CARD_MS * (k + 1)
        liked: list[tuple[FeedbackKind, float]] = [("like", 0.0)] if likes else []
        return report(page, k, [("dwell", dwell_s), *liked, ("leave", 0.0)], at_ms)

    def _draw(self, user: _User, size: int) -> PageRecord:
        user.n_pages += 1
        page = self.pipeline.page(
            FeedRequest(user_id=user.key, size=size),
            user.key,
            user.state,
            session=SessionId(f"s-{user.key}"),
            page_id=PageId(f"{user.key}/{user.n_pages}"),
            now_ms=self.clock_ms,
        )
        if page is None:
            raise RuntimeError(f"expected a page for {user.key}, got none")
        return page

    def _learn(self) -> None:
        offset = self.learning.offset
        self.learning.fold([LogLine(offset + k, r) for k, r in enumerate(self._lines, start=1)])
        self._lines.clear()
        self._version += 1
        self.pipeline.swap(publish(self.learning, self._version))
        window, settings = self.learning.window, self.config.collaborative
        if window is not None and window.n_folded - self._n_fitted >= self.size.fit_every:
            self._n_fitted = window.n_folded
            factors = fit(window.answers(settings.per_user), fit_args(settings), self._version)
            self.pipeline.collaborate(Generation(factors))


def run_tastes(size: TastesSize, *, seed: int, config: Config, advance: Advance) -> TastesResult:
    """Swipe with item factors and without; advance is told users' pages, 20 x users by default."""
    with_it = _swiped(size, seed, config, advance, enabled=True)
    without = _swiped(size, seed, config, advance, enabled=False)
    at_end = _last_20(with_it)
    return TastesResult(
        own_taste_after_2=with_it.own_after(2),
        own_taste_after_5=with_it.own_after(5),
        own_taste_at_end=at_end,
        own_taste_without=_last_20(without),
    )


def _swiped(
    size: TastesSize, seed: int, config: Config, advance: Advance, *, enabled: bool
) -> TwoTastes:
    settings = msgspec.structs.replace(config.collaborative, enabled=enabled)
    world = TwoTastes(
        size, seed=seed, config=msgspec.structs.replace(config, collaborative=settings)
    )
    world.swipe(advance)
    return world


def _last_20(world: TwoTastes) -> float:
    return float(np.mean(world.own[-20 * world.size.users :]))
