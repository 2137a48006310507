"""What a session's end is worth, from what is seen there: E[day_discount ** gap], learned.

The gap that comes is mostly chance. Of two equal evenings one is followed by a return tomorrow and
the other by one in five days, and that difference, times the value of the whole life after it, is
the largest noise in a return. Its expectation given the last card is what an action can answer for.

    E[gamma ** D | z] = s(z . b),   0 where nobody returns

fitted by the quasi-likelihood of a fraction, which needs only the mean to be right (Papke and
Wooldridge, Econometric Methods for Fractional Response Variables, 1996), with Newton's steps and a
ridge. z is the person and the card shown as observed before the session's end.

Rejected: the next observation as part of z, which holds the gap itself ("days since the last
visit"); the survival curve by day, of which only this one moment is used.
"""

from typing import Any

import numpy as np

from env.reals import logistic
from env.vocabulary import Floats

LEAST_ENDS = 500
"""Below it the mean is all that is learned."""
MOST_ENDS = 40_000
"""Kept of the latest, so that a fit takes a second or so with a hundred columns."""
GROWTH = 0.1
"""It is fitted anew when that share of what is kept is newer than the last fit."""
RIDGE = 10.0
N_NEWTON = 8
LEAST_VARIANCE = 1e-6


class ReturnModel:
    """A regression that is fitted anew with each batch of sessions' ends."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._features: Floats = np.empty((0, 0))
        self._discounts: Floats = np.empty(0)
        self._shift: Floats = np.empty(0)
        self._scale: Floats = np.empty(0)
        self._weights: Floats = np.empty(0)
        self._n_new = 0

    @property
    def n_ends(self) -> int:
        """Sessions' ends that are kept."""
        return len(self._discounts)

    def learn(self, features: Floats, discounts: Floats) -> None:
        """Learn from sessions that ended.

        Args:
            features: seen at each end, shape (n, width).
            discounts: day_discount ** gap, 0 where nobody returned, shape (n,) in [0, 1].

        Raises:
            ValueError: a discount is outside [0, 1].
        """
        if len(discounts) == 0:
            return
        if discounts.min() < 0.0 or discounts.max() > 1.0:
            raise ValueError(
                f"expected discounts in [0, 1], got [{discounts.min():g}, {discounts.max():g}]"
            )
        kept = self._features if self.n_ends else features[:0]
        self._features = np.concatenate([kept, features])[-MOST_ENDS:]
        self._discounts = np.concatenate([self._discounts, discounts])[-MOST_ENDS:]
        self._n_new += len(discounts)
        if self._n_new >= GROWTH * self.n_ends or self.n_ends < LEAST_ENDS:
            self._fit()

    def expect(self, features: Floats) -> Floats:
        """Return E[day_discount ** gap] at sessions' ends, shape (n,).

        Args:
            features: seen at each end, shape (n, width).

        Raises:
            RuntimeError: nothing was learned yet.
        """
        if self.n_ends == 0:
            raise RuntimeError("expected learn() with a session's end before expect()")
        return np.asarray(logistic(self._design(features) @ self._weights))

    def state(self) -> dict[str, Any]:
        """Return all that was learned, and from what."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of another one."""
        vars(self).update(state)

    def _fit(self) -> None:
        self._n_new = 0
        self._shift, spread = self._features.mean(axis=0), self._features.std(axis=0)
        self._scale = np.where(spread > LEAST_VARIANCE, 1.0 / np.maximum(spread, 1e-12), 0.0)
        if self.n_ends < LEAST_ENDS:
            self._scale = np.zeros_like(self._scale)
        design = self._design(self._features)
        mean = np.clip(self._discounts.mean(), 1e-6, 1.0 - 1e-6)
        weights = np.zeros(design.shape[1])
        weights[0] = np.log(mean / (1.0 - mean))
        ridge = np.full(len(weights), RIDGE)
        ridge[0] = 0.0
        for _ in range(N_NEWTON):
            expected = np.asarray(logistic(design @ weights))
            variance = np.maximum(expected * (1.0 - expected), LEAST_VARIANCE)
            slope = design.T @ (self._discounts - expected) - ridge * weights
            curvature = (design * variance[:, None]).T @ design + np.diag(ridge + 1e-9)
            weights += np.linalg.solve(curvature, slope)
        self._weights = weights

    def _design(self, features: Floats) -> Floats:
        scaled = np.clip((features - self._shift) * self._scale, -10.0, 10.0)
        return np.column_stack([np.ones(len(features)), scaled])
