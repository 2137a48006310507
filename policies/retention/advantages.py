"""Advantages of cards in lives that are discounted by days, not by cards.

RLlib knows one discount for all steps. Here each card has its own, `info["discount"]`: 1 within a
session, day_discount ** gap at its end, 0 where nobody returns. Generalised advantage estimation
(Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation, 2016,
equation 16) becomes

    delta_t = r_t + discount_t V(x_{t+1}) - V(x_t)
    A_t     = delta_t + lambda discount_t A_{t+1}

with A_{t+1} = 0 after the last card of a fragment. Its mean is Q - V wherever V is right. With
lambda = .99 credit reaches some hundred cards, which is several sessions.

Rejected: a pseudo-step for each day away (a sixth more steps, and a policy asked for actions that
mean nothing).
"""

from dataclasses import dataclass, replace

import numpy as np

from env.vocabulary import Bools, Float32s, Floats, Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """n cards in the order in which fragments of lives were played, one fragment after another.

    Attributes:
        observations: before the card, shape (n, width).
        actions: index into the candidates, shape (n,).
        rewards: shape (n,).
        left: whether the session ended after it, shape (n,).
        discounts: of what follows, shape (n,) in [0, 1].
        after: the observation after the card, shape (n, width).
        is_last: of its fragment, shape (n,).
    """

    observations: Float32s
    actions: Ints
    rewards: Floats
    left: Bools
    discounts: Floats
    after: Float32s
    is_last: Bools

    def __len__(self) -> int:
        """Number of cards."""
        return len(self.actions)

    def expecting(self, discounts: Floats, worth: float) -> "Steps":
        """Return the steps with another worth of sessions' ends, in rewards and in discounts.

        Args:
            discounts: expected at each end, shape (n,); not read within sessions.
            worth: what the reward pays for each unit of it.
        """
        expected = np.where(self.left, discounts, self.discounts)
        return replace(
            self,
            rewards=self.rewards + worth * (expected - self.discounts),
            discounts=expected,
        )


def estimate(targets: Floats, values: Floats, steps: Steps, lambda_: float) -> Floats:
    """Return the advantages of cards, shape (n,).

    Args:
        targets: r_t + discount_t V(x_{t+1}), as it came or as expected, shape (n,).
        values: V(x_t), shape (n,).
        steps: whose discounts and fragments they are.
        lambda_: in [0, 1]; how far an advantage looks beyond the next value.
    """
    deltas = targets - values
    if lambda_ == 0.0:
        return deltas
    carried = np.where(steps.is_last, 0.0, lambda_ * steps.discounts)
    advantages, running = np.empty(len(deltas)), 0.0
    pairs = zip(deltas[::-1].tolist(), carried[::-1].tolist(), strict=True)
    for place, (delta, carry) in enumerate(pairs, start=1):
        running = delta + carry * running
        advantages[-place] = running
    return advantages


def standardise(advantages: Floats) -> Floats:
    """Return advantages of mean 0 and standard deviation 1, or all 0 where they do not vary."""
    centred = advantages - advantages.mean()
    return centred / max(float(centred.std()), 1e-8)
