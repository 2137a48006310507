"""Vowpal Wabbit as a reward model, for the direct method and the doubly robust estimators.

The learner of `policies.vowpal` without explorer and optimism: it knows pairs of person and item,
and each item by itself, of which a ridge on the same features knows nothing; in return it goes over
the decisions once, in their order, and its rates have to suit the log. A doubly robust estimate is
unbiased with either; which is less noisy depends on the log.

Rejected: the policy that is being evaluated as its own reward model. It has learned from the people
whom it would score, so its errors are not independent of the rewards that they correct.
"""

from collections.abc import Sequence

import numpy as np

from env.vocabulary import Context, Floats, Interaction
from policies.vowpal import PoisonedModel, VowpalPolicy
from policies.vowpal_args import VowpalArgs


class VowpalReward:
    """A regressor of rewards that can be fitted at once or learn as it goes: both say the same.

    Predictions are kept within the rewards that were seen. Implements `env.interface.RewardModel`.
    """

    def __init__(self, args: VowpalArgs | None = None) -> None:
        """Start with an empty model; of the arguments (None: the default ones) no explorer counts.

        Args:
            args: `clip_p` 1 regresses on what the log showed; less weighs by 1 / propensity.
        """
        self._args = args or VowpalArgs()
        self._policy = VowpalPolicy(self._args)
        self._low, self._high = np.inf, -np.inf

    def fit(self, interactions: Sequence[Interaction]) -> None:
        """Fit on these interactions, from scratch.

        Raises:
            ValueError: as `learn`.
        """
        self._policy = VowpalPolicy(self._args)
        self._low, self._high = np.inf, -np.inf
        self.learn(interactions)

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Move the model by these interactions, in this order.

        Those that `VowpalArgs.refusals` names are left out.

        Raises:
            ValueError: after one of them the model is of no use (`PoisonedModel`).
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
