"""Fitted Q evaluation: a policy's value from Markov states instead of importance weights.

It estimates Q(s, a) = E[r + discount * sum_a' target(a' | s') Q(s', a')] by repeated regression on
features of (s, a) (Le, Voloshin and Yue, "Batch Policy Learning under Constraints", ICML 2019). It
serves targets too far from the log for `replay.estimators.trajectories`. Assumptions and failure
modes: `docs/decisions/sequence-estimators.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.intervals import (
    LEVEL,
    Estimate,
    clustered_estimate,
    count_users,
    effective_sample_size,
    t_quantile,
)
from replay.estimators.trajectories import MarkovSteps, StepValues, Trajectories

FOLDS = 5
MAX_ROUNDS = 10_000
L2 = 0.3
"""Ridge penalty for features in [-1, 1]; measured in `docs/decisions/sequence-estimators.md`."""

Predict = Callable[[Floats], Floats]
"""Maps features of shape (c, d) to values of shape (c,)."""


class Regression(Protocol):
    """A function class for Q, as a function of the features."""

    def fit(self, features: Floats, targets: Floats, counts: Floats) -> Predict:
        """Return the least-squares function.

        Args:
            features: shape (c, d).
            targets: shape (c,), mean target of each row.
            counts: shape (c,), above 0, number of observations of each row.
        """
        ...


class Ridge:
    """Linear in the features plus an intercept: sum count (y - a - b x)^2 + l2 |b|^2."""

    def __init__(self, l2: float = L2) -> None:
        """Take the penalty, above 0; it acts like `l2` steps without effect for each feature."""
        if not l2 > 0.0:
            raise ValueError(f"l2 must be above 0, got {l2}")
        self.l2 = l2

    def fit(self, features: Floats, targets: Floats, counts: Floats) -> Predict:
        """Return the least-squares function; see `Regression`."""
        x = with_intercept(features)
        gram = x.T @ (counts[:, None] * x) + self.penalty(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ (counts * targets))
        return lambda new: np.asarray(with_intercept(new) @ weights)

    def penalty(self, width: int) -> Floats:
        """Return the penalty matrix of the weights, the intercept's first."""
        return np.diag(np.r_[0.0, np.full(width - 1, self.l2)])


def with_intercept(features: Floats) -> Floats:
    """Return the features after a column of ones."""
    return np.hstack([np.ones((len(features), 1)), features])


RIDGE = Ridge()


def fitted_q(
    trajectories: Trajectories,
    steps: MarkovSteps,
    regression: Regression = RIDGE,
    counts: Floats | None = None,
    tolerance: float = 1e-6,
) -> Floats:
    """Return Q of each state and action, by iterated regression from 0.

    Args:
        counts: weight of each episode, shape (m,), at least 0; None: 1.
        tolerance: largest change in the last round, as a share of the largest value.

    Returns:
        Shape (n_states, n_actions).

    Raises:
        ValueError: the rounds do not converge; a regression need not be a contraction.
    """
    n_pairs, pair = steps.target.size, steps.pair
    weight = np.ones(len(pair)) if counts is None else counts[trajectories.episode]
    n = np.bincount(pair, weights=weight, minlength=n_pairs).astype(np.float64)
    seen, design = n > 0.0, steps.design()
    q = np.zeros(steps.target.shape)
    for _ in range(MAX_ROUNDS):
        after = steps.state_values(q)[steps.after]
        total = np.bincount(
            pair,
            weights=weight * (trajectories.reward + trajectories.discount * after),
            minlength=n_pairs,
        )
        predict = regression.fit(design[seen], total[seen] / n[seen], n[seen])
        before, q = q, predict(design).reshape(q.shape)
        if np.abs(q - before).max() <= tolerance * np.abs(q).max():
            return q
    raise ValueError(
        f"expected values that settle, got ones that still change after {MAX_ROUNDS} rounds; "
        "do episodes end, or are discounts below 1, and is the function class a smoother?"
    )


def ridge_q(
    trajectories: Trajectories,
    steps: MarkovSteps,
    l2: float = L2,
    counts: Floats | None = None,
) -> Floats:
    """Return the limit of `fitted_q` with `Ridge(l2)`, from one linear system.

    The limit solves sum count x (r + discount v(s') - q) = penalty: LSTD-Q (Lagoudakis and Parr,
    "Least-Squares Policy Iteration", JMLR 2003). It exists even where the rounds diverge. Shape
    (n_states, n_actions).
    """
    return _solve(trajectories, steps, l2, counts).q


def fqe(
    trajectories: Trajectories,
    steps: MarkovSteps,
    regression: Regression = RIDGE,
    level: float = LEVEL,
    *,
    n_resamples: int = 100,
    seed: int = 0,
) -> Estimate:
    """Return fitted Q evaluation with any function class; its error comes from resampling users.

    mean(v(s_0)) of `fitted_q`; the standard error is that of `n_resamples` refits, each on users
    drawn with replacement (Hao, Ji, Duan, Lu, Szepesvári and Wang, "Bootstrapping Fitted
    Q-Evaluation for Off-Policy Inference", ICML 2021). `ridge_fqe` gives the same for a ridge
    without resampling. A function class has no importance weights, so `ess` is the number of
    episodes.

    Raises:
        ValueError: fewer than two users, or see `fitted_q`.
    """
    n_users = count_users(trajectories.user)
    if n_users < 2:
        raise ValueError(f"an interval needs episodes of at least 2 users, got {n_users}")
    generator = np.random.default_rng(seed)
    value = _start_value(trajectories, steps, fitted_q(trajectories, steps, regression), None)
    resampled = []
    for _ in range(n_resamples):
        counts = _resampled_users(trajectories.user, generator)
        q = fitted_q(trajectories, steps, regression, counts)
        resampled.append(_start_value(trajectories, steps, q, counts))
    se = float(np.std(resampled, ddof=1))
    half = t_quantile(level, n_users - 1) * se
    m = len(trajectories)
    return Estimate(
        "fqe", value, se, value - half, value + half, level, m, n_users, m, "bootstrap by user"
    )


def ridge_fqe(
    trajectories: Trajectories, steps: MarkovSteps, l2: float = L2, level: float = LEVEL
) -> Estimate:
    """Return fitted Q evaluation with a ridge at the limit of its rounds, clustered by user.

    v = x_0 theta, A theta = sum x r, A = sum x (x - discount x')^T + penalty, where x_0 and x' are
    features averaged over the target's pmf. The influence of an episode is v(s_0) - v + m sum_t x_0
    A^-1 x_t (r_t + discount_t v(s_{t+1}) - q_t) (Duan and Wang, "Minimax-Optimal Off-Policy
    Evaluation with Linear Function Approximation", ICML 2020; Hao et al. 2021). x_0 A^-1 x_t is the
    marginal ratio d_target / d_logged as far as the features show it, and `ess`, in steps, is that
    of these ratios.

    Consistent if the class contains Q, however long the episodes or far the target. `l2` pulls
    values towards their mean, and the interval ignores that bias.
    """
    solved = _solve(trajectories, steps, l2, None)
    v = steps.state_values(solved.q)
    surprise = trajectories.reward + trajectories.discount * v[steps.after]
    surprise -= solved.q[steps.state, steps.action]
    ratio = solved.ratio[steps.pair]
    starts = v[steps.state[trajectories.first]]
    influence = starts + trajectories.sums(ratio * surprise)
    value, ess = float(starts.mean()), effective_sample_size(ratio)
    influence -= influence.mean()
    return clustered_estimate("fqe", value, influence, trajectories.user, ess, level)


def cross_fitted_values(
    trajectories: Trajectories,
    steps: MarkovSteps,
    fit: Callable[
        [Trajectories, MarkovSteps, Floats], Floats
    ] = lambda trajectories, steps, counts: ridge_q(trajectories, steps, counts=counts),
    n_folds: int = FOLDS,
) -> StepValues:
    """Return the values of each step by a Q that was fitted on other users.

    Args:
        fit: returns Q, shape (n_states, n_actions), given the weight of each episode.
        n_folds: at least 2; users are dealt out to them in turn.

    Raises:
        ValueError: fewer than 2 folds, or all users are in one fold.
    """
    fold = trajectories.user % n_folds
    if n_folds < 2 or len(np.unique(fold)) < 2:
        raise ValueError(
            f"cross-fitting needs users in at least 2 folds, got {n_folds} folds and "
            f"{count_users(trajectories.user)} users"
        )
    chosen, before, after = (np.zeros(len(steps.state)) for _ in range(3))
    for i in np.unique(fold):
        q = fit(trajectories, steps, (fold != i).astype(np.float64))
        v, rows = steps.state_values(q), fold[trajectories.episode] == i
        chosen[rows] = q[steps.state[rows], steps.action[rows]]
        before[rows], after[rows] = v[steps.state[rows]], v[steps.after[rows]]
    return StepValues(chosen, before, after)


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    q: Floats  # (n_states, n_actions)
    ratio: Floats  # (n_pairs,) x_0 A^-1 x times the number of episodes


def _solve(
    trajectories: Trajectories, steps: MarkovSteps, l2: float, counts: Floats | None
) -> _Solved:
    n_states, n_actions = steps.target.shape
    x = with_intercept(steps.design())
    expected = np.einsum("sa,sad->sd", steps.target, x.reshape(n_states, n_actions, -1))
    episodes = np.ones(len(trajectories)) if counts is None else counts
    weight, pair = episodes[trajectories.episode], steps.pair
    n = np.bincount(pair, weights=weight, minlength=len(x))
    rewards = np.bincount(pair, weights=weight * trajectories.reward, minlength=len(x))
    seen = np.unique(pair)
    onward = _discounted_sums(pair, steps.after, weight * trajectories.discount, expected)
    a = x[seen].T @ (n[seen, None] * x[seen] - onward) + Ridge(l2).penalty(x.shape[1])
    start = episodes @ expected[steps.state[trajectories.first]]
    q = x @ np.linalg.solve(a, x.T @ rewards)
    return _Solved(q.reshape(n_states, n_actions), x @ np.linalg.solve(a.T, start))


def _discounted_sums(pair: Ints, after: Ints, discount: Floats, expected: Floats) -> Floats:
    """Return the sum of discount * expected[after] for each pair that occurs, in order."""
    n_states = len(expected)
    moves, at = np.unique(pair * n_states + after, return_inverse=True)
    terms = np.bincount(at, weights=discount)[:, None] * expected[moves % n_states]
    return np.add.reduceat(terms, np.flatnonzero(np.diff(moves // n_states, prepend=-1)))


def _start_value(
    trajectories: Trajectories, steps: MarkovSteps, q: Floats, counts: Floats | None
) -> float:
    return float(np.average(steps.state_values(q)[steps.state[trajectories.first]], weights=counts))


def _resampled_users(user: Ints, generator: np.random.Generator) -> Floats:
    """Return each episode's count when users are drawn with replacement, shape (m,)."""
    _, code = np.unique(user, return_inverse=True)
    n_users = int(code.max()) + 1
    drawn = generator.integers(n_users, size=n_users)
    return np.bincount(drawn, minlength=n_users).astype(np.float64)[code]
