"""The event model estimates how much each candidate column raises the chance of a rare event.

It is a ridge regression on centred columns, kept as sums over all cards so far, and it compares
candidates of one user. Derivation and rejected alternatives: `docs/decisions/training-limits.md`.
"""

from typing import Any

import numpy as np

from env.vocabulary import Float32s, Floats

RIDGE = 10.0
LEAST_VARIANCE = 1e-6


class EventModel:
    """Slopes of an event's chance on the columns of a candidate's row."""

    def __init__(self, n_columns: int) -> None:
        self._n_cards = self._n_events = 0.0
        self._sum, self._of_events = np.zeros((2, n_columns))
        self._products = np.zeros((n_columns, n_columns))

    def learn(self, rows: Float32s, events: Floats) -> None:
        """Add shown rows (n, n_columns) with events (n,): 1 where one happened, else 0."""
        shown = rows.astype(np.float64)
        self._n_cards += len(shown)
        self._n_events += float(events.sum())
        self._sum += shown.sum(axis=0)
        self._of_events += events @ shown
        self._products += shown.T @ shown

    def slopes(self) -> Floats:
        """Return the chance that a unit of each column adds, shape (n_columns,); 0 at first."""
        if not self._n_events:
            return np.zeros(len(self._sum))
        n = self._n_cards
        mean, chance = self._sum / n, self._n_events / n
        covariance = self._products / n - np.outer(mean, mean)
        variance = np.diag(covariance)
        scale = np.where(
            variance > LEAST_VARIANCE, 1.0 / np.sqrt(np.maximum(variance, LEAST_VARIANCE)), 0.0
        )
        correlation = covariance * np.outer(scale, scale)
        together = (self._of_events / n - chance * mean) * scale
        ridge = RIDGE / self._n_events * np.eye(len(scale))
        return np.asarray(scale * np.linalg.solve(correlation + ridge, together))

    def state(self) -> dict[str, Any]:
        """Return the sums."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Load the sums of another one."""
        vars(self).update(state)
