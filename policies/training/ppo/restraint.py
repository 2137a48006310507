"""This module combines the reward's advantages with those of the constraints.

    A = (A_reward - sum_k l_k s_k A_k) / (1 + sum_k l_k),      each A of mean 0 and deviation 1

A constraint's advantage A_k is the excess of a card's event over the policy's mean. Derivation and
rejected alternatives: `docs/decisions/training-limits.md`.
"""

from typing import Any

import numpy as np

from env.vocabulary import Float32s, Floats
from policies.training.layout import ObservationLayout
from policies.training.limits import Constraint, ConstraintState, Multipliers
from policies.training.ppo.advantages import Steps, standardise

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


class ConstrainedAdvantages:
    """Computes the Lagrangian's advantages; saved with the training."""

    def __init__(self, limits: tuple[Constraint, ...], layout: ObservationLayout) -> None:
        self._limits, self._layout = limits, layout
        self._multipliers = Multipliers(limits)
        self._models = {
            limit.event: EventModel(layout.n_row) for limit in limits if limit.is_chance
        }

    @property
    def events(self) -> tuple[str, ...]:
        """The constraints' events, by their names in `info`."""
        return tuple(limit.event for limit in self._limits)

    @property
    def held(self) -> tuple[ConstraintState, ...]:
        """State of the constraints after the last iteration."""
        return self._multipliers.held

    def hold(self, advantages: Floats, steps: Steps, pmfs: Floats, events: Floats) -> Floats:
        """Return the constrained advantages of an iteration's cards, shape (n,).

        Args:
            advantages: of the reward, of mean 0 and deviation 1, shape (n,).
            pmfs: from which the cards were drawn, shape (n, K).
            events: 1 where a card had a constraint's event, else 0, shape (n, n_limits).
        """
        weights = self._multipliers.follow(events)
        held = advantages
        for limit, weight, happened in zip(self._limits, weights, events.T, strict=True):
            more = self._excess(limit, steps, pmfs, happened)
            held = held - weight * limit.sign * standardise(more)
        return np.asarray(held / (1.0 + weights.sum()))

    def state(self) -> dict[str, Any]:
        """Return the multipliers and the event models' sums."""
        models = {name: model.state() for name, model in self._models.items()}
        return {"multipliers": self._multipliers.state(), "models": models}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the state of another one."""
        self._multipliers.restore(state["multipliers"])
        for name, model in self._models.items():
            model.restore(state["models"][name])

    def _excess(self, limit: Constraint, steps: Steps, pmfs: Floats, happened: Floats) -> Floats:
        """Return each card's event, or its chance, less the policy's mean, shape (n,)."""
        if not limit.is_chance:
            return np.asarray(happened - happened.mean())
        _, blocks = self._layout.cut(steps.observations)
        each, model = np.arange(len(steps)), self._models[limit.event]
        shown = [block[each, steps.actions] for block in blocks]
        model.learn(np.concatenate(shown, axis=1), happened)
        slopes, chances, first = model.slopes(), np.zeros(pmfs.shape), 0
        for block in blocks:
            last = first + block.shape[2]
            chances += block @ slopes[first:last].astype(np.float32)
            first = last
        return np.asarray(chances[each, steps.actions] - (pmfs * chances).sum(axis=1))
