"""What an item is really worth at home: exact, over users who have just sat down.

The true quality of an item is the mean exact expected reward of showing it to the users of its
home market when they are rested: nothing of its topic lately, no load, at an hour of theirs. Users
are a sample of the population that lives there, the same for all items of a market, so items are
compared on equal terms.

Rejected: the mean over those it was shown to (that is what a policy chose for it), and over all
markets (a video is first tried at home).
"""

import numpy as np

from env.arrays.draws import life_keys
from env.reward import Reward
from env.vocabulary import Floats, Ints, Keys
from env.world.crowd import UserBatch
from env.world.generated import MARKETS
from env.world.kuaisim_crowd import crowd_of
from env.world.population import DrawnUsers
from env.world.presets import Preset
from env.world.supply import Stock
from tests.studies.evaluation.worlds import expected_of

N_LIVES = 20_000
"""That are drawn to find users of the smallest market, 2% of all."""

N_PEOPLE = 300
"""Of a market, at most."""

_BATCH = 50
_POPULATION = 2**40
"""Seeds from here on: of no place of a world."""


class Quality:
    """Knows the true quality of items, whose homes are given."""

    def __init__(self, preset: Preset, reward: Reward) -> None:
        """Draw the users of all markets.

        Args:
            preset: of the world.
            reward: whose expectation is meant.
        """
        self._preset, self._reward, self._cast = preset, reward, DrawnUsers(preset)
        seeds = _POPULATION + np.arange(N_LIVES)
        keys = life_keys(seeds, np.zeros(N_LIVES, dtype=np.int64))
        market = self._cast.draw(keys).market
        self._crowds = [self._crowd(keys[market == m][:N_PEOPLE]) for m in range(len(MARKETS))]

    def of(self, stock: Stock, rows: Ints, homes: Ints) -> Floats:
        """Return the true quality of items, shape (n,).

        Args:
            stock: of the items.
            rows: of the items, shape (n,).
            homes: market of each, shape (n,).
        """
        found = np.zeros(len(rows))
        for market in np.unique(homes).tolist():
            here = np.flatnonzero(homes == market)
            for batch in np.array_split(here, -(-len(here) // _BATCH)):
                found[batch] = self._mean(stock, rows[batch], self._crowds[market])
        return found

    def _mean(self, stock: Stock, rows: Ints, crowd: UserBatch) -> Floats:
        offered = np.broadcast_to(rows, (crowd.n, len(rows)))
        value = expected_of(crowd, stock, offered, self._preset, self._reward)
        return np.asarray(value.mean(axis=0))

    def _crowd(self, keys: Keys) -> UserBatch:
        crowd = crowd_of(self._preset, self._cast, 1, len(keys))
        crowd.begin(np.arange(len(keys)), keys)
        return crowd
