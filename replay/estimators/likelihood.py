"""Empirical likelihood: a cautious interval, from sums that a stream can maintain.

It contains the values that some reweighting of the log can give while the mean weight stays 1 and
the Cressie-Read divergence (power -2) stays small (Karampatziakis, Langford and Mineiro, "Empirical
Likelihood for Contextual Bandits", NeurIPS 2020). One unseen user of large weight is added.
Differences from the paper: `docs/decisions/intervals.md`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from env.vocabulary import Floats
from replay.estimators.columns import Columns
from replay.estimators.intervals import LEVEL, Estimate, t_quantile

MISSES = 0.5
"""Share of the misses allowed by the level that the cutoff allows."""


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodSums:
    """The sums over users of m, a, b and their products that the interval needs.

    m is a user's number of decisions, a the sum of their weights, b of weights times rewards. The
    sums of two logs without a common user add up by `+`.
    """

    n: int  # decisions
    n_users: int
    first: Floats  # (3,) sums of m, a, b
    second: Floats  # (3, 3) sums of their products
    squared_weights: float  # sum over decisions of w^2
    cubed_weights: float  # and of w^3

    @classmethod
    def of(cls, columns: Columns) -> Self:
        """Return the sums of a log, or of some users' part of it."""
        seen = np.flatnonzero(np.bincount(columns.user))
        weights = columns.per_row(columns.weights)
        parts = (columns.row_weights, weights, weights * columns.reward)
        units = np.stack([np.bincount(columns.user, weights=part)[seen] for part in parts])
        return cls(
            n=len(columns),
            n_users=len(seen),
            first=units.sum(axis=1),
            second=np.asarray(units @ units.T),
            squared_weights=float((weights**2).sum()),
            cubed_weights=float((weights**3).sum()),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            n=self.n + other.n,
            n_users=self.n_users + other.n_users,
            first=self.first + other.first,
            second=self.second + other.second,
            squared_weights=self.squared_weights + other.squared_weights,
            cubed_weights=self.cubed_weights + other.cubed_weights,
        )

    @property
    def large_weight(self) -> float:
        """The variance-weighted mean weight, sum w^3 / sum w^2."""
        return self.cubed_weights / self.squared_weights if self.squared_weights > 0.0 else 0.0

    def moments(self) -> "_Moments":
        """Return the moments of the users."""
        return _Moments(self.n_users, self.first, self.second)

    def with_unseen(self, weight: float, reward: float) -> "_Moments":
        """Return the moments of the users and one more, of this weight and reward."""
        decisions = self.first[0] / self.n_users
        unseen = np.array([decisions, weight, weight * reward])
        second = self.second + np.outer(unseen, unseen)
        return _Moments(self.n_users + 1, self.first + unseen, second)


def cressie_read(columns: Columns, rewards: tuple[float, float], level: float = LEVEL) -> Estimate:
    """Return the regression estimate of a log with its interval; see `cressie_read_of`."""
    return cressie_read_of(LikelihoodSums.of(columns), rewards, level)


def cressie_read_of(
    sums: LikelihoodSums, rewards: tuple[float, float], level: float = LEVEL
) -> Estimate:
    """Return the regression estimate with its empirical-likelihood interval.

    With g = a - m and h(v) = b - v m of each of N users, v is in the interval where N (mean h - B
    mean g)^2 / (var h - B^2 var g), B = cov(g, h) / var g, is at most t^2. The left side is the
    extra cost of a weighting that makes both means 0 over one that makes the mean of g 0; it is
    quadratic in v and 0 at the estimate.

    Consistent where ips is, with at most snips' variance in large logs. Over-covers, more so with
    fewer effective rewards, at 1.1 to 1.5 times the width of snips' normal interval (the
    study `coverage`). It misses an unseen weight far larger than all others. The standard error is
    that of the estimate, not of the interval.

    Args:
        rewards: lowest and highest possible reward.

    Raises:
        ValueError: fewer than two users, a level out of range, or an empty range of rewards.
    """
    if sums.n_users < 2:
        raise ValueError(f"an interval needs decisions of at least 2 users, got {sums.n_users}")
    if not rewards[0] < rewards[1]:
        raise ValueError(f"expected a lowest and a highest reward, got {rewards}")
    t = t_quantile(1.0 - (1.0 - level) * MISSES, sums.n_users - 1)
    low, high = rewards
    unseen = (0.0, sums.large_weight)
    seen = sums.moments()
    return Estimate(
        estimator="cressie-read",
        value=float(np.clip(seen.value, *rewards)),
        se=seen.se,
        low=float(np.clip(min(sums.with_unseen(w, low).ends(t)[0] for w in unseen), *rewards)),
        high=float(np.clip(max(sums.with_unseen(w, high).ends(t)[1] for w in unseen), *rewards)),
        level=level,
        n=sums.n,
        n_users=sums.n_users,
        ess=float(sums.first[1]) ** 2 / max(sums.squared_weights, float(np.finfo(float).tiny)),
        interval="cressie-read by user",
    )


class _Moments:
    """Moments of m and b of N units after regression on g = a - m."""

    def __init__(self, n: int, first: Floats, second: Floats) -> None:
        to_gmb = np.array([[-1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        gmb = to_gmb @ first / n
        spread = to_gmb @ second @ to_gmb.T / n - np.outer(gmb, gmb)
        slopes = spread[0, 1:] / spread[0, 0] if spread[0, 0] > 0.0 else np.zeros(2)
        self._n = n
        self._mean = gmb[1:] - slopes * gmb[0]  # (2,)
        self._spread = spread[1:, 1:] - np.outer(slopes, spread[0, 1:])  # (2, 2)

    @property
    def value(self) -> float:
        """The v at which the regressed mean of h is 0."""
        return float(self._mean[1] / self._mean[0])

    @property
    def se(self) -> float:
        direction = np.array([-self.value, 1.0])
        variance = max(float(direction @ self._spread @ direction), 0.0)
        return float(np.sqrt(variance / self._n) / self._mean[0])

    def ends(self, t: float) -> tuple[float, float]:
        """Return the values where the statistic is at most t^2, infinite if it always is."""
        (m, b), cut = self._mean, t * t / self._n
        square = m * m - cut * self._spread[0, 0]
        middle = m * b - cut * self._spread[0, 1]
        rest = b * b - cut * self._spread[1, 1]
        if square <= 0.0:
            return -np.inf, np.inf
        half = np.sqrt(max(middle * middle - square * rest, 0.0))
        return float((middle - half) / square), float((middle + half) / square)
