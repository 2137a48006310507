"""Trust-region mixing keeps a trained policy close enough to the log's to be evaluated.

    pi_share(i) ~ pi_log(i) exp(share * offset_i)

The share is the largest within a budget of KL(pi_log, pi_share), in nats a card. Rejected
alternatives: `docs/decisions/offline-training.md`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from env.pages.lives import Lives
from env.vocabulary import Floats

Scores = Callable[[Lives], Floats]
"""Logits of the candidates of lives' pages, shape (p, K)."""

LEAST_SHARE = 1e-3
LEAST_WEIGHT = 1e-12
_ROUNDS = 10


def kl_from_log(lives: Lives, pmfs: Floats) -> float:
    """Return the log's own estimate of KL(pi_log, pi) a card, which can be below 0.

    Args:
        pmfs: of the policy at each step, shape (n, K).
    """
    weights = lives.of_chosen(pmfs) / lives.propensity
    return -float(np.log(np.maximum(weights, LEAST_WEIGHT)).mean())


def choose_share(lives: Sequence[Lives], prior: Scores, offsets: Scores, budget: float) -> float:
    """Return the largest share of the offsets within a budget.

    Args:
        lives: of a log, in shards.
        prior: logits of the log's own policy.
        offsets: logit offsets of the unconstrained policy.
        budget: of KL, nats a card, above 0.

    Returns:
        In [LEAST_SHARE, 1], to within a factor of 1.01; 0 where even LEAST_SHARE exceeds it.
    """
    scores = [(prior(part), offsets(part)) for part in lives]
    sizes = [len(part) for part in lives]

    def is_near(share: float) -> bool:
        found = [
            kl_from_log(part, part.pmfs(first + share * offset))
            for part, (first, offset) in zip(lives, scores, strict=True)
        ]
        return float(np.average(found, weights=sizes)) <= budget

    if is_near(1.0):
        return 1.0
    if not is_near(LEAST_SHARE):
        return 0.0
    low, high = np.log(LEAST_SHARE), 0.0
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_near(float(np.exp(middle))) else (low, middle)
    return float(np.exp(low))
