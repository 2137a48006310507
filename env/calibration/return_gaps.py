"""Days between visits as a mixture of geometric laws, one for each class of users.

    P(gap = d) = sum_k w_k p_k (1 - p_k)^(d - 1)

Gaps that the end of the log cuts off are censored and not dropped, since a short log would
otherwise show short gaps only. A weight is a share of gaps, not of users.

Measurements: `docs/decisions/world-fitting.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints

N_ROUNDS = 5_000

ENOUGH = 1e-12
"""Gain of the mean log-likelihood at which EM ends."""

AT_RISK = 30


@dataclass(frozen=True, slots=True)
class GapCounts:
    """Counts of days between a user's days of visit.

    Entry d - 1 of `censored` counts users who were followed for d days without a return when the
    log ended.
    """

    observed: Ints  # (n_days,) entry d - 1 counts gaps of d days
    censored: Ints  # (n_days,)

    def __post_init__(self) -> None:
        if self.observed.shape != self.censored.shape or self.observed.ndim != 1:
            raise ValueError(
                "expected counts of observed and censored gaps over the same days, got shapes "
                f"{self.observed.shape} and {self.censored.shape}"
            )

    @staticmethod
    def of_counts(observed: tuple[int, ...]) -> "GapCounts":
        """Return gaps without censored ones."""
        return GapCounts(
            np.array(observed, dtype=np.int64), np.zeros(len(observed), dtype=np.int64)
        )


@dataclass(frozen=True, slots=True)
class GapMixture:
    """Classes of return, ordered from the highest chance of return to the lowest."""

    weight: Floats  # (k,) shares of the gaps, summing to 1
    chance: Floats  # (k,) of a return on each following day, in (0, 1)

    def pmf(self, n_days: int) -> Floats:
        """Return P(gap = 1), .., P(gap = n_days), shape (n_days,)."""
        return np.asarray(self.of_class(n_days).sum(axis=0), dtype=np.float64)

    def survival(self, n_days: int) -> Floats:
        """Return P(gap > 1), .., P(gap > n_days), shape (n_days,)."""
        day = np.arange(1, n_days + 1)
        return np.asarray(self.weight @ (1.0 - self.chance[:, None]) ** day)

    def mean_days(self) -> float:
        """Return the mean gap."""
        return float(self.weight @ (1.0 / self.chance))

    def users(self) -> Floats:
        """Return the classes' shares of users, shape (k,).

        A user of mean gap m leaves gaps in proportion to 1 / m, so a class's share of users is in
        proportion to its weight times m.

        >>> GapMixture(np.array([0.5, 0.5]), np.array([0.9, 0.3])).users().round(2).tolist()
        [0.25, 0.75]
        """
        worth = self.weight / self.chance
        return np.asarray(worth / worth.sum())

    def of_class(self, n_days: int) -> Floats:
        """Return the classes' parts of `pmf`, shape (k, n_days)."""
        day = np.arange(n_days)
        chance = self.chance[:, None]
        return np.asarray(self.weight[:, None] * chance * (1.0 - chance) ** day)


def fit_gaps(gaps: GapCounts, n_classes: int = 2, chance: Floats | None = None) -> GapMixture:
    """Return the maximum-likelihood mixture of these gaps, by EM with censored gaps.

    With `chance`, shape (n_classes,), only the weights are fitted.

    Raises:
        ValueError: no gap was observed.
    """
    observed, censored = gaps.observed.astype(float), gaps.censored.astype(float)
    total = float(observed.sum() + censored.sum())
    if not observed.sum():
        raise ValueError("expected at least one gap between days of visit, got none")
    day = np.arange(1, len(observed) + 1)
    mean = float((observed + censored) @ day) / float(observed.sum())
    start = np.clip(np.linspace(1.5, 0.5, n_classes) / mean, 0.02, 0.98)
    mixture = GapMixture(np.full(n_classes, 1.0 / n_classes), start if chance is None else chance)
    before = -np.inf
    for _ in range(N_ROUNDS):
        seen = mixture.of_class(len(day))
        unseen = mixture.weight[:, None] * (1.0 - mixture.chance[:, None]) ** day
        after = float(observed @ np.log(seen.sum(axis=0)) + censored @ np.log(unseen.sum(axis=0)))
        if after - before < ENOUGH * total:
            break
        before = after
        came = seen / seen.sum(axis=0) * observed  # (k, n_days)
        stayed = unseen / unseen.sum(axis=0) * censored
        returns, days = came.sum(axis=1), (came + stayed) @ day
        moved = np.clip(returns / np.maximum(days, 1e-12), 1e-4, 1.0 - 1e-6)
        mixture = GapMixture(
            (returns + stayed.sum(axis=1)) / total, moved if chance is None else chance
        )
    order = np.argsort(-mixture.chance)
    return GapMixture(mixture.weight[order], mixture.chance[order])


def kaplan_meier(gaps: GapCounts) -> Floats:
    """Return the share of users who have not returned after 1, 2, .. days, shape (n_days,).

    Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", JASA 1958: the
    product over days of 1 - returns / at risk.

    >>> kaplan_meier(GapCounts(np.array([2, 1]), np.array([1, 0]))).tolist()
    [0.5, 0.0]
    """
    at_risk = np.cumsum((gaps.observed + gaps.censored)[::-1])[::-1]
    return np.cumprod(1.0 - gaps.observed / np.maximum(at_risk, 1), dtype=np.float64)


def survival_error(gaps: GapCounts, mixture: GapMixture) -> float:
    """Return the greatest distance between the mixture's survival and the Kaplan-Meier estimate.

    Days with fewer than `AT_RISK` gaps at risk are not compared.
    """
    at_risk = np.cumsum((gaps.observed + gaps.censored)[::-1])[::-1]
    off = np.abs(mixture.survival(len(at_risk)) - kaplan_meier(gaps))
    return float(np.max(off[at_risk >= AT_RISK], initial=0.0))


def divergence(counted: Ints | Floats, predicted: Floats) -> float:
    """Return the Kullback-Leibler divergence of two laws over the same days, in nats.

    Both are scaled to sum to 1; `predicted` is positive wherever `counted` is. Shapes (n,).

    >>> divergence(np.array([1, 1]), np.array([0.3, 0.3]))
    0.0

    Raises:
        ValueError: the counts are empty, or some fall on impossible days.
    """
    p, q = counted / max(float(counted.sum()), 1e-300), predicted / float(predicted.sum())
    happened = p > 0.0
    if not happened.any() or np.any(q[happened] <= 0.0):
        raise ValueError("expected counts, all of them on days that are possible")
    return float(np.sum(p[happened] * np.log(p[happened] / q[happened])))
