"""Empirical likelihood: the cautious interval, from sums that a stream can keep.

Asks which values some reweighting of the log could have, that keeps the mean weight at the 1 it
must be and is not too far from the log as it came. Distance is the Cressie-Read divergence with
power -2, where the answer is a quadratic in a handful of sums (Karampatziakis, Langford and
Mineiro, "Empirical Likelihood for Contextual Bandits", NeurIPS 2020; Vowpal Wabbit's estimators
have it in closed form). To the log is added one unit that was not seen, of a large weight and the
worst reward: with few rewards it is what may have been missed.

Unlike there, a unit is a user, not a decision (a user's decisions depend on each other); the
cutoff is that of half the misses asked for (with the usual one, large logs give the normal interval
of a regression estimate, which misses as often as it says); and the weight of the unseen one is
the size-biased mean of those that the variance is made of, not the largest that there could be,
which nobody knows, or was: at 20 effective rewards the interval was 2.2 times as wide as the
normal one with that, 1.5 times with this, and both covered in 99 of 100 logs.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from env.vocabulary import Floats
from replay.columns import Columns
from replay.intervals import LEVEL, Estimate, t_quantile

MISSES = 0.5
"""Of the misses that the level allows, the share that the cutoff allows."""


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodSums:
    """What of a log the interval needs: sums over users of m, a, b and of their products.

    m is how many decisions a user made, a the sum of their weights, b of weights times rewards.
    The sums of two logs without a user in common add up by `+`.
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
        """The mean weight, where each counts by its part in the variance: sum w^3 / sum w^2."""
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
    """Return the regression estimate of a log with its empirical-likelihood interval.

    See `cressie_read_of`.
    """
    return cressie_read_of(LikelihoodSums.of(columns), rewards, level)


def cressie_read_of(
    sums: LikelihoodSums, rewards: tuple[float, float], level: float = LEVEL
) -> Estimate:
    """Return the regression estimate with its empirical-likelihood interval.

    With g = a - m and h(v) = b - v m of each of N users, v is in the interval where
    N (mean h - B mean g)^2 / (var h - B^2 var g), B = cov(g, h) / var g, is at most t^2: what a
    weighting under which both means are 0 costs beyond one under which the mean of g is 0. It is
    a quadratic inequality in v, and the left side is 0 at the estimate.

    Consistent where ips is, of at most snips' variance in large logs. Over-covers, the more the
    fewer effective rewards there are, at 1.1 to 1.5 times the width of a normal interval of snips
    (`nextswipe bench coverage`). A weight never seen that is far larger than all others still
    escapes it. The standard error is that of the estimate, not of the interval.

    Args:
        sums: of a log.
        rewards: the lowest and the highest reward that there can be.
        level: in (0, 1).

    Raises:
        ValueError: fewer than two users, a level out of range, or no range of rewards.
    """
    if sums.n_users < 2:
        raise ValueError(f"an interval needs decisions of at least 2 people, got {sums.n_users}")
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
        ess=float(sums.first[1]) ** 2 / max(sums.squared_weights, np.finfo(float).tiny),
        interval="cressie-read by person",
    )


class _Moments:
    """m and b of N units, freed of what g = a - m explains of them."""

    def __init__(self, n: int, first: Floats, second: Floats) -> None:
        """Take the sums (3,) of m, a and b and (3, 3) of their products."""
        to_gmb = np.array([[-1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        gmb = to_gmb @ first / n
        spread = to_gmb @ second @ to_gmb.T / n - np.outer(gmb, gmb)
        slopes = spread[0, 1:] / spread[0, 0] if spread[0, 0] > 0.0 else np.zeros(2)
        self._n = n
        self._mean = gmb[1:] - slopes * gmb[0]  # (2,)
        self._spread = spread[1:, 1:] - np.outer(slopes, spread[0, 1:])  # (2, 2)

    @property
    def value(self) -> float:
        """Where the mean of h is explained."""
        return float(self._mean[1] / self._mean[0])

    @property
    def se(self) -> float:
        """The standard error of the value."""
        direction = np.array([-self.value, 1.0])
        variance = max(float(direction @ self._spread @ direction), 0.0)
        return float(np.sqrt(variance / self._n) / self._mean[0])

    def ends(self, t: float) -> tuple[float, float]:
        """Return between which values the statistic is at most t^2; infinite where it always is."""
        (m, b), cut = self._mean, t * t / self._n
        square = m * m - cut * self._spread[0, 0]
        middle = m * b - cut * self._spread[0, 1]
        rest = b * b - cut * self._spread[1, 1]
        if square <= 0.0:
            return -np.inf, np.inf
        half = np.sqrt(max(middle * middle - square * rest, 0.0))
        return float((middle - half) / square), float((middle + half) / square)
