"""Reward models for the direct method and the doubly robust estimators, cross-fitted by user.

A model that scores its own training data is overconfident, so users are split into folds by a hash,
and each user is predicted by a model that saw none of their decisions. The default is a ridge
regression on the logged features; any `env.interface.RewardModel` can replace it. Reasons:
`docs/decisions/reward-models.md`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from env.interface import RewardModel
from env.vocabulary import Context, Float32s, Floats, Interaction, Ints, UserKey
from replay.estimators.columns import RewardPredictions
from replay.join.dataset import Dataset

FOLDS = 5


def cross_fitted_predictions(
    user: Ints,
    segment: Ints,
    action: Ints,
    reward: Floats,
    target: Floats,
    row_weight: Floats | None = None,
    n_folds: int = FOLDS,
) -> RewardPredictions:
    """Return each row's predictions by shrunk means that saw no decision of its user.

    Args:
        user: shape (n,), user code; the fold is the code modulo the folds, so codes must not depend
            on the users' actions.
        segment: shape (n,), at least 0.
        action: shape (n,), at least 0, below K.
        reward: shape (n,).
        target: shape (n, K), pmf of the target policy.
        row_weight: shape (n,), decisions that a row stands for; None: 1.
        n_folds: at least 2; each table sees all but one fold.

    Raises:
        ValueError: fewer than 2 folds, or all users are in one fold.
    """
    n_segments = int(segment.max()) + 1
    tables = cross_fitted_tables(
        user, segment, action, reward, (n_segments, target.shape[1]), row_weight, n_folds
    )
    fold = user % n_folds
    direct = np.empty(len(user))
    for i, table in enumerate(tables):
        rows = np.flatnonzero(fold == i)
        direct[rows] = np.einsum("nk,nk->n", target[rows], table[segment[rows]])
    return RewardPredictions(tables[fold, segment, action], direct)


def cross_fitted_tables(
    user: Ints,
    segment: Ints,
    action: Ints,
    reward: Floats,
    shape: tuple[int, int],
    row_weight: Floats | None = None,
    n_folds: int = FOLDS,
) -> Floats:
    """Return for each fold the table fitted on all others, shape (n_folds, S, K).

    A user's fold is its code modulo `n_folds`. A fold's sums are computed once and subtracted from
    the total, so that one pass over the rows serves any number of folds.

    Raises:
        ValueError: fewer than 2 folds, or all users are in one fold.
    """
    if n_folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, got {n_folds}")
    weight = np.ones(len(reward)) if row_weight is None else row_weight
    cells = shape[0] * shape[1]
    place = (user % n_folds) * cells + segment * shape[1] + action
    sums = [
        np.bincount(place, weights=term, minlength=n_folds * cells).reshape(n_folds, *shape)
        for term in (weight, weight * reward, weight * reward**2)
    ]
    others = [total.sum(axis=0) - total for total in sums]
    if others[0].sum(axis=(1, 2)).min() <= 0.0:
        raise ValueError("cross-fitting needs users in more than one fold; take a longer log")
    return np.stack([shrunk_table(*fold) for fold in zip(*others, strict=True)])


def shrunk_table(count: Floats, total: Floats, squares: Floats) -> Floats:
    """Return the shrunk mean reward of each action in each segment, shape (S, K).

    Empirical Bayes with normal effects, by moments (Efron and Morris, "Data Analysis Using Stein's
    Estimator and its Generalizations", JASA 1975; variances by analysis of variance as in
    DerSimonian and Laird 1986). A mean of n rows lies n t / (n t + s) of the way from its parent's,
    where s is the variance within a cell and t that between cells.

    Args:
        count: shape (S, K), rows of each segment and action.
        total: shape (S, K), sum of their rewards.
        squares: shape (S, K), sum of their squared rewards.
    """
    n = count.sum()
    mean = total.sum() / n
    per_cell = np.divide(total, count, out=np.full_like(total, mean), where=count > 0.0)
    freedom = max(n - np.count_nonzero(count), 1.0)
    within = max(float((squares - count * per_cell**2).sum()) / freedom, 0.0)
    by_action, of_action = count.sum(axis=0), total.sum(axis=0)
    per_action = np.divide(
        of_action, by_action, out=np.full_like(of_action, mean), where=by_action > 0
    )
    actions = _shrink(by_action, per_action, np.full_like(per_action, mean), within)
    return _shrink(count, per_cell, np.broadcast_to(actions, count.shape), within)


def _shrink(count: Floats, mean: Floats, parent: Floats, within: float) -> Floats:
    """Return the means, each moved towards its parent as far as noise explains the distance."""
    excess = float((count * (mean - parent) ** 2).sum()) - within * np.count_nonzero(count)
    between = max(excess / max(float(count.sum()), 1.0), 0.0)
    if between == 0.0:
        return np.array(parent)
    seen = count * between  # without noise, a cell without rows would be 0 / 0
    share = np.divide(seen, seen + within, out=np.zeros_like(seen), where=seen > 0.0)
    return parent + share * (mean - parent)


_CHUNK = 4096
FeatureArray = Floats | Float32s


@dataclass(frozen=True, slots=True, eq=False)
class RegressionMoments:
    """The sums over rows of [features, reward] that a regression needs."""

    n: float = 0.0
    sums: Floats = field(default_factory=lambda: np.zeros(1))  # (d + 1,)
    products: Floats = field(default_factory=lambda: np.zeros((1, 1)))  # (d + 1, d + 1)
    low: float = np.inf
    high: float = -np.inf

    def add(
        self, features: Floats, reward: Floats, counts: Floats | None = None
    ) -> "RegressionMoments":
        """Return the moments with these rows added.

        Args:
            features: shape (n, d), n at least 1.
            reward: shape (n,).
            counts: shape (n,), row weights; None: 1.
        """
        rows = np.column_stack([features, reward])
        counted = rows if counts is None else rows * counts[:, None]
        n = len(rows) if counts is None else float(counts.sum())
        low, high = float(reward.min()), float(reward.max())
        return self + RegressionMoments(n, counted.sum(axis=0), counted.T @ rows, low, high)

    def __add__(self, other: "RegressionMoments") -> "RegressionMoments":
        return RegressionMoments(
            self.n + other.n,
            self.sums + other.sums,
            self.products + other.products,
            min(self.low, other.low),
            max(self.high, other.high),
        )


class Predictor(Protocol):
    """The part of a RewardModel that an evaluation needs."""

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        ...


class RidgeModel:
    """Ridge regression on shared and action features, each scaled by its standard deviation.

    Minimises sum (r - a - b z)^2 + l2 |b|^2 over the standardised features z. Predictions are
    clipped to the range of rewards in training.
    """

    def __init__(self, l2: float = 10.0) -> None:
        """Take the penalty, at least 0; it acts like `l2` decisions without effect."""
        if not l2 >= 0.0:
            raise ValueError(f"l2 must be at least 0, got {l2}")
        self._l2 = l2
        self._intercept = 0.0
        self._weights = np.zeros(0)  # (N_SHARED + N_ACTION,)
        self._range = (0.0, 0.0)

    def fit(self, interactions: Sequence[Interaction]) -> None:
        """Fit on at least one interaction (else ValueError), from scratch."""
        moments = RegressionMoments()
        for block in _blocks(interactions):
            moments = moments.add(block[:, :-1], block[:, -1])
        self.fit_moments(moments)

    def fit_moments(self, moments: "RegressionMoments") -> None:
        """Fit on the moments of at least one decision (else ValueError), from scratch."""
        n = moments.n
        if not n:
            raise ValueError("a reward model needs interactions to fit on, got none")
        mean = moments.sums / n
        covariance = moments.products / n - np.outer(mean, mean)
        self._weights = _shrunk_weights(covariance, self._l2 / n)
        self._intercept = float(mean[-1] - mean[:-1] @ self._weights)
        self._range = (moments.low, moments.high)

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,).

        Raises:
            ValueError: the model is not fitted, or was fitted on features of another width.
        """
        return self.predict_features(context.features.shared, context.features.actions)

    def predict_features(self, shared: FeatureArray, actions: FeatureArray) -> Floats:
        """Return the expected reward of rows of action features that share a context.

        Args:
            shared: shape (d,).
            actions: shape (n, e).
        """
        if len(self._weights) != len(shared) + actions.shape[1]:
            raise ValueError(
                f"expected features of the width fitted on, {len(self._weights)}, "
                f"got {len(shared) + actions.shape[1]}"
            )
        base = self._intercept + float(shared @ self._weights[: len(shared)])
        return np.clip(base + actions @ self._weights[len(shared) :], *self._range)


class CrossFitted:
    """Predicts with the model that saw no decision of the context's user."""

    def __init__(self, models: Sequence[Predictor]) -> None:
        self._models = tuple(models)

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        return self._models[fold_of(context.user, len(self._models))].predict(context)


def cross_fit(
    dataset: Dataset, make: Callable[[], RewardModel] = RidgeModel, n_folds: int = FOLDS
) -> CrossFitted:
    """Return models fitted on the decisions of all users except those they will score.

    Args:
        n_folds: at least 2; each model sees all but one fold.

    Raises:
        ValueError: fewer than 2 folds, or all users are in one fold.
    """
    if n_folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, got {n_folds}")
    folds = np.array([fold_of(user, n_folds) for user in dataset.users], dtype=np.int64)
    fold = folds[dataset.user]
    models = []
    for i in range(n_folds):
        rows = np.flatnonzero(fold != i)
        if len(rows) == 0:
            raise ValueError(
                f"cross-fitting needs users in more than one fold, got {len(dataset)} decisions "
                f"of {len(np.unique(dataset.user))}; take a longer log"
            )
        model = make()
        model.fit(dataset.interactions(rows))
        models.append(model)
    return CrossFitted(models)


def fold_of(user: UserKey, n_folds: int) -> int:
    """Return the fold of a user, which is the same in every log.

    >>> fold_of(UserKey("u1"), 5) == fold_of(UserKey("u1"), 5)
    True
    """
    digest = hashlib.blake2b(user.encode(), digest_size=8, person=b"fold").digest()
    return int.from_bytes(digest, "little") % n_folds


def _blocks(interactions: Sequence[Interaction]) -> Iterator[Floats]:
    for start in range(0, len(interactions), _CHUNK):
        chunk = interactions[start : start + _CHUNK]
        features = b"".join(part for i in chunk for part in (i.shared, i.action))
        rewards = np.array([i.reward for i in chunk], dtype=np.float64)
        rows = np.frombuffer(features, dtype="<f2").reshape(len(chunk), -1).astype(np.float64)
        yield np.column_stack([rows, rewards])


def _shrunk_weights(covariance: Floats, l2: float) -> Floats:
    """Return the ridge weights of raw features from the covariance of [features, reward]."""
    spread = np.sqrt(np.maximum(np.diag(covariance)[:-1], 0.0))
    varies = spread > 1e-6  # a feature that never changes has no weight
    weights = np.zeros(len(spread))
    if varies.any():
        scale = spread[varies]
        features = covariance[:-1, :-1][np.ix_(varies, varies)] / np.outer(scale, scale)
        with_reward = covariance[:-1, -1][varies] / scale
        ridge = features + max(l2, 1e-9) * np.eye(len(scale))
        weights[varies] = np.linalg.solve(ridge, with_reward) / scale
    return weights
