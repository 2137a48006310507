"""Gains in retention of the same simulated users under one policy over another.

With a_i and b_i the active days of user i, the gain is sum a / sum b - 1. Its error is that of the
mean of (a_i / A - b_i / B) A / B, with A and B the means over users (delta method). Variation that
a user has under both policies cancels; each user is a cluster.
"""

import msgspec
import numpy as np

from env.played_lives import PlayedLives
from env.vocabulary import Floats
from replay.intervals import t_quantile

LEVEL = 0.95


class Gain(msgspec.Struct, frozen=True):
    """A difference between two policies with its 95% interval.

    Attributes:
        value: relative difference, or difference of shares.
    """

    value: float
    low: float
    high: float


def gain_in_days(mine: PlayedLives, theirs: PlayedLives) -> Gain:
    """Return the relative gain in active days of `mine` over `theirs`."""
    a, b = mine.active_days, theirs.active_days
    ratio = a.mean() / b.mean()
    return _gain(float(ratio - 1.0), ratio * (a / a.mean() - b / b.mean()))


def gain_in_d30(mine: PlayedLives, theirs: PlayedLives) -> Gain:
    """Return the difference in the share of users active on day 30."""
    difference = mine.day_30 - theirs.day_30
    return _gain(float(difference.mean()), difference)


def _gain(value: float, influence: Floats) -> Gain:
    n = len(influence)
    half = t_quantile(LEVEL, n - 1) * float(influence.std(ddof=1) / np.sqrt(n))
    return Gain(value, value - half, value + half)
