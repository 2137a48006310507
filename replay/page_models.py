"""Reward models that learn as they go, cross-fitted on the pages of a log, batch by batch.

`replay.reward_model.cross_fit` hands a `RewardModel` all its interactions at once, for which the
log is held in memory. Models that can also learn some more, one a fold of users, each from
everybody else, need one pass over a `Source` and one batch in memory.

Rejected: one model that predicts before it learns (progressive validation): it needs no folds, but
on the first pages knows nothing, and a user's later pages would be predicted from their earlier.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from env.interactions import interaction_of
from env.interface import RewardModel
from env.vocabulary import Interaction, Ints, Page
from replay.batch_models import ByPage, folds_of
from replay.reward_model import FOLDS, CrossFitted
from replay.sources import Batch, Source


class GrowingModel(RewardModel, Protocol):
    """A RewardModel that need not begin anew; made, it has learned nothing."""

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Move the model by these interactions, in this order."""
        ...


def fit_growing(source: Source, make: Callable[[], GrowingModel], n_folds: int = FOLDS) -> ByPage:
    """Return models that learned, in the log's order, from all users but those they will score.

    What a row of a thinned log stands for is not told to them: a doubly robust estimate is unbiased
    whatever they say, but they are fitted to the log as it was kept.

    Args:
        source: our own log.
        make: returns a model that has learned nothing.
        n_folds: at least 2; each model sees all but one fold.

    Raises:
        ValueError: decisions without pages, fewer than 2 folds, or everybody is in one fold.
    """
    if n_folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, got {n_folds}")
    models = [make() for _ in range(n_folds)]
    known = np.zeros(n_folds, dtype=np.int64)
    for batch in source.batches():
        interactions, fold = list(interactions_of(batch)), folds_of(batch, n_folds)
        known += np.bincount(fold, minlength=n_folds)
        for i, model in enumerate(models):
            model.learn([interactions[row] for row in np.flatnonzero(fold != i)])
    if np.count_nonzero(known) < 2:
        raise ValueError(
            f"cross-fitting needs people in more than one fold, got {known.sum()} decisions; "
            "take a longer log"
        )
    return ByPage(CrossFitted(models))


def interactions_of(batch: Batch) -> Iterator[Interaction]:
    """Yield a batch's decisions, in their order, as what a reward model may learn from.

    A batch keeps what a decision was worth, not what it was computed from: beyond that the card was
    seen, `feedback` is empty, and `duration_s` and `closed_ms` are 0, not known.

    Raises:
        ValueError: decisions without pages, as in an external log.
    """
    if len(batch) and not batch.pages:
        raise ValueError(
            "this reward model needs our own log, with pages and their features, got decisions "
            "without a page; take the ridge for a foreign log"
        )
    n_actions = batch.n_actions
    for page, rows in batch.pages:
        yield from _interactions(batch, page, rows, n_actions[rows])


def _interactions(batch: Batch, page: Page, rows: Ints, n_actions: Ints) -> Iterator[Interaction]:
    drawn = {decision.slot: decision for decision in page.decisions}
    for row, n in zip(rows.tolist(), n_actions.tolist(), strict=True):
        decision = drawn[int(batch.slot[row])]
        yield interaction_of(page, decision, float(batch.reward[row]), n_actions=n)
