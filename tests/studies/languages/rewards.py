"""The reward a card of SwipeEnv's users, with a preference for their own language over without.

Both arms serve the same users and items of the same seeds, so what users and videos have in common
cancels; the interval is over seeds, as two learners of one world drift apart.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from env.world.presets import load
from replay.estimators.intervals import t_quantile
from serve.config import Config
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.paired import ratio_of
from tests.studies.served_world.world import ServedWorld, WorldSize

LEVEL = 0.95
Told = Callable[[int], None]


class Rewards(NamedTuple):
    """The ratios of the arms by seed, and the share of cards in the user's own language."""

    ratios: list[float]
    own_before: float
    own_after: float


def mean_and_low(ratios: list[float]) -> tuple[float, float]:
    """Return the mean of paired ratios and the lower end of its Student interval.

    >>> mean_and_low([1.0]), mean_and_low([1.0, 1.0, 1.0])
    ((1.0, 1.0), (1.0, 1.0))
    """
    mean = float(np.mean(ratios))
    if len(ratios) < 2:
        return mean, mean
    half = t_quantile(LEVEL, len(ratios) - 1) * float(np.std(ratios, ddof=1))
    return mean, mean - half / math.sqrt(len(ratios))


def with_foreign_share(config: Config, share: float) -> Config:
    """Return settings with another share of the cards for finding out; 1: languages are alike."""
    feed = msgspec.structs.replace(config.feed, foreign_share=share)
    return msgspec.structs.replace(config, feed=feed)


def compare_rewards(
    size: WorldSize, cards: int, seeds: range, config: Config, told: Told
) -> Rewards:
    """Serve the same worlds with and without the preference.

    Args:
        size: of the worlds.
        cards: seen in each.
        seeds: of users, items and draws.
        config: of the server; its own share is the arm that is measured.
        told: told of each arm that is done.
    """
    ratios, own = [], []
    for seed in seeds:
        arms = []
        for n_done, share in enumerate((config.feed.foreign_share, 1.0)):
            world = ServedWorld(
                size, preset=load("kuairand"), seed=seed, config=with_foreign_share(config, share)
            )
            world.run(cards)
            arms.append((world.shown, _own_share(world)))
            told(2 * (seed - seeds[0]) + n_done + 1)
        (after, own_after), (before, own_before) = arms
        ratios.append(ratio_of(after, before).value)
        own.append((own_before, own_after))
    before_mean, after_mean = np.mean(own, axis=0).tolist()
    return Rewards(ratios, before_mean, after_mean)


def _own_share(world: ServedWorld) -> float:
    """Return the share of the cards in the language of the user who was shown them."""
    shown: Shown = world.shown
    size = world.size
    spoken = np.concatenate([s.swiping.crowd.users.language for s in world.shards])
    mine = shown.life == 0  # a later life in the same place may speak another language
    language = world.supply.creators.language[world.supply.stock.creator[shown.row]]
    assert len(spoken) == size.users
    return float(np.mean(language[mine] == spoken[shown.place[mine]]))
