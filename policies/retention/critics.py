"""Whose values advantages are made from.

A critic is told of each batch of cards and says what each was worth. Two are here: the value head
of the network, as in PPO, and a model of the policy's own transitions in which the policy of now is
evaluated (`policies.retention.fitted`). The second knows what a card leads to on average, so what
it says has next to no noise; it needs states that are few and seen whole.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from env.vocabulary import Float32s, Floats
from policies.retention.advantages import Steps

SCALE_STEP = 0.2
"""By which the scale of values follows that of a batch."""


class Network(NamedTuple):
    """What critics ask of the module that is trained.

    Attributes:
        values: of observations (n, width), shape (n,), in the units of the critic's targets.
        pmf: over the candidates, shape (n, K).
    """

    values: Callable[[Float32s], Floats]
    pmf: Callable[[Float32s], Floats]


class Judgement(NamedTuple):
    """What n cards were worth.

    Attributes:
        values: of the observations before them, shape (n,).
        targets: of the cards with what follows: r + discount * V(after), as it came or as expected.
    """

    values: Floats
    targets: Floats


class Critic(Protocol):
    """Judges cards; lives as long as the training and is saved with it."""

    def judge(self, steps: Steps, network: Network) -> Judgement:
        """Return what cards were worth under the network's policy."""

    def unit(self, targets: Floats) -> Floats:
        """Return what the network's value head learns, in the unit that `Network.values` is in."""

    def state(self) -> dict[str, Any]:
        """Return what was learned."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of another one."""


class NetworkCritic:
    """The value head, in units of the mean and standard deviation of its targets.

    Values in seconds of a whole life are in the thousands, which a network that starts at 0 does
    not reach in the time it has.
    """

    def __init__(self) -> None:
        """Begin with values of mean 0 and standard deviation 1."""
        self._mean, self._sd, self._is_set = 0.0, 1.0, False

    def judge(self, steps: Steps, network: Network) -> Judgement:
        """Return what cards were worth under the network's policy."""
        values = self._mean + self._sd * network.values(steps.observations)
        following = np.append(values[1:], 0.0)
        ends = np.flatnonzero(steps.is_last)
        following[ends] = self._mean + self._sd * network.values(steps.after[ends])
        return Judgement(values, steps.rewards + steps.discounts * following)

    def unit(self, targets: Floats) -> Floats:
        """Return targets in the unit of the value head, which follows them slowly."""
        step = SCALE_STEP if self._is_set else 1.0
        self._mean += step * (float(targets.mean()) - self._mean)
        self._sd += step * (max(float(targets.std()), 1e-6) - self._sd)
        self._is_set = True
        return (targets - self._mean) / self._sd

    def state(self) -> dict[str, Any]:
        """Return the unit."""
        return {"mean": self._mean, "sd": self._sd, "is_set": self._is_set}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a unit."""
        self._mean, self._sd, self._is_set = state["mean"], state["sd"], state["is_set"]
