"""A confidence sequence: an interval that may be looked at after every decision.

A dashboard is looked at until it shows what one hopes for. An interval of fixed size then misses
far more often than it says: one of 95% in four to six of ten streams of 4,000 decisions, if it is
looked at after each. This one holds the truth at all times at once with the probability asked
for, needs a handful of sums, and is at such a length twice as wide; several times, where rewards
are rare, since its upper end goes by the weights of the decisions without one.

Bets against the value: with X = w r at least 0, a prediction c of it in [0, 1] and a stake s in
[0, 1), both chosen beforehand, the product over decisions of
exp(s (X - v) - (-log(1 - s) - s) (X - c)^2) is a capital that a fair game (v the mean of X)
does not grow in expectation; by Ville's inequality it exceeds 1/a at any time with probability
at most a. So the lower end is where it would (Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021;
stakes of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS B 2024; for weights: Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro, "Anytime-valid
off-policy inference for contextual bandits", 2024). The upper end is the same for w (1 - r), in
shares of the range of rewards. No bound on the weights is needed. Rejected: capital on a grid of
values, tighter by some percent, at a hundred numbers for each monitor and a grid to get wrong.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats
from replay.intervals import LEVEL

_LARGEST_STAKE = 0.5


@dataclass(frozen=True, slots=True)
class _Bets:
    """The sums of one side's bets."""

    n: int = 0
    total: float = 0.0  # of X
    squares: float = 0.25  # of (X - its prediction), begun as if one had been off by a half
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
    """The interval after each decision of a batch; each holds whenever the last one does."""

    low: Floats  # (m,)
    high: Floats  # (m,)


@dataclass(frozen=True, slots=True)
class Monitor:
    """A target's value on a stream of decisions, so far.

    What it covers is the mean of what the target was expected to earn at the decisions so
    far, weighted by the stakes; of a value that drifts, an average. It asks that each decision's
    propensity is exact given what was before it, and that the log can do whatever the target
    does: the upper end needs a mean weight of 1. That decisions of a user depend on each other
    does no harm to that, but the value may then be that of the users who came.

    Attributes:
        rewards: the lowest and the highest reward that there can be.
        level: share of streams in which the interval holds at all times.
    """

    rewards: tuple[float, float]
    level: float = LEVEL
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
        """Both ends; those of the rewards before the first decision."""
        low, high = self.rewards
        return (
            max(low, low + (high - low) * self._below.bound),
            min(high, high - (high - low) * self._above.bound),
        )

    def after(self, weights: Floats, rewards: Floats) -> "Monitor":
        """Return the monitor after more decisions, in their order.

        Args:
            weights: shape (m,), at least 0; of a thinned log times the row weight, and 0 for each
                decision that was dropped.
            rewards: shape (m,), within the range.

        Raises:
            ValueError: a weight or reward out of its range.
        """
        return self._advance(weights, rewards)[0]

    def path(self, weights: Floats, rewards: Floats) -> Bounds:
        """Return the interval after each of more decisions.

        Args:
            weights: as of `after`.
            rewards: as of `after`.
        """
        return self._advance(weights, rewards)[1]

    def _advance(self, weights: Floats, rewards: Floats) -> tuple["Monitor", Bounds]:
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
