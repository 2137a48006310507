"""What holds a policy to its limits: their multipliers, and what each card does to each limit.

A limit has an advantage of its own, and the multipliers weigh it against the reward's
(`policies.retention.limits`):

    A = (A_reward - sum_k l_k s_k A_k) / (1 + sum_k l_k),      each A of mean 0 and deviation 1

(Stooke et al., ICML 2020, equation 6, but for the deviations, without which a multiplier would mean
another thing for each bound and reward). A_k is by how much the card has more of the event than the
policy's cards on average. Whether a card is of the tail is known of it: c - mean c. Whether it is
disliked is mostly chance, so there it is the learned chance (`policies.retention.event_model`) of
the candidate less that of the policy's draw among those that were offered.

A card answers for itself alone: what it leads to is in the shares that multipliers follow, not in
the credit. Rejected: costs taken from the reward (the value head, whose unit follows its targets
slowly, would chase each step of a multiplier, and with lambda = .99 the few dislikes of the next
hundred cards are noise in the credit of each); a value head for each limit, for the same noise;
dislikes as they came (in a batch of 16,000 cards they are eight, and the policy follows those).
"""

from typing import Any

import numpy as np

from env.vocabulary import Floats
from policies.retention.advantages import Steps, standardise
from policies.retention.event_model import EventModel
from policies.retention.layout import Layout
from policies.retention.limits import Held, Limit, Multipliers


class Restraint:
    """Turns advantages of the reward into those of the Lagrangian; saved with the training."""

    def __init__(self, limits: tuple[Limit, ...], layout: Layout) -> None:
        """Begin with multipliers of 0.

        Args:
            limits: at least one.
            layout: of observations.
        """
        self._limits, self._layout = limits, layout
        self._multipliers = Multipliers(limits)
        self._models = {
            limit.event: EventModel(layout.n_row) for limit in limits if limit.is_chance
        }

    @property
    def events(self) -> tuple[str, ...]:
        """Of the limits, by the names that `info` has."""
        return tuple(limit.event for limit in self._limits)

    @property
    def held(self) -> tuple[Held, ...]:
        """How limits were kept in the last iteration."""
        return self._multipliers.held

    def hold(self, advantages: Floats, steps: Steps, pmfs: Floats, events: Floats) -> Floats:
        """Return the advantages of an iteration's cards under the limits, shape (n,).

        Args:
            advantages: of the reward, of mean 0 and deviation 1, shape (n,).
            steps: the cards.
            pmfs: that they were drawn from, shape (n, K).
            events: 1 where a card had a limit's event, else 0, shape (n, n_limits).
        """
        weights = self._multipliers.follow(events)
        held = advantages
        for limit, weight, happened in zip(self._limits, weights, events.T, strict=True):
            more = self._excess(limit, steps, pmfs, happened)
            held = held - weight * limit.sign * standardise(more)
        return np.asarray(held / (1.0 + weights.sum()))

    def state(self) -> dict[str, Any]:
        """Return the multipliers and what was learned of events."""
        models = {name: model.state() for name, model in self._models.items()}
        return {"multipliers": self._multipliers.state(), "models": models}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of another one."""
        self._multipliers.restore(state["multipliers"])
        for name, model in self._models.items():
            model.restore(state["models"][name])

    def _excess(self, limit: Limit, steps: Steps, pmfs: Floats, happened: Floats) -> Floats:
        """Return how much more of the event cards have than the policy's on average, (n,)."""
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
