"""SLOPE: chooses a bias-variance parameter of an estimator from the log alone.

It walks an ordered grid from the unbiased end to the stable end while each estimate agrees with all
before it within noise (Su, Srinath and Krishnamurthy, "Adaptive Estimator Selection for Off-Policy
Evaluation", ICML 2020). Assumptions, differences from the paper and rejected alternatives:
`docs/decisions/default-estimator.md`.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.intervals import LEVEL, Estimate
from replay.estimators.ratios import influence_of, mean_ratio, value_of
from replay.estimators.shrinkage import dros, shrunk, switch_dr, switched

TAUS = (np.inf, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.0)
"""Grid of Switch-DR, from dr to dm. Weights have mean 1, so one grid suits every log."""

LAMS = (np.inf, 1e5, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.0)
"""Grid of DRos, from dr to dm; a weight of sqrt(lam) is halved."""

WIDTH = 1.5
"""Largest difference of two agreeing estimates, in standard errors of the difference."""

_GROUPS = 1 << 16
Reweigh = Callable[[Floats, float], Floats]
"""Maps weights, (n,), and a parameter to shrunken weights, (n,)."""


def tuned_switch_dr(
    columns: Columns, predictions: RewardPredictions, level: float = LEVEL, *, width: float = WIDTH
) -> Estimate:
    """Return Switch-DR with the tau that SLOPE chooses from `TAUS` by `width`, see `WIDTH`.

    The interval is that of dr, extended to hold the value: see `extended`.
    """
    tau = TAUS[slope(*compared(switched, TAUS, columns, predictions), width)]
    chosen = switch_dr(columns, predictions, tau, level)
    return extended(chosen, switch_dr(columns, predictions, np.inf, level))


def tuned_dros(
    columns: Columns, predictions: RewardPredictions, level: float = LEVEL, *, width: float = WIDTH
) -> Estimate:
    """Return DRos with the lam that SLOPE chooses from `LAMS`; otherwise as `tuned_switch_dr`."""
    lam = LAMS[slope(*compared(shrunk, LAMS, columns, predictions), width)]
    chosen = dros(columns, predictions, lam, level)
    return extended(chosen, dros(columns, predictions, np.inf, level))


def compared(
    reweigh: Reweigh, grid: Sequence[float], columns: Columns, predictions: RewardPredictions
) -> tuple[Floats, Floats]:
    """Return estimates along a grid, (m,), and standard errors of their differences, (m, m).

    Each error is the larger of two: one from the rows' influences, clustered by user (by groups of
    users in a log of more than 65,536, so that memory is bounded), and sqrt(sum (difference of
    weights)^2 mean (r - q)^2) / n.

    Args:
        grid: m parameters, from the unbiased end to the stable end.
    """
    weights, group = columns.weights, columns.user % _GROUPS
    values, sums = np.empty(len(grid)), np.empty((len(grid), int(group.max()) + 1))
    for i, parameter in enumerate(grid):
        ratio = mean_ratio(columns, predictions.corrected(columns, reweigh(weights, parameter)))
        values[i] = value_of((ratio,))
        sums[i] = np.bincount(group, weights=influence_of((ratio,)))
    seen = np.array([np.sqrt(((sums - of_one) ** 2).sum(axis=1)) for of_one in sums])
    return values, np.maximum(
        seen / len(columns), _even_errors(reweigh, grid, columns, predictions)
    )


def _even_errors(
    reweigh: Reweigh, grid: Sequence[float], columns: Columns, predictions: RewardPredictions
) -> Floats:
    """Return the differences' standard errors if every reward had the mean noise, (m, m)."""
    row_weights, products = columns.row_weights, np.zeros((len(grid), len(grid)))
    for start in range(0, len(columns), _GROUPS):
        block = slice(start, start + _GROUPS)
        weights = columns.target[block] / columns.propensity[block]
        shrunken = np.stack([row_weights[block] * reweigh(weights, p) for p in grid])
        products += shrunken @ shrunken.T
    squares = np.diag(products)
    apart = np.maximum(squares + squares[:, np.newaxis] - 2.0 * products, 0.0)
    residuals = columns.per_row((columns.reward - predictions.chosen) ** 2)
    noise = float(residuals.sum() / row_weights.sum())
    return np.asarray(np.sqrt(apart * noise) / row_weights.sum())


def slope(values: Floats, errors: Floats, width: float = WIDTH) -> int:
    """Return the last index up to which all values agree with all before them.

    Args:
        values: shape (m,), at least one, from the unbiased end of the grid to the stable end.
        errors: shape (m, m), standard errors of the values' differences.
        width: standard errors by which agreeing values may differ, at least 0.

    >>> slope(np.array([1.0, 1.4, 1.7, 4.0]), np.full((4, 4), 0.5))
    2
    """
    if len(values) == 0:
        raise ValueError("a grid needs at least one parameter, got none")
    apart = np.abs(values[:, np.newaxis] - values) > width * errors
    disagrees = np.tril(apart, k=-1).any(axis=1)
    return int(np.argmax(disagrees)) - 1 if disagrees.any() else len(values) - 1


def extended(chosen: Estimate, unbiased: Estimate) -> Estimate:
    """Return the chosen estimate with the interval of the unbiased one, extended to hold it.

    The chosen estimate's own interval and standard error ignore its bias, of which is known only
    that it does not exceed the noise. The unbiased end's interval covers at least as often, and its
    standard error is reported as well.
    """
    return msgspec.structs.replace(
        chosen,
        se=unbiased.se,
        low=min(unbiased.low, chosen.value),
        high=max(unbiased.high, chosen.value),
        interval=f"{unbiased.interval}, of dr",
    )
