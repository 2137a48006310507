"""Ratios of what the same users earned under two policies, with errors by user.

With a_i and b_i what user i earned, n_i and m_i the cards they saw, the ratio of the means per
card is R = (sum a / sum n) / (sum b / sum m). Its error is that of the mean of its influence,
R * ((a_i / A - n_i / N) - (b_i / B - m_i / M)) with capitals for means over users (delta method;
Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018), so what a user
has in common under both cancels. Rejected: errors of both sides added up as if they were strangers.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats
from tests.studies.served_world.cards import Shown


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of means with its standard error."""

    value: float
    se: float


def ratio_of(mine: Shown, theirs: Shown) -> Ratio:
    """Return how many times as much a card earned, of users who are the same by their places."""
    n = int(max(mine.place.max(), theirs.place.max())) + 1
    return ratio_of_sums(*_sums(mine, n), *_sums(theirs, n))


def ratio_of_sums(a: Floats, n_a: Floats, b: Floats, n_b: Floats) -> Ratio:
    """Return how many times as much a card earned under the first policy as under the second.

    Args:
        a: what each user earned under the first, shape (n,).
        n_a: cards that they saw, shape (n,); who saw none under either policy does not count.
        b: what the same users earned under the second, shape (n,).
        n_b: cards that they saw, shape (n,).
    """
    there = (n_a > 0) | (n_b > 0)
    value = (a.sum() / n_a.sum()) / (b.sum() / n_b.sum())
    relative = [part[there] / part[there].mean() for part in (a, n_a, b, n_b)]
    influence = value * (relative[0] - relative[1] - relative[2] + relative[3])
    return Ratio(float(value), float(influence.std(ddof=1) / np.sqrt(len(influence))))


def _sums(shown: Shown, n: int) -> tuple[Floats, Floats]:
    """Return what was earned in each place, and cards, shapes (n,)."""
    earned: Floats = np.zeros(n)
    np.add.at(earned, shown.place, shown.expected)
    return earned, np.bincount(shown.place, minlength=n).astype(np.float64)
