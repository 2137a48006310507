"""Off-policy estimators of whole sessions and lives, from exact propensities alone.

An episode is a session, or a user's sequence of sessions; V = E[ sum_t G_t r_t ] with G_t the
product of earlier discounts, and rho_t = w_0 .. w_t. They assume no Markov state, but the weights'
second moment grows like E[w^2]^t; `replay.estimators.fqe` and `replay.estimators.marginal` avoid
that. Details: `docs/decisions/sequence-estimators.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.intervals import (
    LEVEL,
    Estimate,
    clustered_estimate,
    effective_sample_size,
    require,
    require_propensities,
    require_shape,
)
from replay.estimators.ratios import SumRatio, ratio_estimate


@dataclass(frozen=True, slots=True, eq=False)
class MarkovSteps:
    """The states of the steps of Trajectories, as codes into a table with pmfs and features.

    Raises:
        ValueError: columns of different shapes, a code outside the table, or an invalid pmf.
    """

    state: Ints  # (n,) before each step, in [0, n_states)
    action: Ints  # (n,) in [0, n_actions)
    after: Ints  # (n,) state after the step; any where the discount is 0
    target: Floats  # (n_states, n_actions) pmf of the target policy
    features: Floats  # (n_states, n_actions, d)

    def __post_init__(self) -> None:
        require_shape(self.state.shape, state=self.state, action=self.action, after=self.after)
        require_shape(self.features.shape[:2], target=self.target)
        n_states, n_actions = self.target.shape
        for name, codes, end in (
            ("state", self.state, n_states),
            ("state after", self.after, n_states),
            ("action", self.action, n_actions),
        ):
            require((codes >= 0) & (codes < end), name, f"in [0, {end})", codes)
        require(np.isfinite(self.features), "feature", "finite", self.features)
        totals = self.target.sum(axis=1)
        is_pmf = (np.abs(totals - 1.0) <= 1e-9) & (self.target >= 0.0).all(axis=1)
        require(is_pmf, "the target's pmf", "at least 0 and sum to 1", totals)

    @property
    def pair(self) -> Ints:
        """The code of each step's state and action, shape (n,)."""
        pair: Ints = self.state * self.target.shape[1] + self.action
        return pair

    def design(self) -> Floats:
        """Return the features of every pair, shape (n_states * n_actions, d)."""
        return self.features.reshape(-1, self.features.shape[2])

    def state_values(self, q: Floats) -> Floats:
        """Return v(s) for q of shape (n_states, n_actions), shape (n_states,)."""
        return np.asarray((self.target * q).sum(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """Episodes of logged steps with the target's probabilities, one row per step.

    Raises:
        ValueError: no step, an episode without steps or not contiguous, columns of different
            lengths, or a value out of range.
    """

    user: Ints  # (m,) at least 0, code of each episode's user
    episode: Ints  # (n,) from 0 to m - 1, in order
    reward: Floats  # (n,) finite
    propensity: Floats  # (n,) in (0, 1]
    target: Floats  # (n,) in [0, 1]
    discount: Floats  # (n,) in [0, 1], of what follows the step; 0 where nothing does

    def __post_init__(self) -> None:
        require_shape((len(self.user),), user=self.user)
        rows = (len(self.reward),)
        require_shape(rows, episode=self.episode, propensity=self.propensity)
        require_shape(rows, target=self.target, discount=self.discount)
        require(self.user >= 0, "user code", "at least 0", self.user)
        jumps = np.diff(self.episode, prepend=-1)
        in_order = (jumps == 0) | (jumps == 1)
        require(in_order, "episode", "the one before or the next one", self.episode)
        if self.episode[-1] != len(self.user) - 1:
            raise ValueError(
                f"expected steps of {len(self.user)} episodes, got {self.episode[-1] + 1}"
            )
        require(np.isfinite(self.reward), "reward", "finite", self.reward)
        require_propensities(self.propensity, self.target)
        in_range = (self.discount >= 0.0) & (self.discount <= 1.0)
        require(in_range, "discount", "in [0, 1]", self.discount)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def weights(self) -> Floats:
        """The importance weight of each step, shape (n,)."""
        return self.target / self.propensity

    @property
    def first(self) -> Ints:
        """The row of each episode's first step, shape (m,)."""
        return np.flatnonzero(np.diff(self.episode, prepend=-1))

    @property
    def lengths(self) -> Ints:
        """The number of steps of each episode, shape (m,)."""
        return np.bincount(self.episode, minlength=len(self.user))

    def sums(self, terms: Floats) -> Floats:
        """Return the sums of terms of shape (n,) by episode, shape (m,)."""
        return np.bincount(self.episode, weights=terms, minlength=len(self.user)).astype(np.float64)

    def products(self, factors: Floats) -> Floats:
        """Return the products of factors within each episode up to each step, shape (n,).

        It advances step by step over all ongoing episodes, since logarithms would not allow zeros.
        """
        order = np.argsort(-self.lengths, kind="stable")
        first, lengths = self.first[order], self.lengths[order]
        products = factors.copy()
        going_on = np.searchsorted(-lengths, -np.arange(1, lengths[0]), side="left")
        for step, n_going_on in enumerate(going_on.tolist(), start=1):
            rows = first[:n_going_on] + step
            products[rows] *= products[rows - 1]
        return products

    @property
    def past_discounts(self) -> Floats:
        """The product G_t of the discounts before each step, shape (n,)."""
        before = np.roll(self.discount, 1)
        before[self.first] = 1.0
        return self.products(before)


@dataclass(frozen=True, slots=True, eq=False)
class StepValues:
    """Predicted returns under the target, by a model not fitted on the episode's user.

    Raises:
        ValueError: no step, columns of different lengths, or a value that is not finite.
    """

    chosen: Floats  # (n,) q of the logged action: its reward and, discounted, all that follows
    before: Floats  # (n,) q, mean over the target's pmf, in the state before the step
    after: Floats  # (n,) the same in the state after it; of no matter where the discount is 0

    def __post_init__(self) -> None:
        shape = self.chosen.shape
        require_shape(shape, chosen=self.chosen, before=self.before, after=self.after)
        for column in (self.chosen, self.before, self.after):
            require(np.isfinite(column), "predicted value", "finite", column)


def logged_return(trajectories: Trajectories, level: float = LEVEL) -> Estimate:
    """Return the mean return of the logging policy's own episodes, mean(sum_t G_t r_t)."""
    terms = trajectories.sums(trajectories.past_discounts * trajectories.reward)
    return _mean("logged", terms, trajectories, float(len(trajectories)), level)


def pdis(trajectories: Trajectories, level: float = LEVEL) -> Estimate:
    """Return per-decision importance sampling.

    mean(sum_t G_t rho_t r_t) (Precup, Sutton and Singh, "Eligibility Traces for Off-Policy Policy
    Evaluation", ICML 2000).

    Unbiased if the propensities are exact and positive wherever the target's are; assumes no Markov
    state. The variance is finite only if E[w^2] times the probability that an episode continues is
    below 1. Above it no log is long enough, and value and interval are mostly too low (the large
    products were not drawn). Episodes cut by the end of the log count as ended there.
    """
    rho = trajectories.products(trajectories.weights)
    terms = trajectories.sums(trajectories.past_discounts * rho * trajectories.reward)
    return _mean("pdis", terms, trajectories, _last_ess(trajectories, rho), level)


def wpdis(trajectories: Trajectories, level: float = LEVEL) -> Estimate:
    """Return weighted per-decision importance sampling, with each step divided by its mean weight.

    sum_t [ sum_i G_t rho_t r_t / sum_i rho_t ] (Precup, Sutton and Singh 2000; Thomas, "Safe
    Reinforcement Learning", 2015). An episode that has ended keeps its last rho in the denominator,
    since the mean is over all episodes.

    Consistent where pdis is unbiased, biased of order 1/m, and bounded by the rewards, so the error
    is smaller if few episodes carry the weight. The influence is that of a sum of ratios (delta
    method).

    Raises:
        ValueError: the target could have made no logged episode's first steps.
    """
    rho = trajectories.products(trajectories.weights)
    step = np.arange(len(rho)) - trajectories.first[trajectories.episode]
    last = trajectories.first + trajectories.lengths - 1
    totals = _weights_at_steps(trajectories, rho, step, last)
    if (totals <= 0.0).any():
        raise ValueError(
            f"wpdis needs an episode that the target could make, got none of "
            f"{len(trajectories)} at step {int(np.argmax(totals <= 0.0))}"
        )
    terms = trajectories.past_discounts * rho * trajectories.reward
    means = np.bincount(step, weights=terms) / totals
    expected = np.cumsum(means / totals)  # the deduction for a weight of 1 from the first step on
    ended = rho[last] * (expected[-1] - expected[trajectories.lengths - 1])
    moved = trajectories.sums((terms - rho * means[step]) / totals[step]) - ended
    influence = moved * len(trajectories)
    ess = _last_ess(trajectories, rho)
    value = float(means.sum())
    return clustered_estimate("wpdis", value, influence, trajectories.user, ess, level)


def dr_rl(trajectories: Trajectories, values: StepValues, level: float = LEVEL) -> Estimate:
    """Return the doubly robust estimator for sequences.

    mean(V_0), V_t = v(s_t) + w_t (r_t + discount_t V_{t+1} - q(s_t, a_t)) from the last step back
    (Jiang and Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning", ICML
    2016); forwards: v(s_0) + sum_t G_t rho_t (r_t + discount_t v(s_{t+1}) - q).

    Unbiased if the propensities are exact and positive wherever the target's are, or if the values
    are right; for an episode cut by the end of the log, only if v is right about its future. Less
    noisy than pdis where the values explain the future, but equally sensitive to the products.
    Values fitted on the users they score make the interval too narrow.
    """
    require_shape(trajectories.reward.shape, chosen=values.chosen)
    rho = trajectories.products(trajectories.weights)
    surprise = trajectories.reward + trajectories.discount * values.after - values.chosen
    corrections = trajectories.sums(trajectories.past_discounts * rho * surprise)
    terms = values.before[trajectories.first] + corrections
    return _mean("dr-rl", terms, trajectories, _last_ess(trajectories, rho), level)


def _weights_at_steps(trajectories: Trajectories, rho: Floats, step: Ints, last: Ints) -> Floats:
    """Return the sum of rho over all episodes at each step, including ended ones."""
    alive = np.bincount(step, weights=rho)
    ends = np.bincount(trajectories.lengths, weights=rho[last], minlength=len(alive) + 1)
    return np.asarray(alive + np.cumsum(ends)[: len(alive)])


def _mean(name: str, terms: Floats, of: Trajectories, ess: float, level: float) -> Estimate:
    return ratio_estimate(name, [SumRatio(terms, np.ones(len(terms)))], of.user, ess, level)


def _last_ess(trajectories: Trajectories, rho: Floats) -> float:
    """Return the effective sample size, in episodes, of the episodes' final weights."""
    return effective_sample_size(rho[trajectories.first + trajectories.lengths - 1])
