"""Critics estimate the values from which advantages are computed.

There are two: the network's value head, as in PPO, and a model of the policy's own transitions in
which the current policy is evaluated (`FittedCritic`). The fitted values have almost no noise, but
need few and fully observed states.

See also `docs/decisions/fitted-model.md`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from env.vocabulary import Float32s, Floats
from policies.training.fitted_model import (
    FittedModel,
    Grid,
    ObjectiveWeights,
    Transitions,
    TransitionSums,
)
from policies.training.ppo.advantages import Steps

SCALE_STEP = 0.2
"""Step by which the scale of values follows that of a batch."""


class NetworkFunctions(NamedTuple):
    """The functions of the trained module that critics use."""

    values: Callable[[Float32s], Floats]  # (n, width) -> (n,), in the targets' unit
    pmf: Callable[[Float32s], Floats]  # (n, width) -> (n, K)


class CardValues(NamedTuple):
    """Values of n cards."""

    values: Floats  # (n,) of the observations before them
    targets: Floats  # (n,) r + discount * V(after) of each card, observed or expected


class Critic(Protocol):
    """Values cards; lives as long as the training and is saved with it."""

    def judge(self, steps: Steps, network: NetworkFunctions) -> CardValues:
        """Return the values of cards under the network's policy."""

    def unit(self, targets: Floats) -> Floats:
        """Return the value head's regression targets, in the unit of `NetworkFunctions.values`."""

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

    def judge(self, steps: Steps, network: NetworkFunctions) -> CardValues:
        """Return the values of cards under the network's policy."""
        values = self._mean + self._sd * network.values(steps.observations)
        following = np.append(values[1:], 0.0)
        ends = np.flatnonzero(steps.is_last)
        following[ends] = self._mean + self._sd * network.values(steps.after[ends])
        return CardValues(values, steps.rewards + steps.discounts * following)

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


class FittedCritic:
    """Values of the network's policy in a model of its transitions."""

    def __init__(self, grid: Grid, n_actions: int, return_worth: float) -> None:
        """Start without transitions.

        Args:
            return_worth: reward for each unit of discount at a session's end.
        """
        self._worth = ObjectiveWeights(card=1.0, comeback=return_worth)
        self._tally = TransitionSums.empty(grid, n_actions)

    def judge(self, steps: Steps, network: NetworkFunctions) -> CardValues:
        """Return the expected values of cards under the network's policy."""
        grid = self._tally.grid
        state = grid.states(steps.observations)
        paid = self._worth.comeback * np.where(steps.left, steps.discounts, 0.0)
        after = grid.states(steps.after)
        card = steps.rewards - paid
        self._tally.add(Transitions(state, steps.actions, card, steps.left, steps.discounts, after))
        values = FittedModel.fit(self._tally).evaluate(
            network.pmf(grid.observations()), self._worth
        )
        return CardValues(values.state[state], values.action[state, steps.actions])

    def unit(self, targets: Floats) -> Floats:
        """Return the targets unchanged: no value head learns them."""
        return targets

    def state(self) -> dict[str, Any]:
        """Return the sums of transitions."""
        tally = self._tally
        sparse = np.flatnonzero(tally.moved)
        return {
            "cards": tally.cards,
            "reward": tally.reward,
            "left": tally.left,
            "moved_at": sparse,
            "moved": tally.moved.ravel()[sparse],
            "returned": tally.returned,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load the sums of another one."""
        tally = self._tally
        for name in ("cards", "reward", "left", "returned"):
            getattr(tally, name)[:] = state[name]
        tally.moved[:] = 0.0
        tally.moved.ravel()[state["moved_at"]] = state["moved"]
