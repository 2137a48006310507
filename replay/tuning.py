"""SLOPE: chooses the parameter of an estimator that trades bias for variance, from the log alone.

Su, Srinath and Krishnamurthy, "Adaptive Estimator Selection for Off-Policy Evaluation", ICML
2020, after Lepski: go from the unbiased end of an ordered grid to the calm end, for as long as an
estimate agrees with all before it within their noise. While it does, its bias cannot be told
from noise, and the calmest is best; where it does not, the bias shows.

It needs no bound on the bias, and none on the weights. It assumes that bias grows and noise
shrinks along the grid, and that noise is seen. Unlike in the paper, agreement is judged by the
standard error of the difference and not by whether two intervals meet: all estimates are made of
the same decisions, so most of their noise is in both, and bias is seen at half the size. And that
error is at least what it would be if every decision's reward were as noisy as the mean one: where
the few decisions of large weight happened to have no reward, the log looks surer than it is.
Each made the score of `nextswipe bench default` better.

Rejected: minimising a plug-in of the squared error, as the inventors of
DRos do: with a bound as its bias part it always chose no shrinkage on real logs.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from env.vocabulary import Floats
from replay.columns import Columns, Predictions
from replay.intervals import LEVEL, Estimate
from replay.ratios import influence_of, mean_ratio, value_of
from replay.shrinkage import dros, shrunk, switch_dr, switched

TAUS = (np.inf, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.0)
"""Of Switch-DR, from dr to dm. Weights have mean 1, so that the grid suits every log."""
LAMS = (np.inf, 1e5, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.0)
"""Of DRos, from dr to dm: sqrt(lam) is the weight that is halved."""
WIDTH = 1.5
"""How many standard errors of their difference two estimates that agree may differ by."""
_GROUPS = 1 << 16

Reweigh = Callable[[Floats, float], Floats]
"""From weights, (n,), and a parameter to shrunken weights, (n,)."""


def tuned_switch_dr(
    columns: Columns, predictions: Predictions, level: float = LEVEL, *, width: float = WIDTH
) -> Estimate:
    """Return Switch-DR with the tau that SLOPE chooses from `TAUS`.

    Its interval is that of dr, extended to hold the value: see `extended`.

    Args:
        columns: of a log.
        predictions: of a model that was not fitted on them.
        level: of the interval, in (0, 1).
        width: see `WIDTH`.
    """
    tau = TAUS[slope(*compared(switched, TAUS, columns, predictions), width)]
    chosen = switch_dr(columns, predictions, tau, level)
    return extended(chosen, switch_dr(columns, predictions, np.inf, level))


def tuned_dros(
    columns: Columns, predictions: Predictions, level: float = LEVEL, *, width: float = WIDTH
) -> Estimate:
    """Return DRos with the lam that SLOPE chooses from `LAMS`.

    Its interval is that of dr, extended to hold the value: see `extended`.

    Args:
        columns: of a log.
        predictions: of a model that was not fitted on them.
        level: of the interval, in (0, 1).
        width: see `WIDTH`.
    """
    lam = LAMS[slope(*compared(shrunk, LAMS, columns, predictions), width)]
    chosen = dros(columns, predictions, lam, level)
    return extended(chosen, dros(columns, predictions, np.inf, level))


def compared(
    reweigh: Reweigh, grid: Sequence[float], columns: Columns, predictions: Predictions
) -> tuple[Floats, Floats]:
    """Return the estimates along a grid, (m,), and the standard errors of differences, (m, m).

    Of two: that from the rows' influences, clustered by user (in a log of more than 65,536 by
    groups of them, which are as independent of each other, so that memory does not grow with
    the log); and sqrt(sum (difference of weights)^2 mean (r - q)^2) / n, if that is larger.

    Args:
        reweigh: the estimator's weights.
        grid: m parameters, from the unbiased end to the calm end.
        columns: of a log.
        predictions: of a model that was not fitted on them.
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
    reweigh: Reweigh, grid: Sequence[float], columns: Columns, predictions: Predictions
) -> Floats:
    """Return the differences' standard errors, if all rewards were as noisy as the mean, (m, m)."""
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
    """Return the last place up to which all values agree with all before them.

    Args:
        values: shape (m,), from the unbiased end of the grid to the calm end.
        errors: shape (m, m), standard errors of the values' differences.
        width: standard errors by which values that agree may differ, at least 0.

    Raises:
        ValueError: no value.

    >>> slope(np.array([1.0, 1.4, 1.7, 4.0]), np.full((4, 4), 0.5))
    2
    """
    if len(values) == 0:
        raise ValueError("a grid needs at least one parameter, got none")
    apart = np.abs(values[:, np.newaxis] - values) > width * errors
    disagrees = np.tril(apart, k=-1).any(axis=1)
    return int(np.argmax(disagrees)) - 1 if disagrees.any() else len(values) - 1


def extended(chosen: Estimate, unbiased: Estimate) -> Estimate:
    """Return the chosen estimate with an interval that stays honest.

    Its own leaves out its bias, of which is known only that it does not stand out of the noise.
    So the interval is that of the grid's unbiased end, extended where needed to hold the value: it
    covers at least as often as that one, and is no narrower. The standard error is that end's too:
    the value's own, often next to nothing, leaves out the bias as its interval would.
    """
    return msgspec.structs.replace(
        chosen,
        se=unbiased.se,
        low=min(unbiased.low, chosen.value),
        high=max(unbiased.high, chosen.value),
        interval=f"{unbiased.interval}, of dr",
    )
