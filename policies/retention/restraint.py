"""This module combines the reward's advantages with those of the constraints.

    A = (A_reward - sum_k l_k s_k A_k) / (1 + sum_k l_k),      each A of mean 0 and deviation 1

A constraint's advantage A_k is the excess of a card's event over the policy's mean. Derivation and
rejected alternatives: `docs/decisions/training-limits.md`.
"""

from typing import Any

import numpy as np

from env.vocabulary import Floats
from policies.retention.advantages import Steps, standardise
from policies.retention.event_model import EventModel
from policies.retention.layout import Layout
from policies.retention.limits import Held, Limit, Multipliers


class Restraint:
    """Computes the Lagrangian's advantages; saved with the training."""

    def __init__(self, limits: tuple[Limit, ...], layout: Layout) -> None:
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
    def held(self) -> tuple[Held, ...]:
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

    def _excess(self, limit: Limit, steps: Steps, pmfs: Floats, happened: Floats) -> Floats:
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
