"""References of the cold start world: policies that know all of it but what is hidden of an item.

What is hidden has a normal posterior in log-odds, by a step of Newton's a card (Laplace's
approximation, on line): precision += p (1 - p), mean += (r - p) / precision. They bound what a
policy can earn that has to learn the rest as well.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from env.features import DYNAMIC, N_STATIC
from env.reals import logistic
from env.records import unpack_halves
from env.vocabulary import Bools, Context, Floats, Interaction
from policies.explorers import AnyExplorer, Epsilon, Greedy, explorer_args
from serve.bench.coldstart_arms import LearnerPlayer, Player
from serve.bench.coldstart_world import ColdWorld

_MATCH = N_STATIC + DYNAMIC.index("long_match")


class HiddenEffects:
    """Knows what features tell, and learns what is hidden of each item; a Learner."""

    def __init__(
        self, world: ColdWorld, name: str, width: float, explorer: AnyExplorer, *, learns: bool
    ) -> None:
        """Know nothing of what is hidden but its spread.

        Args:
            world: all but what is hidden in it is known.
            name: `name@version`.
            width: of optimism, in sds of the posterior.
            explorer: over mean + width * sd.
            learns: else features are all that is ever known.
        """
        self.name = name
        self._explorer, self._width, self._learns = explorer, width, learns
        args = world.args
        self._known = args.intercept + world.known
        self._scale = args.affinity_sd * float(np.sqrt(args.n_dims))
        self._index = {key: i for i, key in enumerate(world.catalogue.keys.tolist())}
        self._mean: Floats = np.zeros(len(self._known))
        self._precision: Floats = np.full(len(self._known), args.hidden_sd**-2)

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return the log-odds of each candidate, with some of their uncertainty, shape (n,)."""
        index = [self._index[key] for key in context.features.keys.tolist()]
        match = context.features.actions[:, _MATCH].astype(np.float64)
        hoped = self._mean[index] + self._width / np.sqrt(self._precision[index])
        return np.asarray(self._known[index] + self._scale * match + hoped)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Learn from these interactions, in this order."""
        if not self._learns:
            return
        for interaction in interactions:
            i = self._index[interaction.item_key]
            match = float(unpack_halves(interaction.action)[_MATCH])
            chance = float(logistic(float(self._known[i] + self._mean[i]) + self._scale * match))
            self._precision[i] += chance * (1.0 - chance)
            self._mean[i] += (interaction.reward - chance) / self._precision[i]


REFERENCES = ("features only", "greedy posterior", "ucb 1.0", "posterior, epsilon .05")


def references(world: ColdWorld) -> Mapping[str, Callable[[], Player]]:
    """Return what makes each reference's player, by name."""

    def make(name: str, width: float, explorer: AnyExplorer, *, learns: bool = True) -> Player:
        return LearnerPlayer(HiddenEffects(world, name, width, explorer, learns=learns))

    return {
        REFERENCES[0]: lambda: make("features@0", 0.0, Greedy(), learns=False),
        REFERENCES[1]: lambda: make("posterior@0", 0.0, Greedy()),
        REFERENCES[2]: lambda: make("ucb@0", 1.0, Greedy()),
        REFERENCES[3]: lambda: make("epsilon@0", 0.0, Epsilon(0.05)),
    }
