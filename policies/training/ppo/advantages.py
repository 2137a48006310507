"""Generalised advantage estimation for lives that are discounted by days.

RLlib has one discount for all steps; here each card has its own: 1 within a session, day_discount
** gap at its end, 0 where the user never returns. Equations and rejected alternatives:
`docs/decisions/ppo-training.md`.
"""

from dataclasses import dataclass, replace

import numpy as np

from env.vocabulary import Bools, Float32s, Floats, Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """n cards in the order of play, one fragment of a life after another."""

    observations: Float32s  # (n, width) before the card
    actions: Ints  # (n,) index into the candidates
    rewards: Floats  # (n,)
    left: Bools  # (n,) whether the session ended after it
    discounts: Floats  # (n,) of the time after it in [0, 1]
    after: Float32s  # (n, width) the observation after the card
    is_last: Bools  # (n,) whether it is its fragment's last

    def __len__(self) -> int:
        return len(self.actions)

    def expecting(self, discounts: Floats, worth: float) -> "Steps":
        """Return the steps with expected discounts at sessions' ends, in rewards and in discounts.

        Args:
            discounts: expected at each end, shape (n,); not read within sessions.
            worth: reward for each unit of discount.
        """
        expected = np.where(self.left, discounts, self.discounts)
        return replace(
            self,
            rewards=self.rewards + worth * (expected - self.discounts),
            discounts=expected,
        )


def estimate(targets: Floats, values: Floats, steps: Steps, lambda_: float) -> Floats:
    """Return the advantages of cards, shape (n,) (Schulman et al., 2016, equation 16).

    Args:
        targets: r_t + discount_t V(x_{t+1}), observed or expected, shape (n,).
        values: V(x_t), shape (n,).
        steps: their discounts and fragments are used.
        lambda_: in [0, 1]; 0 looks no further than the next value.
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
