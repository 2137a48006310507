"""A click model fitted to a simulated log, to measure how predictable simulated users are.

The log-odds of a valid play are common + item effect + (lean, taste) of the user · (1, vector),
fitted by block-wise penalised Newton steps to each user's earlier impressions and judged on the
later ones. A near-perfect fit would mean a world that is too easy: KuaiSim reports an AUC of .7234
on real logs (Zhao et al., NeurIPS 2023).
"""

from dataclasses import dataclass

import numpy as np

from env.arrays.reals import logistic
from env.calibration.fitting import auc
from env.calibration.impressions import ImpressionTable
from env.calibration.random_effects import UnitBlock
from env.vocabulary import Bools, Floats, Ints

N_SWEEPS = 10

LEARN_SHARE = 0.75

LEAN_SD = 0.5

TASTE_SD = 0.6

EFFECT_SD = 0.5


@dataclass(frozen=True, slots=True)
class Histories:
    """The first impressions of users, equally many per user, in order of time."""

    item: Ints  # (n_people, n_cards)
    valid: Bools  # (n_people, n_cards)

    @staticmethod
    def of(impressions: ImpressionTable, n_cards: int) -> "Histories":
        """Return the histories of users with at least `n_cards` impressions.

        Raises:
            ValueError: there are no such users.
        """
        shown = impressions.take(np.lexsort((impressions.at_ms, impressions.user)))
        _, start, count = np.unique(shown.user, return_index=True, return_counts=True)
        rows = start[count >= n_cards][:, None] + np.arange(n_cards)
        if not len(rows):
            raise ValueError(f"expected users with {n_cards} impressions, got none")
        return Histories(shown.item[rows], shown.valid_play()[rows])


@dataclass(frozen=True, slots=True)
class ClickModel:
    """Coefficients of the log-odds of a valid play."""

    common: float
    effect: Floats  # (n_items,)
    users: Floats  # (n_people, 1 + d) lean and taste

    def score(self, item: Ints, vectors: Floats) -> Floats:
        """Return log-odds of each card of each user, shape (n_people, n_cards)."""
        personal = np.einsum("pcd,pd->pc", _features(item, vectors), self.users)
        return np.asarray(self.common + self.effect[item] + personal, dtype=np.float64)


def fit_clicks(histories: Histories, vectors: Floats) -> ClickModel:
    """Fit the model to histories and the vectors of their items, shape (n_items, d)."""
    features = _features(histories.item, vectors)
    shape = histories.item.shape
    items = UnitBlock(histories.item.ravel(), len(vectors), EFFECT_SD)
    precision = np.diag(1.0 / np.r_[LEAN_SD, np.full(vectors.shape[1], TASTE_SD)] ** 2)
    common, users = 0.0, np.zeros((shape[0], features.shape[2]))
    of_items = personal = np.zeros(shape)
    for _ in range(N_SWEEPS):
        w, miss = _working(histories.valid, common + of_items + personal)
        common += float(np.average(miss, weights=w))
        w, miss = _working(histories.valid, common + of_items + personal)
        of_items = items.move(w.ravel(), (miss + of_items).ravel()).reshape(shape)
        w, miss = _working(histories.valid, common + of_items + personal)
        weighted = features * w[:, :, None]
        covariance = np.linalg.inv(features.transpose(0, 2, 1) @ weighted + precision)
        pull = np.einsum("pcd,pc->pd", weighted, miss + personal)
        users = np.einsum("pde,pe->pd", covariance, pull)
        personal = np.einsum("pcd,pd->pc", features, users)
    return ClickModel(common, items.effect, users)


def holdout_auc(histories: Histories, vectors: Floats) -> float:
    """Return the AUC of users' later valid plays under a model of their earlier ones."""
    n_learn = int(LEARN_SHARE * histories.item.shape[1])
    earlier = Histories(histories.item[:, :n_learn], histories.valid[:, :n_learn])
    score = fit_clicks(earlier, vectors).score(histories.item[:, n_learn:], vectors)
    return auc(histories.valid[:, n_learn:].ravel(), score.ravel())


def _features(item: Ints, vectors: Floats) -> Floats:
    return np.concatenate([np.ones((*item.shape, 1)), vectors[item]], axis=2)


def _working(valid: Bools, eta: Floats) -> tuple[Floats, Floats]:
    """Return the Newton weights and working residuals of the log-odds."""
    p = np.asarray(logistic(eta))
    w = np.maximum(p * (1.0 - p), 1e-3)
    return w, (valid - p) / w
