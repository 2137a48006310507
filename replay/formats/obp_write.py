"""Our own log in the fields of the Open Bandit Pipeline, its `bandit_feedback` dict of arrays.

obp has one set of actions for all rounds, so an action here is an item of the log. Each page's own
candidates and all features that depend on the user are lost; `nextswipe evaluate` keeps them. A
distribution evaluated in obp must be 0 for items that a round did not offer.
"""

from dataclasses import dataclass

import numpy as np

from env.columns.schema import N_STATIC
from env.vocabulary import Float32s, Floats, Ints, ItemId, Page
from replay.source import Batch, Source

Feedback = dict[str, int | Floats | Ints]


@dataclass(frozen=True, slots=True)
class _Items:
    """The items of a log, numbered in order of appearance, with their latest features."""

    places: dict[ItemId, int]
    features: dict[int, Float32s]

    def meet(self, page: Page) -> Ints:
        """Return the numbers of a page's candidates, shape (n,)."""
        candidates = page.context.candidates
        places = [self.places.setdefault(i, len(self.places)) for i in candidates]
        self.features.update(zip(places, page.context.features.actions, strict=True))
        return np.array(places, dtype=np.int64)


def bandit_feedback(source: Source) -> Feedback:
    """Return a log as obp's fields (Saito et al. 2021; obp 0.5, `obp/types.py`).

    Args:
        source: our own log, read once.

    Returns:
        n_rounds, n_actions: counts.
        context: shape (n_rounds, N_SHARED), features of user and scene.
        action_context: shape (n_actions, N_STATIC), latest features of the items.
        action: shape (n_rounds,), the item's index in `action_context`.
        position: shape (n_rounds,), the slot.
        reward: shape (n_rounds,).
        pscore: shape (n_rounds,), the exact probability of the draw.

    Raises:
        ValueError: no decision, or a log of another system.
    """
    items = _Items({}, {})
    parts = [_columns(batch, items) for batch in source.batches()]
    if not parts:
        raise ValueError("expected decisions that can be evaluated, got none")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    features = np.array([items.features[k] for k in range(len(items.places))], dtype=np.float64)
    return {
        "n_rounds": len(columns["reward"]),
        "n_actions": len(items.places),
        "action_context": features[:, :N_STATIC],
        **columns,
    }


def _columns(batch: Batch, items: _Items) -> dict[str, Floats | Ints]:
    if not batch.pages:
        raise ValueError("expected decisions with their pages, got those of another system's log")
    action = np.empty(len(batch), dtype=np.int64)
    context = []
    for page, rows in batch.pages:
        action[rows] = items.meet(page)[batch.action[rows]]
        shared = page.context.features.shared.astype(np.float64)
        context.append(np.broadcast_to(shared, (len(rows), len(shared))))
    return {
        "context": np.concatenate(context),
        "action": action,
        "position": batch.slot,
        "reward": batch.reward,
        "pscore": batch.propensity,
    }
