"""Differences of two ratios of user totals, with intervals that may be looked at any time.

The user is the unit, because one user's cards depend on each other. The variance is that of the
delta method, and the interval a normal mixture over all looks: it holds the truth at all times at
once. Formulas, sources and rejected alternatives: `docs/decisions/experiment-readout.md`.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from replay.estimators.intervals import LEVEL, clustered_se
from replay.estimators.ratios import SumRatio, influence_of, value_of

INTERVAL = "always valid, by user"
"""Name of the method, as the outputs say it."""


class UserRatio(NamedTuple):
    """The ratio of two sums over users, with its standard error."""

    value: float
    se: float


class Difference(msgspec.Struct, frozen=True):
    """A difference of two independent ratios, with its interval."""

    value: float
    se: float  # clustered by user
    low: float
    high: float


def ratio_of_users(totals: SumRatio) -> UserRatio | None:
    """Return the ratio of sums over users, such as reward a card; None if it is not known.

    Its standard error is that of the delta method with one row a user (Deng, Knoblich and Lu,
    "Applying the Delta Method in Metric Analytics", KDD 2018, section 3): unbiased to order 1/n,
    too small with few users or where a few users hold most of the denominator.

    Args:
        totals: numerator and denominator of each user, shape (n,); denominators are at least 0.
    """
    n = len(totals.denominator)
    if n < 2 or float(totals.denominator.sum()) <= 0.0:
        return None
    return UserRatio(value_of([totals]), clustered_se(influence_of([totals]), np.arange(n)))


def difference(
    treated: UserRatio, control: UserRatio, scale: float, level: float = LEVEL
) -> Difference:
    """Return treated minus control with its always-valid interval.

    Args:
        treated: of other users than the control's.
        control: what it is compared to.
        scale: size of the differences that the interval is tightest for; above 0.
        level: share of experiments in which the interval holds at all looks, in (0, 1).
    """
    value = treated.value - control.value
    se = math.hypot(treated.se, control.se)
    half = half_width(se, scale, level)
    return Difference(value, se, value - half, value + half)


def half_width(se: float, scale: float, level: float = LEVEL) -> float:
    """Return half of an always-valid interval around an estimate.

    se sqrt((1 + s) (log(1 + 1 / s) + 2 log(1 / alpha))) with s = (se / scale)^2 and alpha = 1 -
    level: the normal mixture boundary over the information 1 / se^2 (Robbins, "Statistical Methods
    Related to the Law of the Iterated Logarithm", Annals of Mathematical Statistics 1970, in the
    two-sided form of Howard et al. 2021). It is 3 to 4 standard errors at 95%, for which a
    single look needs 1.96. Exact for sums of independent normal steps, else in the limit
    (Waudby-Smith et al., "Time-uniform central limit theory", Annals of Statistics 2024).

    Raises:
        ValueError: the scale is not above 0, or the level not in (0, 1).

    >>> round(half_width(1.0, 2.8), 2), round(half_width(1.0, 0.5), 2)
    (3.04, 5.57)
    """
    if not scale > 0.0 or not 0.0 < level < 1.0:
        raise ValueError(f"expected a scale above 0 and a level in (0, 1), got {scale}, {level}")
    if se <= 0.0:
        return 0.0
    s = (se / scale) ** 2
    return se * math.sqrt((1.0 + s) * (math.log1p(1.0 / s) + 2.0 * math.log(1.0 / (1.0 - level))))


def se_for(half: float, scale: float, level: float = LEVEL) -> float:
    """Return the standard error at which an always-valid interval has this half width.

    Raises:
        ValueError: as `half_width`, or the half width is not above 0.

    >>> round(half_width(se_for(0.1, 0.2), 0.2), 6)
    0.1
    """
    if not half > 0.0:
        raise ValueError(f"expected a half width above 0, got {half}")
    low, high = 0.0, half  # an interval is wider than its standard error
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if half_width(middle, scale, level) < half else (low, middle)
    return high
