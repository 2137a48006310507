"""SLOPE: chooses the parameter of an estimator that trades bias for variance, from the log alone.

Su, Srinath and Krishnamurthy, "Adaptive Estimator Selection for Off-Policy Evaluation", ICML
2020, after Lepski: go from the unbiased end of an ordered grid to the calm end, for as long as an
estimate agrees with all before it within their noise. While it does, its bias cannot be told
from noise, and the calmest is best; where it does not, the bias shows.

It needs no bound on the bias, and none on the weights. It assumes that bias grows and noise
shrinks along the grid, and that noise is seen: with a handful of rewards the unbiased end looks
surer than it is. Agreement is judged by the standard error of the difference, not by whether two
intervals meet as in the paper: all estimates are made of the same decisions, so that most of
their noise is in both, and bias was seen at half the size (`nextswipe bench default`: least
score .143 against .164). Rejected: minimising a plug-in of the squared error, as the inventors of
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

    Clustered by person; in a log of more than 65,536 people by groups of them, which are as
    independent of each other, so that memory does not grow with the log.

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
    errors = np.empty((len(grid), len(grid)))
    for i, of_one in enumerate(sums):
        errors[i] = np.sqrt(((sums - of_one) ** 2).sum(axis=1)) / len(columns)
    return values, errors


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
    covers at least as often as that one, and is no narrower. The standard error is the value's own.
    """
    return msgspec.structs.replace(
        chosen,
        low=min(unbiased.low, chosen.value),
        high=max(unbiased.high, chosen.value),
        interval=f"{unbiased.interval}, of dr",
    )
