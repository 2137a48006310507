"""How much likelier an event is on one candidate than on another, learned from all cards so far.

A dislike comes on one card in two thousand, and on which of them is mostly chance. Its chance given
what is seen of the candidate is what a choice can answer for, as `policies.retention.survival` has
it of returns. Candidates are compared, so what hangs on the person alone cancels, and is left out:

    E[c | row] = p + (row - mean) . b

by least squares with a ridge of `RIDGE` events on columns of deviation 1: with as many events, a
slope is halved. Only sums are kept, and nothing is thrown away: what people do about a card does
not hang on who chose it.

Rejected: a logistic regression (it needs the cards themselves; where chances are of the order of
1 in 1,000 the two say the same), and the person's columns crossed with the candidate's (as many
slopes as there are events).
"""

from typing import Any

import numpy as np

from env.vocabulary import Float32s, Floats

RIDGE = 10.0
LEAST_VARIANCE = 1e-6


class EventModel:
    """Slopes of an event's chance on the columns of a candidate's row."""

    def __init__(self, n_columns: int) -> None:
        """Begin with nothing seen."""
        self._n_cards = self._n_events = 0.0
        self._sum, self._of_events = np.zeros((2, n_columns))
        self._products = np.zeros((n_columns, n_columns))

    def learn(self, rows: Float32s, events: Floats) -> None:
        """Learn from cards.

        Args:
            rows: of what was shown, shape (n, n_columns).
            events: 1 where it happened, else 0, shape (n,).
        """
        shown = rows.astype(np.float64)
        self._n_cards += len(shown)
        self._n_events += float(events.sum())
        self._sum += shown.sum(axis=0)
        self._of_events += events @ shown
        self._products += shown.T @ shown

    def slopes(self) -> Floats:
        """Return what each column's unit adds to the chance, shape (n_columns,); 0 at first."""
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
        """Return the sums of what was seen."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the sums of another one."""
        vars(self).update(state)
