"""Marginal-ratio estimators: weights of the states that a policy reaches, not of its path there.

If the future depends only on a coarse state c and the action, V = E[ sum_t G_t (d_target /
d_logged)(c_t) w_t r_t ] with d(c) the discounted expected visits (Liu, Li, Tang and Zhou, NeurIPS
2018). These weights do not grow with episode length. Derivation and sources:
`docs/decisions/sequence-estimators.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.pages.lives import LifeReward, Lives
from env.vocabulary import Bools, Floats, Ints
from replay.estimators.intervals import (
    LEVEL,
    Estimate,
    clustered_estimate,
    effective_sample_size,
    require,
    require_shape,
)
from replay.estimators.ratios import SumRatio, ratio_estimate
from replay.estimators.trajectories import StepValues, Trajectories


@dataclass(frozen=True, slots=True, eq=False)
class CoarseStates:
    """A coarse state before and after each step of Trajectories, checked on construction."""

    before: Ints  # (n,) code, at least 0
    after: Ints  # (n,) of the next step; any where the discount is 0

    def __post_init__(self) -> None:
        require_shape((len(self.before),), before=self.before, after=self.after)
        require(self.before >= 0, "state before", "at least 0", self.before)
        require(self.after >= 0, "state after", "at least 0", self.after)

    @property
    def n_states(self) -> int:
        """The largest code plus 1."""
        return 1 + int(max(self.before.max(), self.after.max()))


@dataclass(frozen=True, slots=True, eq=False)
class MarginalRatios:
    """Marginal ratios of the target, as solved from the log.

    The mean over episodes of the sum of ratio times a quantity is its discounted expectation under
    the target. Ratios include the action weight, and are 0 for steps that were left out.
    """

    ratio: Floats  # (n,) of each step
    value: Floats  # (n_states,) of each coarse state under the target


def solve_marginals(trajectories: Trajectories, states: CoarseStates) -> MarginalRatios:
    """Return the marginal ratios, from one linear system over the coarse states.

    A state's moves and rewards are means weighted by w and divided by the sum of w, so that its
    transition probabilities sum to 1 even with few steps. Steps into a state without known
    continuation are left out: from there the log has no steps of the target to an end or a
    discount.

    Raises:
        ValueError: an episode starts in such a state.
    """
    require_shape(trajectories.reward.shape, before=states.before)
    n_states, usable = states.n_states, _usable(trajectories, states)
    weight = np.where(usable, trajectories.weights, 0.0)
    total = np.bincount(states.before, weights=weight, minlength=n_states)
    start = np.bincount(states.before[trajectories.first], minlength=n_states)
    unknown = (start > 0) & (total <= 0.0)
    if unknown.any():
        raise ValueError(
            f"an episode starts in state {int(np.argmax(unknown))}, from which "
            "the log has no steps of the target to an end or a discount; take coarser states"
        )
    share = weight / np.where(total > 0.0, total, 1.0)[states.before]
    moves = np.bincount(
        states.before * n_states + states.after,
        weights=share * trajectories.discount,
        minlength=n_states**2,
    ).astype(np.float64)
    gains = np.bincount(states.before, weights=share * trajectories.reward, minlength=n_states)
    visits, value = _solve(
        moves.reshape(n_states, n_states), start.astype(np.float64), gains.astype(np.float64)
    )
    return MarginalRatios(visits[states.before] * share, value)


def mis(trajectories: Trajectories, states: CoarseStates, level: float = LEVEL) -> Estimate:
    """Return marginalised importance sampling over coarse states.

    sum_c d_target(c) sum_{i in c} w_i r_i / sum_{i in c} w_i, with d_target from the logged moves
    (Xie, Ma and Wang 2019, without their time index). The influence of an episode is V(c_0) - V +
    sum_t ratio_t (r_t + discount_t V(c_{t+1}) - V(c_t)).

    Consistent where rewards and moves depend only on the coarse state and the action, for episodes
    of any length; `ess`, in steps, is that of the ratios. Biased if users in one state differ in
    their future. If two states disagree beyond their intervals, prefer the finer one.
    """
    marginals = solve_marginals(trajectories, states)
    v, ratio = marginals.value, marginals.ratio
    surprise = trajectories.reward + trajectories.discount * v[states.after] - v[states.before]
    starts = v[states.before[trajectories.first]]
    influence = starts - starts.mean() + trajectories.sums(ratio * surprise)
    value, ess = float(starts.mean()), effective_sample_size(ratio)
    return clustered_estimate("mis", value, influence, trajectories.user, ess, level)


def marginal_dr(
    trajectories: Trajectories, states: CoarseStates, values: StepValues, level: float = LEVEL
) -> Estimate:
    """Return the doubly robust estimator with marginal ratios (double reinforcement learning).

    mean(v(s_0) + sum_t ratio_t (r_t + discount_t v(s_{t+1}) - q(s_t, a_t))) (Kallus and Uehara,
    "Double Reinforcement Learning for Efficient Off-Policy Evaluation in Markov Decision
    Processes", JMLR 2020).

    Consistent if the coarse state suffices or the values are right; if both hold, of least variance
    among regular estimators in a Markov process. Values must come from other users
    (`replay.estimators.fqe.cross_fitted_values`); a coarse state's ratios are too few to overfit.
    """
    require_shape(trajectories.reward.shape, chosen=values.chosen)
    ratio = solve_marginals(trajectories, states).ratio
    surprise = trajectories.reward + trajectories.discount * values.after - values.chosen
    corrections = trajectories.sums(ratio * surprise)
    terms = SumRatio(values.before[trajectories.first] + corrections, np.ones(len(trajectories)))
    ess = effective_sample_size(ratio)
    return ratio_estimate("marginal dr", [terms], trajectories.user, ess, level)


def _solve(moves: Floats, start: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """Return visits and values of reached states, 0 for others, both (n_states,)."""
    reached = _closure(start > 0.0, moves > 0.0)
    system = np.eye(int(reached.sum())) - moves[np.ix_(reached, reached)]
    visits, value = np.zeros(len(start)), np.zeros(len(start))
    visits[reached] = np.linalg.solve(system.T, start[reached])
    value[reached] = np.linalg.solve(system, gains[reached])
    return visits, value


def _usable(trajectories: Trajectories, states: CoarseStates) -> Bools:
    """Return the mask of steps from a known state into a known one or an end, shape (n,).

    A state is known if possible steps of the target lead from it to an end or a discount; from
    other states, visits would never stop.
    """
    n_states = states.n_states
    possible, ends = trajectories.weights > 0.0, trajectories.discount == 0.0
    known: Bools = np.ones(n_states, dtype=np.bool_)
    while True:
        usable: Bools = known[states.before] & (known[states.after] | ends)
        taken = usable & possible
        stops = np.zeros(n_states, dtype=np.bool_)
        stops[states.before[taken & (trajectories.discount < 1.0)]] = True
        back = np.zeros((n_states, n_states), dtype=np.bool_)
        back[states.after[taken & ~ends], states.before[taken & ~ends]] = True
        still = _closure(stops, back)
        if np.array_equal(still, known):
            return usable
        known = still


def _closure(reached: Bools, edges: Bools) -> Bools:
    """Return the states that are reached, or reachable along edges of shape (from, to)."""
    while True:
        further: Bools = reached | edges[reached].any(axis=0)
        if np.array_equal(further, reached):
            return reached
        reached = further


MOST_CARDS = 60
"""Position in a session beyond which all cards share one state."""


def session_trajectories(lives: Lives, pmfs: Floats, reward: LifeReward) -> Trajectories:
    """Return the sessions of lives, each an episode of its own.

    Args:
        pmfs: the target's pmf at each step, shape (n, K).
        reward: reward of a card and of a return.
    """
    session = lives.session
    begins = np.flatnonzero(np.diff(session, prepend=-1))
    return Trajectories(
        user=np.asarray(lives.life[begins]),
        episode=session,
        reward=reward.rewards(lives),
        propensity=np.asarray(lives.propensity),
        target=lives.of_chosen(pmfs),
        discount=np.where(lives.leaves, 0.0, 1.0),
    )


def session_values(lives: Lives, pmfs: Floats, q: Floats) -> StepValues:
    """Return each step's values by a Q of other users; pmfs and q have shape (n, K)."""
    before = (pmfs * q).sum(axis=1)
    after = lives.after(before, np.zeros(lives.n_lives))
    return StepValues(lives.of_chosen(q), before, after)


def join_sessions(parts: Sequence[Trajectories]) -> Trajectories:
    """Return the sessions of several shards as one; the shards share no user."""
    n_users = np.cumsum([0, *(int(part.user.max()) + 1 for part in parts)])[:-1].tolist()
    n_sessions = np.cumsum([0, *(len(part) for part in parts)])[:-1].tolist()
    user, episode, *rest = (
        [getattr(part, name) for part in parts] for name in Trajectories.__slots__
    )
    return Trajectories(
        np.concatenate([code + first for code, first in zip(user, n_users, strict=True)]),
        np.concatenate([code + first for code, first in zip(episode, n_sessions, strict=True)]),
        *(np.concatenate(column) for column in rest),
    )


def join_values(parts: Sequence[StepValues]) -> StepValues:
    """Return the step values of several shards as one."""
    columns = ([getattr(part, name) for part in parts] for name in StepValues.__slots__)
    return StepValues(*(np.concatenate(column) for column in columns))


def session_gain(trajectories: Trajectories, values: StepValues, level: float = LEVEL) -> Estimate:
    """Return the paired gain of the target's sessions over the logged ones; `ess` is in cards.

    Args:
        values: fitted on other users.
        level: coverage of the interval.

    Raises:
        ValueError: the target could not have begun any session of the log.
    """
    require_shape(trajectories.reward.shape, chosen=values.chosen)
    place = np.arange(len(trajectories.reward)) - trajectories.first[trajectories.episode]
    states = CoarseStates(np.minimum(place, MOST_CARDS), np.minimum(place + 1, MOST_CARDS))
    ratio = solve_marginals(trajectories, states).ratio
    surprise = trajectories.reward + trajectories.discount * values.after - values.chosen
    terms = values.before[trajectories.first] + trajectories.sums(ratio * surprise)
    terms -= trajectories.sums(trajectories.reward)
    gain = [SumRatio(terms, np.ones(len(terms)))]
    return ratio_estimate(
        "session gain", gain, trajectories.user, effective_sample_size(ratio), level
    )
