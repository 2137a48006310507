"""Cross-fitting of incremental reward models on the pages of a log, batch by batch.

Each fold of users has a model that learns from all others, in one pass over a `Source` with one
batch in memory; `replay.reward_models.ridge.cross_fit` needs the log in memory. Rejected
alternative: `docs/decisions/reward-models.md`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from env.interface import RewardModel
from env.pages.records import interaction_of
from env.vocabulary import Interaction, Ints, Page
from replay.reward_models.batch_models import ByPage, folds_of
from replay.reward_models.ridge import FOLDS, CrossFitted
from replay.source import Batch, Source


class IncrementalRewardModel(RewardModel, Protocol):
    """A RewardModel that can be updated; a new one has learned nothing."""

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Update the model with these interactions, in this order."""
        ...


def fit_growing(
    source: Source, make: Callable[[], IncrementalRewardModel], n_folds: int = FOLDS
) -> ByPage:
    """Return models trained in the log's order on all users except those they will score.

    Row weights of a thinned log are ignored: a doubly robust estimate stays unbiased, but the
    models are fitted to the thinned log.

    Args:
        n_folds: at least 2; each model sees all but one fold.

    Raises:
        ValueError: decisions without pages, fewer than 2 folds, or all users in one fold.
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
            f"cross-fitting needs users in more than one fold, got {known.sum()} decisions; "
            "take a longer log"
        )
    return ByPage(CrossFitted(models))


def interactions_of(batch: Batch) -> Iterator[Interaction]:
    """Yield a batch's decisions, in order, as training examples of a reward model.

    A batch keeps the reward, not its inputs: `feedback` says only that the card was seen, and
    `duration_s` and `closed_ms` are 0.

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
