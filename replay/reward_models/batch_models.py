"""Cross-fitted reward models that predict a log batch by batch.

The ridge needs only the moments of each fold, so one pass over the log fits every fold's model in
memory that does not grow with the log. A log whose candidates have no features gets shrunk means
instead. Any other `env.interface.RewardModel` can take their place
(`replay.reward_models.ridge.cross_fit`). Reasons: `docs/decisions/reward-models.md`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from env.vocabulary import Floats, Ints, Page
from replay.reward_models.ridge import (
    FOLDS,
    Predictor,
    RegressionMoments,
    RidgeModel,
    fold_of,
    shrunk_table,
)
from replay.source import Batch, Source

MAX_CELLS = 2_000_000
"""Most slots times actions in a table of means; at the limit all folds take 240 MB."""


class BatchModel(Protocol):
    """Predicts rewards of decisions that it was not fitted on."""

    def predict(self, batch: Batch) -> Floats:
        """Return the expected reward of each candidate, (m, k), finite."""
        ...


Fit = Callable[[Source], BatchModel]
"""Fits a reward model on a log such that no user is predicted by a model fitted on that user."""


class ByPage:
    """Predicts page by page with a model of contexts."""

    def __init__(self, predictor: Predictor) -> None:
        """Take a cross-fitted model, such as `CrossFitted`."""
        self._predictor = predictor

    def predict(self, batch: Batch) -> Floats:
        """Return expected rewards, (m, k); raise ValueError if one is not finite or misses."""
        predicted = np.zeros(batch.mask.shape)
        for page, rows in batch.pages:
            rewards = checked_rewards(self._predictor.predict(page.context), page, "predicted")
            predicted[rows, : len(rewards)] = rewards
        return predicted


class Ridges:
    """One ridge for each fold of users, fitted on the other folds."""

    def __init__(self, models: Sequence[RidgeModel]) -> None:
        """Take the models in the order of their folds."""
        self._models = tuple(models)

    def predict(self, batch: Batch) -> Floats:
        """Return the expected reward of each candidate, (m, k)."""
        predicted = np.zeros(batch.mask.shape)
        if batch.pages:
            for page, rows in batch.pages:
                model = self._models[fold_of(page.context.user, len(self._models))]
                predicted[rows, : len(page.context)] = model.predict(page.context)
            return predicted
        for row in range(len(batch)):
            model = self._models[batch.user[row] % len(self._models)]
            predicted[row] = model.predict_features(*_candidates(batch, row))
        return predicted

    def predict_rows(self, features: Floats, fold: Ints) -> Floats:
        """Return the expected reward of rows of `chosen_features`.

        Args:
            features: shape (n, d + e).
            fold: shape (n,), from `folds_of`.
        """
        predicted = np.empty(len(features))
        for i, model in enumerate(self._models):
            predicted[fold == i] = model.predict_features(np.zeros(0), features[fold == i])
        return predicted


def fit_ridges(source: Source, n_folds: int = FOLDS, l2: float = 10.0) -> Ridges:
    """Return ridges on a log's features, cross-fitted by user, in one pass.

    Args:
        source: each of its batches has pages, or features of the candidates.
        n_folds: at least 2.
        l2: as for `RidgeModel`.

    Raises:
        ValueError: all users are in one fold.
    """
    moments = [RegressionMoments() for _ in range(n_folds)]
    n = 0
    for batch in source.batches():
        n += len(batch)
        features, fold = chosen_features(batch), folds_of(batch, n_folds)
        for i in np.unique(fold):
            mine = fold == i
            counts = None if batch.row_weight is None else batch.row_weight[mine]
            moments[i] = moments[i].add(features[mine], batch.reward[mine], counts)
    if sum(part.n > 0.0 for part in moments) < 2:
        raise ValueError(
            f"cross-fitting needs users in more than one fold, got {n} decisions; take a longer log"
        )
    models = []
    for i in range(n_folds):
        model = RidgeModel(l2)
        model.fit_moments(
            sum((part for j, part in enumerate(moments) if j != i), RegressionMoments())
        )
        models.append(model)
    return Ridges(models)


def folds_of(batch: Batch, n_folds: int = FOLDS) -> Ints:
    """Return each decision's cross-fitting fold, which is that of its user, shape (m,)."""
    if not batch.pages:
        return batch.user % n_folds
    fold = np.zeros(len(batch), dtype=np.int64)
    for page, rows in batch.pages:
        fold[rows] = fold_of(page.context.user, n_folds)
    return fold


def chosen_features(batch: Batch) -> Floats:
    """Return the shared features and the logged candidate's, one row per decision, (m, d + e)."""
    if batch.pages:
        return np.concatenate([_page_features(batch, page, rows) for page, rows in batch.pages])
    rows = np.arange(len(batch))
    shared = np.zeros((len(batch), 0)) if batch.context is None else batch.context
    actions = batch.action_context
    if actions is None:
        return shared
    chosen = actions[batch.action] if actions.ndim == 2 else actions[rows, batch.action]
    return np.concatenate([shared, chosen], axis=1)


def checked_rewards(rewards: Floats, page: Page, kind: str) -> Floats:
    """Return a page's rewards; raise ValueError if their shape is wrong or one is not finite."""
    n = len(page.context)
    if rewards.shape != (n,) or not np.isfinite(rewards).all():
        raise ValueError(
            f"expected {n} finite {kind} rewards for page {page.context.page_id}, got {rewards!r}"
        )
    return rewards


def _page_features(batch: Batch, page: Page, rows: Ints) -> Floats:
    features = page.context.features
    shared = np.broadcast_to(features.shared, (len(rows), len(features.shared)))
    chosen = features.actions[batch.action[rows]]
    return np.concatenate([shared, chosen], axis=1).astype(np.float64)


def _candidates(batch: Batch, row: int) -> tuple[Floats, Floats]:
    shared = np.zeros(0) if batch.context is None else batch.context[row]
    actions = batch.action_context
    if actions is None:
        return shared, np.zeros((batch.mask.shape[1], 0))
    return shared, actions if actions.ndim == 2 else actions[row]


class CellMeans:
    """Shrunk means by slot and action, with one table for each fold of users."""

    def __init__(self, tables: Floats) -> None:
        """Take one table per fold, (n_folds, n_slots, n_actions)."""
        self._tables = tables

    def predict(self, batch: Batch) -> Floats:
        """Return expected rewards, (m, k); raise ValueError outside of the fitted table."""
        n_folds, n_slots, n_actions = self._tables.shape
        if batch.slot.max() >= n_slots or batch.mask.shape[1] > n_actions:
            raise ValueError(
                f"expected at most {n_slots} places and {n_actions} actions, as fitted on, got "
                f"{batch.slot.max() + 1} and {batch.mask.shape[1]}"
            )
        predicted: Floats = self._tables[batch.user % n_folds, batch.slot, : batch.mask.shape[1]]
        return predicted


def fit_cells(source: Source, n_folds: int = FOLDS) -> CellMeans:
    """Return cross-fitted shrunk means of a log whose candidates have no features, in one pass.

    Args:
        source: a log in which an action number means the same item throughout.
        n_folds: at least 2.

    Raises:
        ValueError: all users are in one fold, or there are more than `MAX_CELLS` cells.
    """
    sums = np.zeros((3, n_folds, 1, 1))  # rows, rewards, squared rewards
    for batch in source.batches():
        shape = int(batch.slot.max()) + 1, batch.mask.shape[1]
        grow = [(0, max(0, new - old)) for new, old in zip(shape, sums.shape[2:], strict=True)]
        _check_cells(*(max(pair) for pair in zip(shape, sums.shape[2:], strict=True)))
        sums = np.pad(sums, [(0, 0), (0, 0), *grow])
        cells = np.ravel_multi_index(
            (batch.user % n_folds, batch.slot, batch.action), sums.shape[1:]
        )
        counts = np.ones(len(batch)) if batch.row_weight is None else batch.row_weight
        for place, power in enumerate((0, 1, 2)):
            terms = counts * batch.reward**power
            added = np.bincount(cells, weights=terms, minlength=sums[0].size)
            sums[place] += added.reshape(sums.shape[1:])
    others = sums.sum(axis=1, keepdims=True) - sums
    if not (others[0].sum(axis=(1, 2)) > 0.0).all():
        raise ValueError("cross-fitting needs users in more than one fold; take a longer log")
    return CellMeans(np.stack([shrunk_table(*others[:, i]) for i in range(n_folds)]))


def _check_cells(n_slots: int, n_actions: int) -> None:
    if n_slots * n_actions > MAX_CELLS:
        raise ValueError(
            f"expected at most {MAX_CELLS:,} places times actions, got {n_slots:,} times "
            f"{n_actions:,}; number them from 0 without gaps, or give candidates their features"
        )


def fit_rewards(source: Source) -> BatchModel:
    """Return a ridge where the log has features, else shrunk means by slot and action.

    Raises:
        ValueError: there is no decision, or all users are in one fold.
    """
    first = next(source.batches(), None)
    if first is None:
        raise ValueError("a reward model needs decisions to fit on, got none")
    has_features = bool(first.pages) or first.action_context is not None
    return fit_ridges(source) if has_features else fit_cells(source)
