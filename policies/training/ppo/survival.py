"""The return model estimates E[day_discount ** gap] at a session's end from its observation.

The gap itself is mostly chance and the largest noise in a life's return; its expectation is the
part that an action can influence. Derivation and rejected alternatives:
`docs/decisions/ppo-training.md`.
"""

from typing import Any

import numpy as np

from env.arrays.reals import logistic
from env.vocabulary import Floats

LEAST_ENDS = 500
"""Below this many sessions' ends only the mean is fitted."""

MOST_ENDS = 40_000
"""The latest sessions' ends that are kept, so that a fit of a hundred columns takes about a
second."""

GROWTH = 0.1
"""The model is fitted again when this share of the kept ends is newer than the last fit."""

RIDGE = 10.0
N_NEWTON = 8
LEAST_VARIANCE = 1e-6


class ReturnModel:
    """A fractional logistic regression that is refitted as sessions end."""

    def __init__(self) -> None:
        self._features: Floats = np.empty((0, 0))
        self._discounts: Floats = np.empty(0)
        self._shift: Floats = np.empty(0)
        self._scale: Floats = np.empty(0)
        self._weights: Floats = np.empty(0)
        self._n_new = 0

    @property
    def n_ends(self) -> int:
        """Number of sessions' ends that are kept."""
        return len(self._discounts)

    def learn(self, features: Floats, discounts: Floats) -> None:
        """Learn from ended sessions.

        Args:
            features: observed at each end, shape (n, width).
            discounts: day_discount ** gap, 0 where the user never returned, shape (n,) in [0, 1].

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
        """Return E[day_discount ** gap] at sessions' ends, shape (n,), from features (n, width).

        Raises:
            RuntimeError: nothing was learned yet.
        """
        if self.n_ends == 0:
            raise RuntimeError("expected learn() with a session's end before expect()")
        return np.asarray(logistic(self._design(features) @ self._weights))

    def state(self) -> dict[str, Any]:
        """Return the fit and its data."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Load the state of another one."""
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
