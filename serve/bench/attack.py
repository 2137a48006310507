"""How much fake accounts push an ordinary video, with guards and without.

Four runs of one world, with the same people, uploads and seeds: guards on and off, attacked and
not. The boost is what the video got from real people under attack over what it got without. An
ordinary video is one near the median of the true quality of what there is in its home. Several
are attacked in one run, each by accounts of its own, and impressions are added up, so that the
figure does not hang on one of them.

Rejected: comparing guarded and unguarded attacks directly (without guards a world also judges
others' uploads differently).
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.arrivals import Arrivals
from env.generated import MARKETS
from env.presets import Preset
from env.vocabulary import Ints
from serve.bench.fake_accounts import AttackSize, FakeAccounts
from serve.bench.served_items import DAY_MS, item_id
from serve.bench.served_world import START_MS, ServedWorld, WorldSize
from serve.bench.true_quality import Quality
from serve.config import Config

Advance = Callable[[str, int, int], None]


class AttackRuns(msgspec.Struct, frozen=True):
    """How much is simulated in each of the four runs.

    Attributes:
        videos: that are attacked, each in another market, the largest first.
        people: who come in turn.
        cards_a_day: of real people together.
        warm_days: before the first upload.
        uploads_a_day: then; the attacked are among those of the first `choose_days`.
        choose_days: see there.
        days: in which impressions count.
        attack: on each video.
    """

    videos: int = 3
    people: int = 6_000
    cards_a_day: int = 120_000
    items: int = 2_048
    shard: int = 250
    warm_days: float = 0.25
    uploads_a_day: float = 40.0
    choose_days: float = 0.5
    days: float = 2.0
    attack: AttackSize = AttackSize()


class Attacked(msgspec.Struct, frozen=True):
    """A video that was attacked, and the impressions that real people gave it.

    Attributes:
        rank: share of its home's items that are truly worse.
        pushed: accounts that were shown it and pushed it, guards on and off.
        guarded: impressions with guards, under attack.
        guarded_calm: the same without an attack.
        unguarded: without guards, under attack.
        unguarded_calm: the same without an attack.
    """

    item_id: str
    country: str
    rank: float
    pushed: tuple[int, int]
    guarded: int
    guarded_calm: int
    unguarded: int
    unguarded_calm: int


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
    rows, homes, ranks = trial.choose(config)
    off = msgspec.structs.replace(config.guards, enabled=False)
    unguarded = msgspec.structs.replace(config, guards=off)
    found = [
        trial.run(settings, rows, is_attacked=is_attacked, step=f"{name}, {what}")
        for name, settings in (("guarded", config), ("unguarded", unguarded))
        for is_attacked, what in ((True, "attacked"), (False, "calm"))
    ]
    return [
        Attacked(
            item_id=item_id(row),
            country=homes[k],
            rank=float(ranks[k]),
            pushed=(found[0][1][k], found[2][1][k]),
            guarded=found[0][0][k],
            guarded_calm=found[1][0][k],
            unguarded=found[2][0][k],
            unguarded_calm=found[3][0][k],
        )
        for k, row in enumerate(rows.tolist())
    ]


def boosts(attacked: list[Attacked]) -> tuple[float, float]:
    """Return how many times the impressions of all videos were, guarded and unguarded.

    A video that real people never saw without the attack counts as seen once.
    """
    with_guards = sum(a.guarded for a in attacked) / max(sum(a.guarded_calm for a in attacked), 1)
    without = sum(a.unguarded for a in attacked) / max(sum(a.unguarded_calm for a in attacked), 1)
    return with_guards, without


class _Trial:
    """Runs one world again and again."""

    def __init__(self, runs: AttackRuns, preset: Preset, seed: int, advance: Advance) -> None:
        self._runs, self._preset, self._seed, self._advance = runs, preset, seed, advance

    def choose(self, config: Config) -> tuple[Ints, list[str], list[float]]:
        """Return rows, homes and ranks of the videos to attack, before there is a world."""
        world = self._world(config)
        supply = Arrivals(world.preset, self._seed, 0.0)
        supply.advance(self._runs.warm_days)
        supply.a_day = self._runs.uploads_a_day
        rows = supply.advance(self._runs.warm_days + self._runs.choose_days)
        everything = np.arange(supply.stock.n)
        home = supply.creators.home[supply.stock.creator]
        quality = Quality(world.preset, config.reward).of(supply.stock, everything, home)
        chosen = []
        for market in range(self._runs.videos):
            here = np.flatnonzero((home == market) & (everything < world.size.items))
            mine = rows[home[rows] == market]
            if not len(mine):
                continue
            rank = (quality[here] < quality[mine][:, None]).mean(axis=1)
            best = int(np.argmin(np.abs(rank - 0.5)))
            chosen.append((int(mine[best]), MARKETS[market].country, float(rank[best])))
        if not chosen:
            raise ValueError("expected an upload to attack, got none: take more uploads")
        targets, homes, ranks = zip(*chosen, strict=True)
        return np.array(targets), list(homes), list(ranks)

    def run(
        self, config: Config, rows: Ints, *, is_attacked: bool, step: str
    ) -> tuple[list[int], list[int]]:
        """Return impressions by real people, and fake accounts that pushed, video by video."""
        world, runs = self._world(config), self._runs
        total_ms = round(DAY_MS * (runs.warm_days + runs.days))

        def told(_: int) -> None:
            self._advance(step, world.clock_ms - START_MS, total_ms)

        world.run_days(runs.warm_days, told)
        world.supply.a_day = runs.uploads_a_day
        farms = [FakeAccounts(runs.attack, int(row)) for row in rows] if is_attacked else []
        world.guests += farms
        world.run_days(runs.days, told)
        shown = world.shown.row
        pushed = [farm.n_pushed for farm in farms] or [0] * len(rows)
        return [int(np.count_nonzero(shown == row)) for row in rows], pushed

    def _world(self, config: Config) -> ServedWorld:
        runs = self._runs
        size = WorldSize(
            people=runs.people,
            shard=runs.shard,
            cards_a_day=runs.cards_a_day,
            items=runs.items,
        )
        return ServedWorld(size, preset=self._preset, seed=self._seed, config=config)
