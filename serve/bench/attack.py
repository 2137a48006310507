"""How much fake accounts push an ordinary video, with guards and without.

Four runs of one world, with the same people, uploads and seeds: guards on and off, attacked and
not. The boost is what the video got from real people under attack over what it got without. An
ordinary video is one near the median of the true quality of what there is in its home. One of each
market is attacked in one run, by accounts of its own, and impressions are added up, so that the
figure does not hang on one of them; how much it does, its standard error says (`Boosts`). It does
where one is promoted, as an ordinary one may be by chance: that owes it hundreds of impressions.

What a source may send is measured by earlier traffic, so there must be some: a day of it, of enough
people that the fakes are fewer than a market's own, but in the smallest two. How many they are for
each of these is told with the figures; within their hours they still are most of what comes in a
small market.

A fifth run, with guards, is of what guards cannot do: old accounts, each with an address block of
its own, push some of these videos. They are an audience as far as a log can tell, so the figure is
there to be known, and has no target.

Rejected: comparing guarded and unguarded attacks directly (without guards a world also judges
others' uploads differently), and 6,000 people with a warm-up of 6 h (in the smaller markets the
fakes are then as many as the people, and the share of young accounts is known from few).
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from env.arrivals import Arrivals
from env.generated import MARKETS
from env.presets import Preset
from env.vocabulary import Ints
from replay.intervals import clustered_se
from replay.ratios import Ratio, influence_of
from serve.bench.fake_accounts import CHEAP, OLD, AttackSize, FakeAccounts
from serve.bench.served_items import DAY_MS, item_id
from serve.bench.served_world import START_MS, ServedWorld, WorldSize
from serve.bench.true_quality import Quality
from serve.config import Config

Advance = Callable[[str, int, int], None]


class AttackRuns(msgspec.Struct, frozen=True):
    """How much is simulated in each run.

    Attributes:
        videos: that are attacked, each in another market, the largest first; a market without an
            upload by then is passed over.
        people: who come in turn.
        cards_a_day: of real people together.
        warm_days: before the first upload.
        uploads_a_day: then; the attacked are among those of the first `choose_days`, and with fewer
            some market's most ordinary one is among its best or worst.
        choose_days: see there.
        days: in which impressions count.
        attack: on each video.
        old_videos: that old accounts attack in a run of its own, the first ones; 0: no such run.
        old: that attack.
    """

    videos: int = 8
    people: int = 20_000
    cards_a_day: int = 120_000
    items: int = 2_048
    shard: int = 250
    warm_days: float = 1.0
    uploads_a_day: float = 80.0
    choose_days: float = 0.5
    days: float = 1.5
    attack: AttackSize = CHEAP
    old_videos: int = 1
    old: AttackSize = OLD


class Attacked(msgspec.Struct, frozen=True):
    """A video that was attacked, and the impressions that real people gave it.

    Attributes:
        rank: share of its home's items that are truly worse.
        pushed: accounts that were shown it and pushed it, guards on and off.
        guarded: impressions with guards, under attack.
        guarded_calm: the same without an attack.
        unguarded: without guards, under attack.
        unguarded_calm: the same without an attack.
        pushed_by_old: the same of old accounts; None: they did not attack it.
        old: impressions with guards, under attack by old accounts; None likewise.
        fakes_per_person: accounts that push it, for each person of its home.
    """

    item_id: str
    country: str
    rank: float
    pushed: tuple[int, int]
    guarded: int
    guarded_calm: int
    unguarded: int
    unguarded_calm: int
    pushed_by_old: int | None
    old: int | None
    fakes_per_person: float


def run_attack(
    runs: AttackRuns, *, preset: Preset, seed: int, config: Config, advance: Advance
) -> list[Attacked]:
    """Attack ordinary videos.

    Args:
        runs: how much.
        preset: of the world.
        seed: of people, items, uploads and draws.
        config: of the server.
        advance: told of progress.
    """
    trial = _Trial(runs, preset, seed, advance)
    rows, homes, ranks, people = trial.choose(config)
    off = msgspec.structs.replace(config.guards, enabled=False)
    unguarded = msgspec.structs.replace(config, guards=off)
    attacked = trial.run(config, rows, runs.attack, "guarded, attacked")
    calm = trial.run(config, rows, None, "guarded, calm")
    bare = trial.run(unguarded, rows, runs.attack, "unguarded, attacked")
    bare_calm = trial.run(unguarded, rows, None, "unguarded, calm")
    by_old: list[_Outcome | None] = [None] * len(rows)
    if runs.old_videos:
        n_old = min(runs.old_videos, len(rows))
        by_old[:n_old] = trial.run(config, rows[:n_old], runs.old, "guarded, old accounts")
    return [
        Attacked(
            item_id=item_id(row),
            country=homes[k],
            rank=ranks[k],
            pushed=(attacked[k].pushed, bare[k].pushed),
            guarded=attacked[k].shown,
            guarded_calm=calm[k].shown,
            unguarded=bare[k].shown,
            unguarded_calm=bare_calm[k].shown,
            pushed_by_old=old.pushed if (old := by_old[k]) else None,
            old=old.shown if old else None,
            fakes_per_person=runs.attack.accounts / max(people[k], 1),
        )
        for k, row in enumerate(rows.tolist())
    ]


class Boosts(msgspec.Struct, frozen=True):
    """How many times the impressions without an attack videos had under it, all together.

    A video that real people never saw without the attack counts as seen once.

    Attributes:
        guarded: with guards.
        unguarded: without.
        old: with guards, those that old accounts attacked; None: there are none.
        guarded_se: standard error of `guarded`, from how videos differ (`replay.ratios`); None: of
            one video nothing is known of that. What they share is not in it: the world, its seed.
    """

    guarded: float
    unguarded: float
    old: float | None
    guarded_se: float | None = None

    @staticmethod
    def of(attacked: list[Attacked]) -> "Boosts":
        """Add up."""
        guarded = [(a.guarded, a.guarded_calm) for a in attacked]
        by_old = [(a.old, a.guarded_calm) for a in attacked if a.old is not None]
        return Boosts(
            guarded=_ratio(guarded),
            unguarded=_ratio([(a.unguarded, a.unguarded_calm) for a in attacked]),
            old=_ratio(by_old) if by_old else None,
            guarded_se=_error(guarded),
        )


def _ratio(pairs: list[tuple[int, int]]) -> float:
    under, without = map(sum, zip(*pairs, strict=True))
    return under / max(without, 1)


def _error(pairs: list[tuple[int, int]]) -> float | None:
    under, without = np.array(pairs, dtype=np.float64).T
    if len(pairs) < 2 or not without.any():
        return None
    return clustered_se(influence_of([Ratio(under, without)]), np.arange(len(pairs)))


class _Outcome(NamedTuple):
    """Impressions of a video by real people, and fake accounts that pushed it."""

    shown: int
    pushed: int


class _Trial:
    """Runs one world again and again."""

    def __init__(self, runs: AttackRuns, preset: Preset, seed: int, advance: Advance) -> None:
        self._runs, self._preset, self._seed, self._advance = runs, preset, seed, advance

    def choose(self, config: Config) -> tuple[Ints, list[str], list[float], list[int]]:
        """Return rows, homes, ranks and people at home of the videos to attack."""
        world = self._world(config)
        supply = Arrivals(world.preset, self._seed, 0.0)
        supply.advance(self._runs.warm_days)
        supply.a_day = self._runs.uploads_a_day
        rows = supply.advance(self._runs.warm_days + self._runs.choose_days)
        everything = np.arange(supply.stock.n)
        home = supply.creators.home[supply.stock.creator]
        quality = Quality(world.preset, config.reward).of(supply.stock, everything, home)
        people = np.concatenate([s.swiping.crowd.people.market for s in world.shards])
        chosen = []
        for market in range(self._runs.videos):
            here = np.flatnonzero((home == market) & (everything < world.size.items))
            mine = rows[home[rows] == market]
            if not len(mine):
                continue
            rank = (quality[here] < quality[mine][:, None]).mean(axis=1)
            best = int(np.argmin(np.abs(rank - 0.5)))
            n_people = int(np.count_nonzero(people == market))
            chosen.append((int(mine[best]), MARKETS[market].country, float(rank[best]), n_people))
        if not chosen:
            raise ValueError("expected an upload to attack, got none: take more uploads")
        targets, homes, ranks, n_home = zip(*chosen, strict=True)
        return np.array(targets), list(homes), list(ranks), list(n_home)

    def run(
        self, config: Config, rows: Ints, attack: AttackSize | None, step: str
    ) -> list[_Outcome]:
        """Run a world in which these videos are attacked, or none; return theirs, one by one."""
        world, runs = self._world(config), self._runs
        total_ms = round(DAY_MS * (runs.warm_days + runs.days))

        def told(_: int) -> None:
            self._advance(step, world.clock_ms - START_MS, total_ms)

        world.run_days(runs.warm_days, told)
        world.supply.a_day = runs.uploads_a_day
        farms = [FakeAccounts(attack, row) for row in rows.tolist()] if attack else []
        world.guests += farms
        world.run_days(runs.days, told)
        shown = [int(np.count_nonzero(world.shown.row == row)) for row in rows]
        pushed = [farm.n_pushed for farm in farms] or [0] * len(rows)
        return list(map(_Outcome, shown, pushed))

    def _world(self, config: Config) -> ServedWorld:
        runs = self._runs
        size = WorldSize(
            people=runs.people,
            shard=runs.shard,
            cards_a_day=runs.cards_a_day,
            items=runs.items,
        )
        return ServedWorld(size, preset=self._preset, seed=self._seed, config=config)
