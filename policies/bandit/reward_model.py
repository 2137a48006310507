"""The hybrid bandit as a reward model for the direct method and doubly robust estimators.

It knows pairs of user and item and each item's own effect, which a ridge on the same features does
not. It reads the decisions once, in order, so its rates must suit the log. Rejected alternatives:
`docs/decisions/hybrid-bandit.md`.
"""

from collections.abc import Sequence

import numpy as np

from env.vocabulary import Context, Floats, Interaction
from policies.bandit.policy import HybridBandit, PoisonedModel
from policies.bandit.settings import HybridBanditArgs


class HybridBanditReward:
    """A regressor of rewards; fitting it at once or learning in steps gives the same model.

    Predictions are clipped to the range of the observed rewards. Implements
    `env.interface.RewardModel`.
    """

    def __init__(self, args: HybridBanditArgs | None = None) -> None:
        """Start with an empty model.

        Args:
            args: without effect of the explorer and the bonus; None: the default ones. `clip_p` 1
                regresses on the logged actions; less weighs by 1 / propensity.
        """
        self._args = args or HybridBanditArgs()
        self._policy = HybridBandit(self._args)
        self._low, self._high = np.inf, -np.inf

    def fit(self, interactions: Sequence[Interaction]) -> None:
        """Fit on these interactions, from scratch.

        Raises:
            ValueError: as `learn`.
        """
        self._policy = HybridBandit(self._args)
        self._low, self._high = np.inf, -np.inf
        self.learn(interactions)

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Update the model by these interactions, in this order, without the refused ones.

        Raises:
            ValueError: one of them made the model unusable (`PoisonedModel`).
        """
        try:
            self._policy.learn(interactions)
        except PoisonedModel as error:
            raise ValueError(
                f"the reward model of Vowpal Wabbit went astray: {error}; lower learning_rate, or "
                "take the ridge"
            ) from error
        rewards = np.array([i.reward for i in interactions], dtype=np.float64)
        rewards = rewards[np.abs(rewards) <= self._args.max_reward]
        if len(rewards):
            self._low = min(self._low, float(rewards.min()))
            self._high = max(self._high, float(rewards.max()))

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,).

        Raises:
            ValueError: nothing was learned.
        """
        if not self._policy.n_events:
            raise ValueError(
                "a reward model needs interactions to fit on, got none that could be learned from "
                f"(refused: {self._policy.refusals or 'none'})"
            )
        return np.clip(self._policy.predict(context), self._low, self._high)
