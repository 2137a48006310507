"""How much more often the same people came back under one policy than under another.

With a_i and b_i the active days of person i, the gain is sum a / sum b - 1. Its error is that of
the mean of (a_i / A - b_i / B) A / B, with capitals for means over people (delta method): what a
person has in common under both cancels, and a person is a cluster of their own.
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
        value: relative, or of shares.
        low: of the interval.
        high: of the interval.
    """

    value: float
    low: float
    high: float


def gain_in_days(mine: PlayedLives, theirs: PlayedLives) -> Gain:
    """Return how many more active days the same people had, as a share of theirs."""
    a, b = mine.active_days, theirs.active_days
    ratio = a.mean() / b.mean()
    return _gain(float(ratio - 1.0), ratio * (a / a.mean() - b / b.mean()))


def gain_in_d30(mine: PlayedLives, theirs: PlayedLives) -> Gain:
    """Return how many more of the same people were there on day 30, as a share of all."""
    difference = mine.day_30 - theirs.day_30
    return _gain(float(difference.mean()), difference)


def _gain(value: float, influence: Floats) -> Gain:
    n = len(influence)
    half = t_quantile(LEVEL, n - 1) * float(influence.std(ddof=1) / np.sqrt(n))
    return Gain(value, value - half, value + half)
