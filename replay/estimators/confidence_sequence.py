"""A confidence sequence: an interval of a policy's value that may be checked after every decision.

It holds the truth at all times at once with the requested probability, while an interval of fixed
size that is checked repeatedly misses far more often than stated. It keeps a handful of sums and
needs no bound on the weights. Construction, width, sources and rejected alternatives:
`docs/decisions/intervals.md`.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats
from replay.estimators.intervals import LEVEL

_LARGEST_STAKE = 0.5


@dataclass(frozen=True, slots=True)
class _Bets:
    n: int = 0
    total: float = 0.0  # of X
    squares: float = 0.25  # of X - prediction, starting with one error of a half
    staked: float = 0.0  # sum of s
    won: float = 0.0  # sum of s X - (-log(1 - s) - s) (X - c)^2
    bound: float = -np.inf  # the highest lower end so far

    def after(self, outcomes: Floats, cost: float) -> tuple["_Bets", Floats]:
        """Return the bets after more outcomes X, (m,), and the lower end after each, (m,)."""
        n = self.n + np.arange(len(outcomes))  # outcomes before each
        before = self.total + np.cumsum(outcomes) - outcomes
        predicted = np.minimum((0.5 + before) / (n + 1.0), 1.0)
        off = (outcomes - predicted) ** 2
        variance = (self.squares + np.cumsum(off) - off) / (n + 1.0)
        stake = np.sqrt(2.0 * cost / (variance * (n + 1.0) * np.log(n + 2.0)))
        stake = np.minimum(stake, _LARGEST_STAKE)
        staked = self.staked + np.cumsum(stake)
        won = self.won + np.cumsum(stake * outcomes + (np.log1p(-stake) + stake) * off)
        bounds = np.maximum(np.maximum.accumulate((won - cost) / staked), self.bound)
        last = _Bets(
            n=self.n + len(outcomes),
            total=self.total + float(outcomes.sum()),
            squares=self.squares + float(off.sum()),
            staked=float(staked[-1]),
            won=float(won[-1]),
            bound=float(bounds[-1]),
        )
        return last, bounds


class Bounds(NamedTuple):
    """The interval after each decision of a batch; all hold whenever the last one does."""

    low: Floats  # (m,)
    high: Floats  # (m,)


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """A target's value on a stream of decisions, so far.

    It covers the stake-weighted mean of the target's expected reward at the decisions so far, an
    average if the value drifts. Propensities must be exact given the past, and the log must support
    the target: the upper end needs a mean weight of 1. Dependence within a user does no harm, but
    the value is then that of the users who came.
    """

    rewards: tuple[float, float]  # lowest and highest possible reward
    level: float = LEVEL  # share of streams in which the interval holds at all times
    _below: _Bets = field(default_factory=_Bets)
    _above: _Bets = field(default_factory=_Bets)

    def __post_init__(self) -> None:
        if not self.rewards[0] < self.rewards[1]:
            raise ValueError(f"expected a lowest and a highest reward, got {self.rewards}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must be in (0, 1), got {self.level}")

    @property
    def n(self) -> int:
        """Decisions so far."""
        return self._below.n

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends; the range of the rewards before the first decision."""
        low, high = self.rewards
        return (
            max(low, low + (high - low) * self._below.bound),
            min(high, high - (high - low) * self._above.bound),
        )

    def after(self, weights: Floats, rewards: Floats) -> "ConfidenceSequence":
        """Return the monitor after more decisions, in their order.

        Args:
            weights: shape (m,), at least 0; in a thinned log times the row weight, and 0 for each
                dropped decision.
            rewards: shape (m,), within the range.

        Raises:
            ValueError: a weight or reward out of its range.
        """
        return self._advance(weights, rewards)[0]

    def path(self, weights: Floats, rewards: Floats) -> Bounds:
        """Return the interval after each of more decisions; arguments as for `after`."""
        return self._advance(weights, rewards)[1]

    def _advance(self, weights: Floats, rewards: Floats) -> tuple["ConfidenceSequence", Bounds]:
        if len(weights) == 0:
            return self, Bounds(weights, rewards)
        low, high = self.rewards
        if not ((rewards >= low) & (rewards <= high)).all():
            raise ValueError(
                f"rewards must be within {self.rewards}, got {rewards.min()} to {rewards.max()}"
            )
        if not (np.isfinite(weights) & (weights >= 0.0)).all():
            raise ValueError(f"weights must be finite and at least 0, got {weights.min()}")
        cost = float(np.log(2.0 / (1.0 - self.level)))
        share = (rewards - low) / (high - low)
        below, from_below = self._below.after(weights * share, cost)
        above, from_above = self._above.after(weights * (1.0 - share), cost)
        path = Bounds(
            np.maximum(low + (high - low) * from_below, low),
            np.minimum(high - (high - low) * from_above, high),
        )
        return replace(self, _below=below, _above=above), path
