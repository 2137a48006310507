"""Ratios of sums over rows: the form that estimators of single decisions share.

Inverse propensity scoring is sum(c w r) / sum(c), its self-normalised sibling sum(c w r) /
sum(c w), the doubly robust ones a sum of two such. Said once, the form gives the value, each
row's influence (so the clustered interval) and the sums by user that a bootstrap resamples;
an estimator only names its numerators and denominators.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats, Ints
from replay.columns import Columns
from replay.intervals import LEVEL, Estimate, clustered_estimate


class Ratio(NamedTuple):
    """sum(numerator) / sum(denominator); the denominator's sum is above 0."""

    numerator: Floats  # (n,)
    denominator: Floats  # (n,)


def mean_ratio(columns: Columns, terms: Floats) -> Ratio:
    """Return the mean of terms over decisions, shape (n,), as a ratio of sums."""
    return Ratio(columns.per_row(terms), columns.row_weights)


def weighted_ratio(estimator: str, columns: Columns, terms: Floats) -> Ratio:
    """Return the mean of terms under the target, self-normalised, as a ratio of sums.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log; names the estimator.
    """
    weights = columns.per_row(columns.weights)
    need_agreement(estimator, weights)
    return Ratio(weights * terms, weights)


def need_agreement(estimator: str, weights: Floats) -> None:
    """Raise ValueError if all weights are 0."""
    if float(weights.max()) <= 0.0:
        raise ValueError(
            f"{estimator} needs a logged action that the target could take, got none in "
            f"{len(weights)} decisions; the log cannot evaluate this policy"
        )


def value_of(ratios: Sequence[Ratio]) -> float:
    """Return the sum of the ratios."""
    return float(sum(r.numerator.sum() / r.denominator.sum() for r in ratios))


def influence_of(ratios: Sequence[Ratio]) -> Floats:
    """Return by how much each row moves the sum of the ratios, times n, shape (n,); sums to 0.

    n (numerator - value denominator) / sum(denominator), summed over the ratios: the linear part
    of a ratio of means (Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992,
    section 5.6). Of order 1/n wrong, more where a denominator is a few large weights.
    """
    influence = np.zeros(len(ratios[0].numerator))
    for numerator, denominator in ratios:
        total = float(denominator.sum())
        value = float(numerator.sum()) / total
        influence += (numerator - value * denominator) * (len(influence) / total)
    return influence


def ratio_estimate(
    estimator: str, ratios: Sequence[Ratio], user: Ints, ess: float, level: float = LEVEL
) -> Estimate:
    """Return the sum of the ratios with its t interval, clustered by user.

    Args:
        estimator: its name.
        ratios: of n rows each.
        user: shape (n,), code of each row's user.
        ess: effective sample size.
        level: in (0, 1).

    Raises:
        ValueError: fewer than two users, or a level out of range.
    """
    return clustered_estimate(estimator, value_of(ratios), influence_of(ratios), user, ess, level)
