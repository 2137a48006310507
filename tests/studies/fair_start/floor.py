"""Whether every upload gets the audience it is owed, what that costs, and what a surge does.

A world promises each upload G impressions within 24 hours. Uploads come at such a rate that what is
owed is a small share of all impressions. After a warm-up without uploads' claims on the figures,
promises are judged from the cards that were seen (not from the books of who made them).

What they cost is said twice. `page_cost` is what is lost where slots are reserved: each page beside
what the same learner would make of it without (`tests.studies.fair_start.floor`). `cost` is what a
card earned less, exactly, than in a world of the same users, items, uploads and seeds that promises
nothing and learns for itself. There what was learned counts as well; but so does what either
learner found by luck, of which an error by user knows nothing, and that is as much as all that a
promise costs.

Then in the promising world uploads come at several times the rate for a day: more than the budget
of reserved cards can pay. It must raise the alarm, starve nobody, and let all wait about as long;
the Gini index of the waits is that of the surge's uploads, run on until all are paid or the bench
is over (who still waits then is counted with the time so far).

Rejected: judging uploads that have not had their 24 hours (they would look broken or met by the
length of the run), and a rate of uploads by the cards that are drawn (who leaves sees no more of
their page, so a tenth more would be owed than is said).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from env.fair_start.audience import Audiences
from env.interface import Policy, draw, fill_page, page_pmfs, page_seed, slot_uniform
from env.pages.records import Blocks
from env.pages.verify_many import N_CELLS
from env.records import PageRecord
from env.vocabulary import Bools, Context, Decision, Floats, Ints, Page, PageId
from env.world.generated import MARKETS
from env.world.presets import Preset, load
from policies.slots.rules import FAIR_START
from serve.audit.exposure import gini
from serve.config import Config
from serve.feed.pipeline import Pipeline
from serve.learn.served import ServingModel
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.items import DAY_MS
from tests.studies.served_world.paired import Ratio, ratio_of, ratio_of_sums
from tests.studies.served_world.users import Person, Shard
from tests.studies.served_world.world import DRAW_KEY, ServedWorld, WorldSize, serve


class FloorSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        users: who come in turn. A user pays an upload once, so in a market of 2% of them the
            visits of a day must be several times G.
        cards_a_day: drawn for all users together; who leaves sees no more of their page.
        items: there at the start.
        pages_a_visit: see `WorldSize`.
        warm_days: before the first upload, above 0; what is seen then says what a day is.
        days: with uploads at `owed_share`; those of the last day's length are not judged.
        owed_share: impressions owed to uploads, of all impressions.
        surge_share: the same on the day of the surge.
        drain_days: after it, without uploads, at most.
        again: how often each page with a reserved slot is drawn once more to judge the draws.
    """

    users: int = 20_000
    cards_a_day: int = 200_000
    items: int = 4_096
    shard: int = 250
    pages_a_visit: int = 2
    warm_days: float = 0.25
    days: float = 2.0
    owed_share: float = 0.04
    surge_share: float = 0.2
    drain_days: float = 2.0
    again: int = 2


class MarketFloor(msgspec.Struct, frozen=True):
    """What became of the uploads of a market.

    Attributes:
        judged: uploads whose time is over.
        met_share: part of them that got what they were owed in time; 1 of none.
        wait_p50_h: hours until they had it, median of those that have.
        owed_share: impressions owed per impression in the market while uploads came.
    """

    market: str
    judged: int
    met_share: float
    wait_p50_h: float | None
    owed_share: float


class Surge(msgspec.Struct, frozen=True):
    """What a day of too many uploads did.

    Attributes:
        uploads: of that day.
        alarm: some market was said to be overdrawn.
        alarm_before: turns before the surge at which some market was.
        paid_share: part that has got what it was owed by the end.
        gini_waiting: of the time until then, see the module.
        starved: uploads without any impression after their first 24 hours.
        wait_p50_h: median of the same times.
        days: from the surge's beginning to the end of the bench.
    """

    uploads: int
    alarm: bool
    alarm_before: int
    paid_share: float
    gini_waiting: float
    starved: int
    wait_p50_h: float
    days: float


class FloorResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        cards: seen in the promising world.
        judged: uploads whose 24 hours are over, before the surge.
        met_share: part of them that got what they were owed in time.
        page_cost: 1 - worth of a page's card / the same if nothing were reserved, at that moment
            and by the same learner, while uploads came.
        page_cost_se: its error by user.
        cost: 1 - reward with the promise / reward in a world without, exact, while uploads came.
        cost_se: its error by user, and nothing of what the two learners found by luck.
        markets: the same promises by the uploads' home.
        redrawn_pages: pages with a reserved slot, all drawn again.
        redrawn_mismatches: decisions of theirs that did not come again.
        reserved_draws: draws of reserved slots that p is of.
        reserved_p: chance of draws as far from their distribution as these, by chi-square.
    """

    size: FloorSize
    preset: str
    seed: int
    cards: int
    judged: int
    met_share: float
    page_cost: float
    page_cost_se: float
    cost: float
    cost_se: float
    markets: list[MarketFloor]
    surge: Surge
    redrawn_pages: int
    redrawn_mismatches: int
    reserved_draws: int
    reserved_p: float


class ReservedDraws:
    """Sees pages, and judges those that have a reserved slot.

    Attributes:
        n_pages: with a reserved slot.
        n_draws: of reserved slots, those with other seeds included.
        mismatches: decisions of these pages that do not come again.
    """

    def __init__(self, again: int, seed: int) -> None:
        """Start without a page.

        Args:
            again: how often each page is drawn once more with another seed.
            seed: of the judge's own uniforms.
        """
        self.n_pages = self.n_draws = self.mismatches = 0
        self._again = again
        self._rng = np.random.default_rng(seed)
        self._blocks = Blocks()
        self._cells = np.zeros(N_CELLS)

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """Judge a page if it has a reserved slot."""
        if all(rule.name != FAIR_START for rule in page.rules):
            return
        whole, policy = self._page(page, pipeline), _Scored(pipeline.served.policy)
        self.n_pages += 1
        seed = page_seed(DRAW_KEY, page.page_id)
        for decision, pmf in page_pmfs(whole, policy):
            action = draw(pmf, slot_uniform(seed, decision.slot))
            same = action == decision.action and min(float(pmf[action]), 1.0) == decision.propensity
            self.mismatches += not same
            self._count(whole, decision, pmf)
        for other in self._other_pages(whole, policy):
            for decision, pmf in page_pmfs(other, policy):
                self._count(other, decision, pmf)

    def p_value(self) -> float:
        """Return the chance of cells as uneven as these, by Wilson and Hilferty (PNAS 1931).

        Raises:
            ValueError: no reserved slot was seen.
        """
        if not self.n_draws:
            raise ValueError("expected a page with a reserved slot, got none")
        expected, df = self.n_draws / N_CELLS, N_CELLS - 1
        ratio = float(np.sum((self._cells - expected) ** 2)) / expected / df
        z = (np.cbrt(ratio) - (1.0 - 2.0 / (9.0 * df))) / math.sqrt(2.0 / (9.0 * df))
        return 0.5 * math.erfc(float(z) / math.sqrt(2.0))

    def _page(self, page: PageRecord, pipeline: Pipeline) -> Page:
        catalogue = pipeline.catalogue
        for k, item_id in enumerate(page.candidates):
            index = catalogue.index_of(item_id)
            if page.blocks[8 * k : 8 * k + 8] not in self._blocks and index is not None:
                self._blocks.add(catalogue.card(index).block)
        return self._blocks.page(page)

    def _other_pages(self, page: Page, policy: Policy) -> Iterator[Page]:
        for k in range(self._again):
            seed = page_seed(DRAW_KEY, PageId(f"{page.context.page_id}/again/{k}"))
            yield fill_page(page.context, policy, page.slots, page.eps, seed)

    def _count(self, page: Page, decision: Decision, pmf: Floats) -> None:
        if page.slots[decision.slot].name != FAIR_START:
            return
        order = np.argsort(pmf, kind="stable")
        ranked = pmf[order]
        place = int(np.flatnonzero(order == decision.action)[0])
        below = float(ranked[:place].sum()) + self._rng.random() * float(ranked[place])
        self._cells[min(int(N_CELLS * below / float(ranked.sum())), N_CELLS - 1)] += 1.0
        self.n_draws += 1


class _Scored:
    """A policy that remembers the scores of the page it was asked for last."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._context: Context | None = None
        self._scores: Floats = np.zeros(0)

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def explorer(self) -> dict[str, object]:
        return self._policy.explorer

    def score(self, context: Context) -> Floats:
        if context is not self._context:
            self._context, self._scores = context, self._policy.score(context)
        return self._scores

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return self._policy.explore(scores, mask)


class Unreserved:
    """Sees the pages of a world as users open them, and draws those with reserved slots again.

    Attributes:
        n_pages: that were seen.
        n_redrawn: those of them that have a reserved slot.
        earned: what pages are worth as drawn, and without reserved slots, by place, shape (2, n).
        cards: of these pages, likewise.
    """

    def __init__(self, world: ServedWorld) -> None:
        """See no page yet; `ServedWorld.onlookers` tells of them.

        Args:
            world: whose pages are seen.
        """
        fair_start = msgspec.structs.replace(world.config.fair_start, budget=0.0)
        config = msgspec.structs.replace(world.config, fair_start=fair_start)
        self.n_pages = self.n_redrawn = 0
        self._args = config.audiences
        self._served = world.pipeline.served
        self._pipeline = Pipeline(
            config,
            draw_key=DRAW_KEY,
            served=self._without(self._served),
            catalogue=world.pipeline.catalogue,
        )
        users = world.size.users
        self.earned: Floats = np.zeros((2, users))
        self.cards: Floats = np.zeros((2, users))

    @property
    def kept(self) -> Ratio:
        """How much of the worth of a card is left where slots are reserved; its error by user."""
        (earned, otherwise), (cards, others) = self.earned, self.cards
        return ratio_of_sums(earned, cards, otherwise, others)

    def see(self, world: ServedWorld, shard: Shard, pages: Sequence[PageRecord | None]) -> None:
        """See the pages that the users of a shard have just been given, None for those without."""
        others = [
            self._otherwise(world, user, page)
            for user, page in zip(shard.users, pages, strict=True)
        ]
        for nth, drawn in enumerate((pages, others)):
            worth, n_cards = shard.worth_of(drawn, world.row_of)
            places = slice(shard.first_place, shard.first_place + len(n_cards))
            self.earned[nth, places] += worth
            self.cards[nth, places] += n_cards

    def redraw(self, world: ServedWorld, user: Person) -> PageRecord | None:
        """Return what a user's last page would be if nothing were reserved; they do not move."""
        self._follow(world)
        before = replace(user, n_pages=user.n_pages - 1)
        return serve(self._pipeline, before, now_ms=world.clock_ms, size=world.size.page)

    def _otherwise(
        self, world: ServedWorld, user: Person, page: PageRecord | None
    ) -> PageRecord | None:
        """Return a page without reserved slots: as it is, where it has none."""
        self.n_pages += page is not None
        if page is None or all(rule.name != FAIR_START for rule in page.rules):
            return page
        self.n_redrawn += 1
        return self.redraw(world, user)

    def _follow(self, world: ServedWorld) -> None:
        """Draw with what the world's own pages are drawn with now."""
        if world.pipeline.served is not self._served:
            self._served = world.pipeline.served
            self._pipeline.swap(self._without(self._served))

    def _without(self, served: ServingModel) -> ServingModel:
        """Return the same version as a server without a budget for reserved slots reads it."""
        audiences = Audiences.from_bytes(served.audiences.to_bytes(), self._args)
        return ServingModel(served.policy, served.states, audiences, served.version, served.offset)


NEVER_MS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class UploadWaits:
    """n uploads, by row of the stock.

    Attributes:
        first_ms: when the first impression came; `NEVER_MS`: it has not.
        paid_ms: when the last owed one came; `NEVER_MS`: it has not.
    """

    rows: Ints  # (n,)
    home: Ints  # (n,) market
    born_ms: Ints  # (n,)
    owed: Ints  # (n,)
    first_ms: Ints  # (n,)
    paid_ms: Ints  # (n,)

    @staticmethod
    def of(shown: Shown, rows: Ints, home: Ints, born_ms: Ints, owed: Ints) -> "UploadWaits":
        """Count.

        Args:
            shown: all cards so far.
            rows: of the uploads, shape (n,), rising.
            home: of each, shape (n,).
            born_ms: of each, shape (n,).
            owed: of each, at least 1, shape (n,).
        """
        of_upload = shown.take(np.isin(shown.row, rows))
        order = np.lexsort((of_upload.at_ms, of_upload.row))
        row, at_ms = of_upload.row[order], of_upload.at_ms[order]
        start = np.searchsorted(row, rows)
        end = np.searchsorted(row, rows, side="right")

        def nth_ms(n: Ints) -> Ints:
            found = np.full(len(rows), NEVER_MS)
            enough = end - start >= n
            found[enough] = at_ms[(start + n - 1)[enough]]
            return found

        return UploadWaits(rows, home, born_ms, owed, nth_ms(np.ones_like(owed)), nth_ms(owed))

    def take(self, which: Bools) -> "UploadWaits":
        """Return some of the uploads."""
        return UploadWaits(
            self.rows[which],
            self.home[which],
            self.born_ms[which],
            self.owed[which],
            self.first_ms[which],
            self.paid_ms[which],
        )

    def born_in(self, start_ms: int, end_ms: int) -> "UploadWaits":
        """Return those that were uploaded in [start_ms, end_ms)."""
        return self.take((self.born_ms >= start_ms) & (self.born_ms < end_ms))

    def are_met(self, within_ms: int) -> Bools:
        """Return which were paid in time, shape (n,)."""
        return self.paid_ms - self.born_ms <= within_ms


Advance = Callable[[str, int, int], None]

HOUR_MS = 3_600_000


def run_floor(
    size: FloorSize, *, preset: str, seed: int, advance: Advance, config: Config | None = None
) -> FloorResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of users, items, uploads and draws.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    config = config or Config()
    draws = ReservedDraws(size.again, seed)
    world = _world(size, load(preset), seed, config, draws)
    alarm_before = _run_days(world, size.warm_days, "with the floor, warm up", advance)
    start_ms, seen_a_day = world.clock_ms, world.n_cards / world.day
    world.supply.a_day = _rate(seen_a_day, config, size.owed_share)
    unreserved = Unreserved(world)
    world.onlookers.append(unreserved)
    alarm_before += _run_days(world, size.days, "with the floor", advance)
    world.onlookers.remove(unreserved)
    end_ms, shown = world.clock_ms, world.shown
    waits = _waits(world, shown).born_in(start_ms, end_ms - _within_ms(config))
    plain = _plain_cards(size, load(preset), seed, config, seen_a_day, advance)
    ratio = ratio_of(_between(shown, start_ms, end_ms), _between(plain, start_ms, end_ms))
    surge = _surge(world, size, seen_a_day, alarm_before, advance)
    met = waits.are_met(_within_ms(config))
    return FloorResult(
        size=size,
        preset=preset,
        seed=seed,
        cards=world.n_cards,
        judged=len(met),
        met_share=float(met.mean()) if len(met) else 1.0,
        page_cost=1.0 - unreserved.kept.value,
        page_cost_se=unreserved.kept.se,
        cost=1.0 - ratio.value,
        cost_se=ratio.se,
        markets=_markets(world, waits, _between(shown, start_ms, end_ms), (start_ms, end_ms)),
        surge=surge,
        redrawn_pages=draws.n_pages,
        redrawn_mismatches=draws.mismatches,
        reserved_draws=draws.n_draws,
        reserved_p=draws.p_value(),
    )


def _world(
    size: FloorSize, preset: Preset, seed: int, config: Config, draws: ReservedDraws | None
) -> ServedWorld:
    users = WorldSize(
        users=size.users,
        shard=size.shard,
        pages_a_visit=size.pages_a_visit,
        cards_a_day=size.cards_a_day,
        items=size.items,
    )
    return ServedWorld(users, preset=preset, seed=seed, config=config, witness=draws)


def _plain_cards(
    size: FloorSize,
    preset: Preset,
    seed: int,
    config: Config,
    seen_a_day: float,
    advance: Advance,
) -> Shown:
    """Return the cards of the world that promises nothing, over the same days."""
    nothing = msgspec.structs.replace(config.fair_start, impressions=0, by_market={})
    plain = msgspec.structs.replace(config, fair_start=nothing)
    world = _world(size, preset, seed, plain, None)
    _run_days(world, size.warm_days, "without, warm up", advance)
    world.supply.a_day = _rate(seen_a_day, config, size.owed_share)
    _run_days(world, size.days, "without", advance)
    return world.shown


def _run_days(world: ServedWorld, days: float, step: str, advance: Advance) -> int:
    """Let users swipe, and return at how many turns some market was overdrawn."""
    until_ms, start_ms, n_alarms = world.clock_ms + round(DAY_MS * days), world.clock_ms, 0
    while world.clock_ms < until_ms:
        world.turn()
        n_alarms += bool(world.learning.audiences.overdrawn())
        advance(step, world.clock_ms - start_ms, until_ms - start_ms)
    return n_alarms


def _surge(
    world: ServedWorld, size: FloorSize, seen_a_day: float, alarm_before: int, advance: Advance
) -> Surge:
    start_ms = world.clock_ms
    world.supply.a_day = _rate(seen_a_day, world.config, size.surge_share)
    n_alarms = _run_days(world, 1.0, "surge", advance)
    surge_end_ms, step = world.clock_ms, "after the surge"
    world.supply.a_day = 0.0
    waits, until_ms = _waits(world, world.shown), world.clock_ms + round(DAY_MS * size.drain_days)
    while world.clock_ms < until_ms:
        n_alarms += _run_days(world, 0.25, step, advance)
        waits = _waits(world, world.shown).born_in(start_ms, surge_end_ms)
        is_late = world.clock_ms - waits.born_ms.max(initial=start_ms) >= DAY_MS
        if is_late and (waits.paid_ms < NEVER_MS).all():
            break
    waited_h = (np.minimum(waits.paid_ms, world.clock_ms) - waits.born_ms) / HOUR_MS
    return Surge(
        uploads=len(waits.rows),
        alarm=n_alarms > 0,
        alarm_before=alarm_before,
        paid_share=float((waits.paid_ms < NEVER_MS).mean()) if len(waits.rows) else 1.0,
        gini_waiting=gini(waited_h) or 0.0,
        starved=int(np.count_nonzero(waits.first_ms - waits.born_ms > DAY_MS)),
        wait_p50_h=float(np.median(waited_h)) if len(waits.rows) else 0.0,
        days=(world.clock_ms - start_ms) / DAY_MS,
    )


def _rate(seen_a_day: float, config: Config, share: float) -> float:
    """Return uploads a day by which this share of all impressions is owed to them.

    Args:
        seen_a_day: impressions a day, of all users together.
        config: of the server that owes them.
        share: of these impressions.
    """
    weights = np.array([market.weight for market in MARKETS])
    owed = np.array([config.fair_start.owed_in(market.country) for market in MARKETS])
    return share * seen_a_day / float(owed @ weights / weights.sum())


def _waits(world: ServedWorld, shown: Shown) -> UploadWaits:
    """Return what all uploads have waited for so far."""
    rows = np.arange(world.size.items, world.supply.stock.n)
    home = world.home_of(rows)
    owed = np.array([world.config.fair_start.owed_in(MARKETS[m].country) for m in home.tolist()])
    return UploadWaits.of(shown, rows, home, world.born_ms(rows), owed.astype(np.int64))


def _between(shown: Shown, start_ms: int, end_ms: int) -> Shown:
    return shown.take((shown.at_ms >= start_ms) & (shown.at_ms < end_ms))


def _within_ms(config: Config) -> int:
    return round(HOUR_MS * config.fair_start.within_h)


def _markets(
    world: ServedWorld, waits: UploadWaits, shown: Shown, between: tuple[int, int]
) -> list[MarketFloor]:
    everything = _waits(world, shown).born_in(*between)
    within_ms, found = _within_ms(world.config), []
    for m, market in enumerate(MARKETS):
        here, came = waits.take(waits.home == m), everything.take(everything.home == m)
        met, paid = here.are_met(within_ms), here.paid_ms < NEVER_MS
        hours = (here.paid_ms - here.born_ms)[paid] / HOUR_MS
        found.append(
            MarketFloor(
                market=market.country,
                judged=len(met),
                met_share=float(met.mean()) if len(met) else 1.0,
                wait_p50_h=float(np.median(hours)) if len(hours) else None,
                owed_share=float(came.owed.sum() / max(np.count_nonzero(shown.market == m), 1)),
            )
        )
    return found
