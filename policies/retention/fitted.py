"""The fitted critic evaluates the current policy in a model of all transitions so far.

The model is fitted to the policy's own transitions, so no table of the environment is read. PPO on
its advantages follows the gradient of the fitted model. Equations and rejected alternatives:
`docs/decisions/fitted-model.md`.
"""

from typing import Any

import numpy as np

from env.vocabulary import Floats
from policies.fitted_model import FittedModel, Worth
from policies.retention.advantages import Steps
from policies.retention.critics import Judgement, Network
from policies.tally import Grid, Tally, Transitions


class FittedCritic:
    """Values of the network's policy in a model of its transitions."""

    def __init__(self, grid: Grid, n_actions: int, return_worth: float) -> None:
        """Start without transitions.

        Args:
            return_worth: reward for each unit of discount at a session's end.
        """
        self._worth = Worth(card=1.0, comeback=return_worth)
        self._tally = Tally.empty(grid, n_actions)

    def judge(self, steps: Steps, network: Network) -> Judgement:
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
        return Judgement(values.state[state], values.action[state, steps.actions])

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
