"""Constant mixtures of what engages and what nourishes: what a ranker for return has to beat."""

from typing import Any

import msgspec
import numpy as np

from env.played_lives import Choose
from env.swiping import Swiping
from env.vocabulary import Ints
from policies.retention.rankings import AtRandom, Network, Weights, weigh


class Mixture(msgspec.Struct, frozen=True, tag="mixture"):
    """Shows what one ranking would in a constant share of the cards, else what another would."""

    share: float
    one: Weights
    other: Weights

    def open(self, seed: int) -> Choose:
        """Return the policy at work, with its own draws."""
        rng, one, other = np.random.default_rng(seed), self.one.open(seed), self.other.open(seed)

        def choose(observation: Any, swiping: Swiping) -> Ints:
            takes_one = rng.random(len(observation["user"])) < self.share
            return np.where(takes_one, one(observation, swiping), other(observation, swiping))

        return choose


AnyPolicy = Weights | Mixture | AtRandom | Network


def constant_mixes(engaging: Weights) -> dict[str, Mixture | Weights]:
    """Return constant mixtures of what engages and what nourishes, by name.

    Of two kinds: the ranker of a card is drawn, or both are added up with a constant weight. What
    nourishes is played and does not look like bait.

    Args:
        engaging: ranks by what engages.
    """
    nourishing = Weights(weigh(valid_play=1.0, baited_play=-1.0, bait_guess=-1.0))
    mixes: dict[str, Mixture | Weights] = {
        f"nourish {share:g}": Mixture(share, nourishing, engaging)
        for share in (0.25, 0.5, 0.75, 1.0)
    }
    for weight in (0.25, 0.5, 1.0):
        mixes[f"bait -{weight:g}"] = Weights(weigh(valid_play=1.0, bait_guess=-weight))
    return mixes
