"""The arms of the cold start comparison: who chooses the cards, and how each learns.

A `Player` is a policy as a service runs it: a version of it serves some pages, then it learns from
what came of them. All but the references are also what stands in the swiping world.

The default and the explorers over its scores are whole loops of their own: each learns from what
itself showed. Epsilon stands twice, over the same hopeful scores as the default's and over the
posterior's mean (an optimism of 0); the stronger of the two counts. The linear bandits' arguments
are tuned by the benchmark, on replicates of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from env.arrays.reals import logistic
from env.columns.schema import DYNAMIC, N_STATIC
from env.interface import Learner, Policy
from env.records import unpack_halves
from env.vocabulary import Bools, Context, Floats, Interaction, Page
from policies.bandit.policy import HybridBandit
from policies.bandit.settings import HybridBanditArgs
from policies.baselines import UniformPolicy
from policies.explorers import AnyExplorer, Epsilon, Greedy, Softmax, SquareCB, explorer_args
from tests.studies.cold_start.world import ColdWorld
from tests.studies.peers.linear import LinearArgs, LinThompson, LinUcb
from tests.studies.peers.vowpal_peers import COVER, RND, VowpalPeer

UNIFORM = "uniform"
DEFAULT = "vowpal (default)"
EPSILON = "vowpal, epsilon .05"
EPSILON_MEAN = "vowpal's mean, epsilon .05"
EPSILONS = (EPSILON, EPSILON_MEAN)
LIN_UCB = "linucb"
LIN_THOMPSON = "lints"
LINEAR = (LIN_UCB, LIN_THOMPSON)
EXPLORERS = ("vowpal, squarecb 400", "vowpal, softmax .02", "vowpal, greedy")
PEERS = ("VW --cover 16", "VW --rnd 3")


class Player(Protocol):
    """Chooses cards and learns from them."""

    def serving(self, version: int) -> Policy:
        """Return the policy as it is now, to serve the next pages."""
        ...

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Learn from pages of one card and what came of each, in this order."""
        ...


class FixedPlayer:
    """A policy that learns nothing."""

    def __init__(self, policy: Policy) -> None:
        """Serve it."""
        self._policy = policy

    def serving(self, version: int) -> Policy:
        """Return it."""
        return self._policy

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Do nothing."""


class LearnerPlayer:
    """A Learner that serves as it is."""

    def __init__(self, learner: Learner) -> None:
        """Serve it."""
        self._learner = learner

    def serving(self, version: int) -> Policy:
        """Return it."""
        return self._learner

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Let it learn."""
        self._learner.learn(interactions)


class VowpalPlayer:
    """The project's policy, of which frozen versions serve."""

    def __init__(self, args: HybridBanditArgs) -> None:
        """Begin with nothing learned."""
        self._policy = HybridBandit(args)

    def serving(self, version: int) -> Policy:
        """Return a frozen version."""
        return self._policy.frozen(version)

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Let it learn."""
        self._policy.learn(interactions)


class PeerPlayer:
    """VW with an exploration of its own, which learns from whole pages."""

    def __init__(self, name: str, exploration: Sequence[str]) -> None:
        """Begin with nothing learned."""
        self._peer = VowpalPeer(name, exploration)

    def serving(self, version: int) -> Policy:
        """Return it."""
        return self._peer

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Let it learn."""
        self._peer.learn_pages(pages, interactions)


class Tuned(msgspec.Struct, frozen=True):
    """Arguments of the linear bandits that did best on replicates apart."""

    linucb: LinearArgs = LinearArgs()
    lints: LinearArgs = LinearArgs()


def arms(tuned: Tuned) -> Mapping[str, Callable[[], Player]]:
    """Return what makes each arm's player, by name."""
    return {
        UNIFORM: lambda: FixedPlayer(UniformPolicy()),
        DEFAULT: lambda: VowpalPlayer(HybridBanditArgs()),
        EPSILON: lambda: VowpalPlayer(HybridBanditArgs(explorer=Epsilon(0.05))),
        EPSILON_MEAN: lambda: VowpalPlayer(HybridBanditArgs(explorer=Epsilon(0.05), optimism=0.0)),
        EXPLORERS[0]: lambda: VowpalPlayer(HybridBanditArgs(explorer=SquareCB(400.0))),
        EXPLORERS[1]: lambda: VowpalPlayer(HybridBanditArgs(explorer=Softmax(0.02))),
        EXPLORERS[2]: lambda: VowpalPlayer(HybridBanditArgs(explorer=Greedy())),
        LIN_UCB: lambda: linear_player(LIN_UCB, tuned.linucb),
        LIN_THOMPSON: lambda: linear_player(LIN_THOMPSON, tuned.lints),
        PEERS[0]: lambda: PeerPlayer("cover@0", COVER),
        PEERS[1]: lambda: PeerPlayer("rnd@0", RND),
    }


def linear_player(name: str, args: LinearArgs) -> Player:
    """Return a linear bandit's player, `LIN_UCB` or `LIN_THOMPSON` by name."""
    return LearnerPlayer(LinUcb(args) if name == LIN_UCB else LinThompson(args))


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
