"""Ratios of sums over rows, the common form of the single-decision estimators.

Inverse propensity scoring is sum(c w r) / sum(c), self-normalised sum(c w r) / sum(c w), and doubly
robust estimators are sums of such ratios. The form yields the value, each row's influence for the
clustered interval, and the sums by user that a bootstrap resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.columns import Columns
from replay.estimators.intervals import LEVEL, Estimate, clustered_estimate


class SumRatio(NamedTuple):
    """sum(numerator) / sum(denominator); the denominator's sum is above 0."""

    numerator: Floats  # (n,)
    denominator: Floats  # (n,)


def mean_ratio(columns: Columns, terms: Floats) -> SumRatio:
    """Return the mean of terms over decisions, shape (n,), as a ratio of sums."""
    return SumRatio(columns.per_row(terms), columns.row_weights)


def weighted_ratio(estimator: str, columns: Columns, terms: Floats) -> SumRatio:
    """Return the self-normalised mean of terms under the target, as a ratio of sums.

    Raises:
        ValueError: all weights are 0, so the target never agrees with the log.
    """
    weights = columns.per_row(columns.weights)
    need_agreement(estimator, weights)
    return SumRatio(weights * terms, weights)


def need_agreement(estimator: str, weights: Floats) -> None:
    """Raise ValueError if all weights are 0."""
    if float(weights.max()) <= 0.0:
        raise ValueError(
            f"{estimator} needs a logged action that the target could take, got none in "
            f"{len(weights)} decisions; the log cannot evaluate this policy"
        )


def value_of(ratios: Sequence[SumRatio]) -> float:
    """Return the sum of the ratios."""
    return float(sum(r.numerator.sum() / r.denominator.sum() for r in ratios))


def influence_of(ratios: Sequence[SumRatio]) -> Floats:
    """Return each row's effect on the sum of the ratios, times n, shape (n,); sums to 0.

    n (numerator - value denominator) / sum(denominator), summed over the ratios: the linear part of
    a ratio of means (Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section
    5.6). The error is of order 1/n, and larger if few large weights make up a denominator.
    """
    influence = np.zeros(len(ratios[0].numerator))
    for numerator, denominator in ratios:
        total = float(denominator.sum())
        value = float(numerator.sum()) / total
        influence += (numerator - value * denominator) * (len(influence) / total)
    return influence


def ratio_estimate(
    estimator: str, ratios: Sequence[SumRatio], user: Ints, ess: float, level: float = LEVEL
) -> Estimate:
    """Return the sum of the ratios with its t interval; arguments as in `clustered_estimate`."""
    return clustered_estimate(estimator, value_of(ratios), influence_of(ratios), user, ess, level)
