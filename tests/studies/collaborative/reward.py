"""What a card earns in the KuaiRand world with item factors, over what it earns without.

Both arms of a seed have the same users, items and draws of the world; what differs is
`collaborative.enabled`. Rewards are exact expectations of the cards shown. The uplift of a seed is
the ratio of the means per card minus 1; the interval is Student's over the seeds.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from env.items.content import static_block
from env.records import ItemRecord, PageRecord, pack_halves
from env.world.presets import load
from policies.collaborative.fit import fit
from serve.config import CollaborativeSettings, Config
from serve.learn.collaborative import Generation, fit_args
from tests.studies.served_world.users import Shard
from tests.studies.served_world.world import ServedWorld, WorldSize

Advance = Callable[[int], None]
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95% quantiles of Student's t by degrees of freedom."""


class RewardSize(msgspec.Struct, frozen=True):
    """How much is swiped.

    Attributes:
        seeds: worlds, each played with item factors and without; at least 2.
        cards: of each arm.
        fit_every: answers between two fits.
        world: its users and items.
        vectors: whether items come with vectors, which here are the very coordinates that tastes
            are made in. KuaiRand's own catalogue has none: its items have tags and creators.
    """

    seeds: int = 5
    cards: int = 40_000
    fit_every: int = 5_000
    world: WorldSize = WorldSize(users=500, items=1_024, cards_a_day=50_000)
    vectors: bool = True


class RewardResult(msgspec.Struct, frozen=True):
    """What item factors are worth in the KuaiRand world.

    Attributes:
        uplift: mean over the seeds.
        uplift_low: lower end of its 95% interval.
        uplift_high: upper end of it.
        uplifts: by seed.
        share_of_source: of the cards shown, those that the source proposed.
    """

    uplift: float
    uplift_low: float
    uplift_high: float
    uplifts: list[float]
    share_of_source: float


class WorldWithoutVectors(ServedWorld):
    """A served world whose items come as KuaiRand's catalogue has them, without vectors."""

    def _put(self, record: ItemRecord) -> None:
        if record.item is not None:
            item = msgspec.structs.replace(record.item, vector=None)
            block = pack_halves(static_block(item))
            record = msgspec.structs.replace(record, item=item, block=block)
        super()._put(record)


@dataclass(slots=True)
class Fitting:
    """An onlooker who fits item factors while users swipe, as the trainer of a server does."""

    settings: CollaborativeSettings
    every: int
    n_fitted: int = 0
    n_cards: int = 0
    n_proposed: int = 0

    def see(self, world: ServedWorld, shard: Shard, pages: Sequence[PageRecord | None]) -> None:
        """Count the source's cards; fit if there are enough new answers."""
        for page in pages:
            if page is not None:
                self.n_cards += len(page.reasons)
                self.n_proposed += page.reasons.count("collaborative")
        window = world.learning.window
        if window is None or window.n_folded - self.n_fitted < self.every:
            return
        self.n_fitted = window.n_folded
        answers = window.answers(self.settings.per_user)
        factors = fit(answers, fit_args(self.settings), window.n_folded)
        world.pipeline.collaborate(Generation(factors))


def run_reward(
    size: RewardSize, *, seed: int, config: Config, advance: Advance, processes: int = 2
) -> RewardResult:
    """Play all seeds; the figures do not depend on how many processes share the work.

    Args:
        size: of it.
        seed: of the first world.
        config: of the server.
        advance: told 1 whenever an arm of a seed is done; there are 2 x seeds.
        processes: that run at a time; 1: this one.
    """
    tasks = [
        (size, seed + k, config, enabled) for k in range(size.seeds) for enabled in (True, False)
    ]
    played = []
    if processes == 1:
        for task in tasks:
            played.append(_play(task))
            advance(1)
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
            for arm in workers.map(_play, tasks):
                played.append(arm)
                advance(1)
    with_it, without = np.array(played[0::2]), np.array(played[1::2])
    uplifts = with_it[:, 0] / without[:, 0] - 1.0
    half = _T95[size.seeds - 1] * float(uplifts.std(ddof=1)) / float(np.sqrt(size.seeds))
    mean = float(uplifts.mean())
    return RewardResult(
        uplift=mean,
        uplift_low=mean - half,
        uplift_high=mean + half,
        uplifts=uplifts.tolist(),
        share_of_source=float(with_it[:, 1].mean()),
    )


def _play(task: tuple[RewardSize, int, Config, bool]) -> tuple[float, float]:
    """Return an arm's mean exact reward a card, and the source's share of its cards."""
    size, seed, config, enabled = task
    settings = msgspec.structs.replace(config.collaborative, enabled=enabled)
    config = msgspec.structs.replace(config, collaborative=settings)
    with threadpool_limits(1, user_api="blas"):
        made = ServedWorld if size.vectors else WorldWithoutVectors
        world = made(size.world, preset=load("kuairand"), seed=seed, config=config)
        fitting = Fitting(settings, size.fit_every)
        world.onlookers.append(fitting)
        world.run(size.cards)
    return float(world.shown.expected.mean()), fitting.n_proposed / max(fitting.n_cards, 1)
