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

from env.interface import Learner, Policy
from env.vocabulary import Interaction, Page
from policies.baselines import UniformPolicy
from policies.explorers import Epsilon, Greedy, Softmax, SquareCB
from policies.linear import LinearArgs, LinThompson, LinUcb
from policies.vowpal import VowpalPolicy
from policies.vowpal_args import VowpalArgs
from policies.vowpal_peers import COVER, RND, VowpalPeer

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

    def __init__(self, args: VowpalArgs) -> None:
        """Begin with nothing learned."""
        self._policy = VowpalPolicy(args)

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
        DEFAULT: lambda: VowpalPlayer(VowpalArgs()),
        EPSILON: lambda: VowpalPlayer(VowpalArgs(explorer=Epsilon(0.05))),
        EPSILON_MEAN: lambda: VowpalPlayer(VowpalArgs(explorer=Epsilon(0.05), optimism=0.0)),
        EXPLORERS[0]: lambda: VowpalPlayer(VowpalArgs(explorer=SquareCB(400.0))),
        EXPLORERS[1]: lambda: VowpalPlayer(VowpalArgs(explorer=Softmax(0.02))),
        EXPLORERS[2]: lambda: VowpalPlayer(VowpalArgs(explorer=Greedy())),
        LIN_UCB: lambda: linear_player(LIN_UCB, tuned.linucb),
        LIN_THOMPSON: lambda: linear_player(LIN_THOMPSON, tuned.lints),
        PEERS[0]: lambda: PeerPlayer("cover@0", COVER),
        PEERS[1]: lambda: PeerPlayer("rnd@0", RND),
    }


def linear_player(name: str, args: LinearArgs) -> Player:
    """Return a linear bandit's player, `LIN_UCB` or `LIN_THOMPSON` by name."""
    return LearnerPlayer(LinUcb(args) if name == LIN_UCB else LinThompson(args))
