"""Whether every upload gets the audience it is owed, what that costs, and what a surge does.

A world promises each upload G impressions within 24 hours. Uploads come at such a rate that what is
owed is a small share of all impressions. After a warm-up without uploads' claims on the figures,
promises are judged from the cards that were seen (not from the books of who made them).

What they cost is said twice. `page_cost` is what is lost where slots are reserved: each page beside
what the same learner would make of it without (`serve.bench.unreserved`). `cost` is what a card
earned less, exactly, than in a world of the same people, items, uploads and seeds that promises
nothing and learns for itself. There what was learned counts as well; but so does what either
learner found by luck, of which an error by person knows nothing, and that is as much as all that a
promise costs.

Then in the promising world uploads come at several times the rate for a day: more than the budget
of reserved cards can pay. It must raise the alarm, starve nobody, and let all wait about as long;
the Gini index of the waits is that of the surge's uploads, run on until all are paid or the bench
is over (who still waits then is counted with the time so far).

Rejected: judging uploads that have not had their 24 hours (they would look broken or met by the
length of the run), and a rate of uploads by the cards that are drawn (who leaves sees no more of
their page, so a tenth more would be owed than is said).
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.generated import MARKETS
from env.presets import Preset, load
from serve.bench.floor_figures import FloorResult, FloorSize, MarketFloor, Surge
from serve.bench.paired import ratio_of
from serve.bench.reserved_draws import ReservedDraws
from serve.bench.served_cards import Shown
from serve.bench.served_items import DAY_MS
from serve.bench.served_world import ServedWorld, WorldSize
from serve.bench.unreserved import Unreserved
from serve.bench.upload_waits import NEVER_MS, UploadWaits
from serve.config import Config
from serve.exposure import gini

Advance = Callable[[str, int, int], None]
HOUR_MS = 3_600_000


def run_floor(
    size: FloorSize, *, preset: str, seed: int, advance: Advance, config: Config | None = None
) -> FloorResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of people, items, uploads and draws.
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
    people = WorldSize(
        people=size.people,
        shard=size.shard,
        pages_a_visit=size.pages_a_visit,
        cards_a_day=size.cards_a_day,
        items=size.items,
    )
    return ServedWorld(people, preset=preset, seed=seed, config=config, witness=draws)


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
    """Let people swipe, and return at how many turns some market was overdrawn."""
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
        seen_a_day: impressions a day, of all people together.
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
