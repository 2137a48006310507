"""The bootstrap by user: intervals for sums of ratios without a variance formula.

A resample draws users with replacement, each with all of their decisions, by independent Poisson(1)
counts. It serves as a check on the influence-based intervals. Cost and coverage:
`docs/decisions/intervals.md`.
"""

from collections.abc import Sequence

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.intervals import LEVEL, Estimate, count_users
from replay.estimators.ratios import SumRatio, value_of

SAMPLES = 1000
_BLOCK = 1 << 22


def bootstrap(
    estimator: str,
    ratios: Sequence[SumRatio],
    user: Ints,
    ess: float,
    level: float = LEVEL,
    *,
    seed: int,
    n_samples: int = SAMPLES,
) -> Estimate:
    """Return the sum of the ratios with the percentile interval of its resamples by user.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979. The
    standard error is the resamples' standard deviation. A resample without any weight is left out;
    if that happens at all, the log is too small for an interval.

    Args:
        user: shape (n,), user code of each row of the ratios.
        ess: effective sample size, reported as it is.
        level: coverage, in (0, 1).
        n_samples: at least 100.

    Raises:
        ValueError: fewer than two users, fewer than 100 samples, or a level out of range.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if n_samples < 100:
        raise ValueError(f"a percentile needs at least 100 samples, got {n_samples}")
    n_users = count_users(user)
    if n_users < 2:
        raise ValueError(f"a bootstrap by user needs at least 2 users, got {n_users}")
    values = _resampled(_sums_by_user(ratios, user), np.random.default_rng(seed), n_samples)
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(
        estimator=estimator,
        value=value_of(ratios),
        se=float(values.std(ddof=1)),
        low=float(low),
        high=float(high),
        level=level,
        n=len(user),
        n_users=n_users,
        ess=ess,
        interval="bootstrap by user",
    )


def _sums_by_user(ratios: Sequence[SumRatio], user: Ints) -> Floats:
    """Return each user's numerators and denominators, shape (n_users, n_ratios, 2)."""
    seen = np.flatnonzero(np.bincount(user))
    sums = [[np.bincount(user, weights=part)[seen] for part in ratio] for ratio in ratios]
    return np.moveaxis(np.array(sums), -1, 0)


def _resampled(sums: Floats, rng: np.random.Generator, n_samples: int) -> Floats:
    n_users, n_ratios, _ = sums.shape
    flat = sums.reshape(n_users, -1)
    totals = np.zeros((n_samples, flat.shape[1]))
    at_once = max(_BLOCK // n_samples, 1)
    for start in range(0, n_users, at_once):
        block = flat[start : start + at_once]
        counts = rng.poisson(1.0, size=(n_samples, len(block)))
        totals += counts.astype(np.float64) @ block
    numerators, denominators = np.moveaxis(totals.reshape(n_samples, n_ratios, 2), -1, 0)
    full = (denominators > 0.0).all(axis=1)
    return np.asarray((numerators[full] / denominators[full]).sum(axis=1))
