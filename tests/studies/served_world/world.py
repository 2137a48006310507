"""SwipeEnv behind the real pipeline: users of the crowd, pages as served, a fold that learns.

Each turn a shard of users is shown a page by `Pipeline.page`; they answer as `env.world.simulation`
lets them; their pages and feedback are lines of a log, which `LearnerState` folds at the turn's
end, and what it came to draws the next turn's pages. There is neither HTTP nor a database between,
so a million cards take minutes, and beside each stands what it was really worth.

The clock is simulated and even: turns follow each other as `cards_a_day` says, and in a turn all
users see their page's cards at the same pace. A shard stays for some pages and comes back when all
others have been there. Its users' own calendars (when they return, how interests drift) go on by
themselves, from visit to visit: a user who comes twice within an hour of the server's may have
been away for days of theirs.

Rejected: users one by one (an answer would cost as much as a page), and the users' calendars as
the clock (what is owed within a day needs traffic that is known beforehand).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec
import numpy as np

from env.fair_start.audience import Audiences
from env.interface import Policy
from env.items.statistics import ItemStates
from env.records import ItemRecord, LogLine, PageRecord, Record
from env.vocabulary import Ints, ItemId
from env.world.presets import Preset
from serve.config import Config
from serve.feed.pipeline import Pipeline
from serve.learn.fold import LearnerState
from serve.learn.served import ServingModel, initial_serving_model
from serve.learn.settings import learning_args, vowpal_args
from serve.wire.feed import FeedRequest
from tests.studies.served_world.arrivals import Arrivals
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.items import DAY_MS, Shelf
from tests.studies.served_world.users import Person, Said, Shard

START_MS = 1_700_000_000_000

DRAW_KEY = b"served world"

CARD_MS = 20_000
"""About what a card takes in KuaiRand; a page of them is over before the server gives it up."""

Told = Callable[[int], None]
"""Told how many cards were shown so far."""


class WorldSize(msgspec.Struct, frozen=True):
    """How many users come how often, and to what.

    Attributes:
        users: who come in turn; a multiple of `shard`.
        shard: who are there at the same time.
        page: cards of a page.
        pages_a_visit: before a shard gives way to the next.
        cards_a_day: on the server's clock, of all users together.
        items: there at the start.
        uploads_a_day: from the start on.
    """

    users: int = 20_000
    shard: int = 250
    page: int = 8
    pages_a_visit: int = 3
    cards_a_day: int = 250_000
    items: int = 4_096
    uploads_a_day: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shards that do not make up the users.

        Raises:
            ValueError: a size is below 1, or users is no multiple of shard.
        """
        sizes = self.users, self.shard, self.page, self.pages_a_visit, self.cards_a_day
        if min(sizes) < 1 or self.users % self.shard:
            raise ValueError(f"expected sizes above 0, users a multiple of shard, got {self}")

    @property
    def turn_ms(self) -> int:
        """Milliseconds of a turn."""
        return round(DAY_MS * self.shard * self.page / self.cards_a_day)

    @property
    def card_ms(self) -> int:
        """Milliseconds of a card: `CARD_MS`, or less where turns are too short for that."""
        return min(self.turn_ms // (self.page + 1), CARD_MS)


class Witness(Protocol):
    """Sees every page that is drawn, with what it was drawn with."""

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """See a page; `pipeline` has not moved on yet."""


class Onlooker(Protocol):
    """Sees all pages of a turn beside the users who opened them, before any card is shown."""

    def see(self, world: "ServedWorld", shard: Shard, pages: Sequence[PageRecord | None]) -> None:
        """See the pages by place; None: nothing may be shown there."""


class Guest(Protocol):
    """A user else who comes to the server each turn."""

    def visit(self, world: "ServedWorld") -> list[Said]:
        """Ask for pages with `world.draw`, and return these and what is reported of them."""


class ServedWorld:
    """A server with users in front of it.

    Attributes:
        size: of it.
        preset: of the users.
        config: of the server.
        seed: of users, items and draws.
        supply: of items; its rows are the catalogue's indices.
        clock_ms: the server's time.
        pipeline: draws the pages.
        learning: folds the log.
        shards: of the users.
        guests: who come as well.
        onlookers: see what everybody is given.
    """

    def __init__(
        self,
        size: WorldSize,
        *,
        preset: Preset,
        seed: int,
        config: Config,
        witness: Witness | None = None,
        rival: Policy | None = None,
    ) -> None:
        """Put the items of the start; nobody has been shown anything.

        Args:
            size: of it.
            preset: of the users and items; the number of items is the size's.
            seed: of users, items and draws.
            config: of the server.
            witness: sees the pages.
            rival: serves them from the first learned version on, in place of what is learned.
        """
        uploads = msgspec.structs.replace(preset.uploads, n_items=size.items)
        self.size, self.config, self.seed = size, config, seed
        self.preset = msgspec.structs.replace(preset, uploads=uploads)
        self.supply = Arrivals(self.preset, seed, size.uploads_a_day)
        self.clock_ms = START_MS
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self.pipeline = Pipeline(config, draw_key=DRAW_KEY, served=first)
        self.learning = LearnerState(learning_args(config))
        self.guests: list[Guest] = []
        self.onlookers: list[Onlooker] = []
        self._witness, self._rival = witness, rival
        self._shelf = Shelf(self.supply.creators, START_MS)
        self._lines: list[Record] = []
        self._parts: list[Shown] = []
        self._n_turns = self._n_cards = self._version = 0
        for row in range(self.supply.stock.n):
            self._put(self._shelf.record(self.supply.stock, row, debut=False))
        self.shards = [self._shard(first) for first in range(0, size.users, size.shard)]

    @property
    def n_cards(self) -> int:
        """Cards that were seen so far."""
        return self._n_cards

    @property
    def day(self) -> float:
        """Days since the start."""
        return (self.clock_ms - START_MS) / DAY_MS

    @property
    def shown(self) -> Shown:
        """All cards seen so far."""
        return Shown.join(self._parts)

    def run(self, n_cards: int, told: Told | None = None) -> None:
        """Let users swipe until this many more cards have been seen."""
        until = self._n_cards + n_cards
        while self._n_cards < until:
            self.turn()
            if told is not None:
                told(self._n_cards)

    def run_days(self, days: float, told: Told | None = None) -> None:
        """Let users swipe for some days of the server's clock."""
        until_ms = self.clock_ms + round(DAY_MS * days)
        while self.clock_ms < until_ms:
            self.turn()
            if told is not None:
                told(self._n_cards)

    def turn(self) -> None:
        """Let the next shard swipe a page, fold what was said, and serve what that came to."""
        size = self.size
        visit, nth_page = divmod(self._n_turns, size.pages_a_visit)
        shard = self.shards[visit % len(self.shards)]
        if nth_page == 0:
            shard.begin_visit()
        self._take_uploads()
        pages = shard.ask(self.draw)
        for onlooker in self.onlookers:
            onlooker.see(self, shard, pages)
        heard = shard.answer(pages, self.row_of, now_ms=self.clock_ms, card_ms=size.card_ms)
        self._parts.append(heard.shown)
        self._n_cards += len(heard.shown)
        self._lines += heard.records
        for guest in self.guests:
            self._lines += guest.visit(self)
        self._n_turns += 1
        self.clock_ms += size.turn_ms
        self._learn()

    def draw(self, user: Person) -> PageRecord | None:
        """Return the page that a user is served now."""
        page = serve(self.pipeline, user, now_ms=self.clock_ms, size=self.size.page)
        if page is not None:
            self.pipeline.committed(page)
            if self._witness is not None:
                self._witness.see(page, self.pipeline)
        return page

    def row_of(self, item_id: ItemId) -> int:
        """Return an item's row in the stock."""
        index = self.pipeline.catalogue.index_of(item_id)
        if index is None:
            raise KeyError(f"expected an item of the catalogue, got {item_id}")
        return index

    def home_of(self, rows: Ints) -> Ints:
        """Return the home market of items, by rows of the stock, shape (n,)."""
        return self.supply.creators.home[self.supply.stock.creator[rows]]

    def born_ms(self, rows: Ints) -> Ints:
        """Return when items were uploaded, by rows of the stock, shape (n,)."""
        days = self.supply.stock.published[rows]
        return START_MS + np.round(DAY_MS * days).astype(np.int64)

    def _shard(self, first_place: int) -> Shard:
        place = first_place + np.arange(self.size.shard)
        return Shard(
            self.preset,
            self.supply,
            self.config.reward,
            seeds=users_seeds(self.seed, place),
            first_place=first_place,
            now_ms=self.clock_ms,
        )

    def _take_uploads(self) -> None:
        for row in self.supply.advance(self.day).tolist():
            self._put(self._shelf.record(self.supply.stock, row, debut=True))

    def _put(self, record: ItemRecord) -> None:
        self.pipeline.catalogue.apply(record)
        self._lines.append(record)

    def _learn(self) -> None:
        """Fold the lines in the order of their times, and serve what that came to."""
        self._lines.sort(key=_time_of)
        offset = self.learning.offset
        self.learning.fold([LogLine(offset + k, r) for k, r in enumerate(self._lines, start=1)])
        self._lines.clear()
        self._version += 1
        served = publish(self.learning, self._version)
        if self._rival is not None:
            served = replace(served, policy=self._rival)
        self.pipeline.swap(served)


def publish(learning: LearnerState, version: int) -> ServingModel:
    """Return what a replica would serve of the fold as it is now; later folds do not move it."""
    return ServingModel(
        learning.policy.frozen(version),
        ItemStates.from_bytes(learning.states.to_bytes()),
        Audiences.from_bytes(learning.audiences.to_bytes(), learning.args.audiences),
        version,
        learning.offset,
    )


def serve(pipeline: Pipeline, user: Person, *, now_ms: int, size: int) -> PageRecord | None:
    """Return the page that a user is served; None: nothing may be shown."""
    return pipeline.page(
        FeedRequest(user_id=user.key, size=size),
        user.key,
        user.state,
        session=user.session,
        page_id=user.turn_page(),
        now_ms=now_ms,
        origin=user.origin,
    )


def users_seeds(seed: int, places: Ints) -> Ints:
    """Return seeds of places that no other seed's world has, shape (n,)."""
    return np.asarray(seed * 1_000_000 + places)


def _time_of(record: Record) -> int:
    return record.at_ms
