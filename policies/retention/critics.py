"""Critics estimate the values from which advantages are computed.

There are two: the network's value head, as in PPO, and a model of the policy's own transitions in
which the current policy is evaluated (`FittedCritic`). The fitted values have almost no noise, but
need few and fully observed states.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from env.vocabulary import Float32s, Floats
from policies.retention.advantages import Steps

SCALE_STEP = 0.2
"""Step by which the scale of values follows that of a batch."""


class Network(NamedTuple):
    """The functions of the trained module that critics use."""

    values: Callable[[Float32s], Floats]  # (n, width) -> (n,), in the targets' unit
    pmf: Callable[[Float32s], Floats]  # (n, width) -> (n, K)


class Judgement(NamedTuple):
    """Values of n cards."""

    values: Floats  # (n,) of the observations before them
    targets: Floats  # (n,) r + discount * V(after) of each card, observed or expected


class Critic(Protocol):
    """Values cards; lives as long as the training and is saved with it."""

    def judge(self, steps: Steps, network: Network) -> Judgement:
        """Return the values of cards under the network's policy."""

    def unit(self, targets: Floats) -> Floats:
        """Return the value head's regression targets, in the unit of `Network.values`."""

    def state(self) -> dict[str, Any]:
        """Return the learned state."""

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state of another one."""


class NetworkCritic:
    """The value head, in units of the mean and standard deviation of its targets.

    Values of a whole life in seconds are in the thousands, out of reach for a network that starts
    at 0.
    """

    def __init__(self) -> None:
        self._mean, self._sd, self._is_set = 0.0, 1.0, False

    def judge(self, steps: Steps, network: Network) -> Judgement:
        """Return the values of cards under the network's policy."""
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
        """Load a unit."""
        self._mean, self._sd, self._is_set = state["mean"], state["sd"], state["is_set"]
