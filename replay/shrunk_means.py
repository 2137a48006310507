"""Shrunk means: a reward model for logs without useful features.

The mean reward of each action is shrunk towards the overall mean, and that of each action in a
segment (position, cohort) towards the action's. The log determines the amount. It suits few,
numbered actions, as in the Open Bandit Dataset; our own log uses `replay.reward_model`.
"""

import numpy as np

from env.vocabulary import Floats, Ints
from replay.columns import Predictions

FOLDS = 5


def cross_fitted_predictions(
    user: Ints,
    segment: Ints,
    action: Ints,
    reward: Floats,
    target: Floats,
    row_weight: Floats | None = None,
    n_folds: int = FOLDS,
) -> Predictions:
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
    return Predictions(tables[fold, segment, action], direct)


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
        raise ValueError("cross-fitting needs people in more than one fold; take a longer log")
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
