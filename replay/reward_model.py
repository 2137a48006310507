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
from env.vocabulary import Context, Float32s, Floats, Interaction, UserKey
from replay.dataset import Dataset

FOLDS = 5
_CHUNK = 4096


FeatureArray = Floats | Float32s


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The sums over rows of [features, reward] that a regression needs."""

    n: float = 0.0
    sums: Floats = field(default_factory=lambda: np.zeros(1))  # (d + 1,)
    products: Floats = field(default_factory=lambda: np.zeros((1, 1)))  # (d + 1, d + 1)
    low: float = np.inf
    high: float = -np.inf

    def add(self, features: Floats, reward: Floats, counts: Floats | None = None) -> "Moments":
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
        return self + Moments(n, counted.sum(axis=0), counted.T @ rows, low, high)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
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
        moments = Moments()
        for block in _blocks(interactions):
            moments = moments.add(block[:, :-1], block[:, -1])
        self.fit_moments(moments)

    def fit_moments(self, moments: "Moments") -> None:
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
                f"cross-fitting needs people in more than one fold, got {len(dataset)} decisions "
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
