"""The critic that plans: the policy of now, evaluated in a model of all transitions so far.

What is fitted is `policies.fitted_model`, from what the policy itself was seen to do: no table of
the environment is read. For a state x and the policy pi of now, V and Q solve

    Q(x, a) = r(x, a) + sum_x' P(x' | x, a) V(x'),   V(x) = sum_a pi(a | x) Q(x, a)

with what is discounted inside P, so the advantage of a card is Q(x, a) - V(x): the expectation of
what a sampled return has as its mean, over the cards, exits and gaps that might have come. PPO on
it follows the gradient of the fitted model. Old transitions stay true, as a model of what people do
does not hang on who chose; so nothing is thrown away, unlike with a critic that is fitted to
returns.

Rejected: planning to the optimum and imitating it (then the policy that is trained is a copy of
`policies.planner`, with no more to say); sampled differences with V alone (leaving is one card in
25 and costs minutes of watching, where actions differ by seconds).
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
        """Begin with nothing seen.

        Args:
            grid: of what is observed.
            n_actions: that can be taken.
            return_worth: what the reward pays for each unit of a discount at a session's end.
        """
        self._worth = Worth(card=1.0, comeback=return_worth)
        self._tally = Tally.empty(grid, n_actions)

    def judge(self, steps: Steps, network: Network) -> Judgement:
        """Return what cards are worth on average under the network's policy."""
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
        """Return the targets: no value head learns them."""
        return targets

    def state(self) -> dict[str, Any]:
        """Return the sums of what was seen."""
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
        """Take over the sums of another one."""
        tally = self._tally
        for name in ("cards", "reward", "left", "returned"):
            getattr(tally, name)[:] = state[name]
        tally.moved[:] = 0.0
        tally.moved.ravel()[state["moved_at"]] = state["moved"]
