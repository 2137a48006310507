"""Estimates with standard errors and intervals, clustered by user.

A user's decisions depend on each other, so the user is the independent unit: influences are summed
by user before they are squared. An estimator supplies its value and its influence function; this
module supplies the interval, corrected for skewness. Coverage and rejected alternatives:
`docs/decisions/intervals.md`.
"""

from statistics import NormalDist

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints


def require_shape(shape: tuple[int, ...], **columns: Floats | Ints) -> None:
    """Raise ValueError if a column has another shape, or the shape has no element."""
    if 0 in shape:
        raise ValueError(f"expected columns with at least one row, got shape {shape}")
    for name, column in columns.items():
        if column.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {column.shape}")


def require(holds: Bools, name: str, expected: str, got: Floats | Ints) -> None:
    """Raise ValueError with the first invalid element and its row.

    >>> require(np.array([True, False]), "propensity", "in (0, 1]", np.array([0.5, 0.0]))
    Traceback (most recent call last):
    ValueError: propensity must be in (0, 1], got 0.0 in row 1
    """
    if not holds.all():
        place = tuple(int(i) for i in np.argwhere(~holds)[0])
        where = f"row {place[0]}" + "".join(f", slot {slot}" for slot in place[1:])
        raise ValueError(f"{name} must be {expected}, got {got[place]} in {where}")


def require_propensities(propensity: Floats, target: Floats) -> None:
    """Raise ValueError unless propensities are in (0, 1] and target probabilities in [0, 1]."""
    in_range = (propensity > 0.0) & (propensity <= 1.0)
    require(in_range, "propensity", "in (0, 1]", propensity)
    in_range = (target >= 0.0) & (target <= 1.0 + 1e-9)
    require(in_range, "target probability", "in [0, 1]", target)


LEVEL = 0.95


class Estimate(msgspec.Struct, frozen=True):
    """A value with its interval."""

    estimator: str  # for example "ips"
    value: float  # expected reward of a decision
    se: float  # standard error of the value, clustered by user
    low: float  # lower end of the interval
    high: float  # upper end of the interval
    level: float  # share of such intervals that hold the truth, if the estimator is unbiased
    n: int  # decisions
    n_users: int  # users
    ess: float  # effective sample size of the weights, in decisions
    interval: str = "hall-t by user"  # method of the interval


def clustered_estimate(
    estimator: str,
    value: float,
    influence: Floats,
    user: Ints,
    ess: float,
    level: float = LEVEL,
) -> Estimate:
    """Return the estimate with its t interval, clustered by user and corrected for skewness.

    The ends are value - g(t) se and value - g(-t) se (Hall, "On the Removal of Skewness by
    Transformation", JRSS B 1992): see `hall_quantile`.

    Args:
        influence: shape (n,), effect of each row on the value, times n; sums to 0.
        user: shape (n,), non-negative user code of each row.
        ess: effective sample size, reported as it is.
        level: coverage, in (0, 1).

    Raises:
        ValueError: fewer than two users, or a level out of range.
    """
    n_users = count_users(user)
    sums = _by_user(influence, user)
    se = _standard_error(sums, n_users, len(influence))
    t = t_quantile(level, n_users - 1)
    skewness = mean_skewness(sums)
    return Estimate(
        estimator=estimator,
        value=value,
        se=se,
        low=value - hall_quantile(t, skewness) * se,
        high=value - hall_quantile(-t, skewness) * se,
        level=level,
        n=len(influence),
        n_users=n_users,
        ess=ess,
    )


def clustered_se(influence: Floats, user: Ints) -> float:
    """Return the standard error of a mean whose rows depend on each other within a user.

    sqrt(G / (G - 1) * sum over users (sum of their influences)^2) / n, the linearised variance of a
    ratio of user totals, since the number of a user's decisions is random too (Cochran, Sampling
    Techniques, 1977, section 6.3; Cameron and Miller, "A Practitioner's Guide to Cluster-Robust
    Inference", 2015, section II). Too small if a few users carry most of the decisions or of the
    weight. Arguments and errors are those of `clustered_estimate`.

    >>> clustered_se(np.array([1.0, -1.0, 1.0, -1.0]), np.array([0, 1, 2, 3]))
    0.577...
    """
    return _standard_error(_by_user(influence, user), count_users(user), len(influence))


def mean_skewness(sums: Floats) -> float:
    """Return the skewness of the mean of these units; 0 if nothing varies.

    sum s^3 / (sum s^2)^1.5, between -1 and 1: a unit's skewness over the root of their number.

    >>> round(mean_skewness(np.array([2.0, -1.0, -1.0])), 3)
    0.408
    """
    squares = float(sums @ sums)
    return float((sums**2) @ sums) / squares**1.5 if squares > 0.0 else 0.0


def hall_quantile(t: float, skewness: float) -> float:
    """Return the quantile of a skewed mean's t statistic for the symmetric quantile t.

    (3 / k) ((1 + k (t - k / 6))^(1/3) - 1), k the skewness of the mean: the inverse of Hall's cubic
    transformation, monotone in t. It is capped at twice t, because near k = 1 / |t| the cube root
    is vertical and a few large influences would set the end. The measured skewness of a heavy tail
    is too small, hence so is the correction.

    >>> round(hall_quantile(1.96, 0.0), 2), round(hall_quantile(1.96, 0.2), 2)
    (1.96, 1.72)
    >>> round(hall_quantile(-1.96, 0.2), 2), round(hall_quantile(-1.96, 0.7), 2)
    (-2.34, -3.92)
    """
    if abs(skewness) < 1e-6:
        return t
    quantile = float(3.0 / skewness * (np.cbrt(1.0 + skewness * (t - skewness / 6.0)) - 1.0))
    return float(np.clip(quantile, -2.0 * abs(t), 2.0 * abs(t)))


def count_users(user: Ints) -> int:
    """Return the number of different users in the rows."""
    return int(np.count_nonzero(np.bincount(user)))


def effective_sample_size(weights: Floats) -> float:
    """Return (sum w)^2 / sum w^2, the equally informative number of the target's own decisions.

    Kish, Survey Sampling, 1965; 0 if every weight is 0.

    >>> effective_sample_size(np.array([2.0, 2.0, 0.0, 0.0]))
    2.0
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


def t_quantile(level: float, dof: int) -> float:
    """Return the half width, in standard errors, of a two-sided interval with dof of at least 1.

    Expansion of Student's t in the normal quantile (Abramowitz and Stegun, Handbook of Mathematical
    Functions, 26.7.5): within .001 from 4 degrees of freedom on, too short by a tenth at 1. Raises
    ValueError unless the level is in (0, 1).

    >>> round(t_quantile(0.95, 4), 2), round(t_quantile(0.95, 10_000), 2)
    (2.78, 1.96)
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}")
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return sum(term / float(dof) ** power for power, term in enumerate(terms))


def _by_user(influence: Floats, user: Ints) -> Floats:
    """Return the sums by user, shape (largest code + 1,); 0 for unused codes."""
    return np.asarray(np.bincount(user, weights=influence), dtype=np.float64)


def _standard_error(sums: Floats, n_users: int, n: int) -> float:
    if n_users < 2:
        raise ValueError(
            f"an interval needs decisions of at least 2 users, got {n_users}; "
            "was the log filtered too far?"
        )
    return float(np.sqrt(n_users / (n_users - 1) * float(sums @ sums)) / n)
