"""Marginal-ratio estimators: weights of where a policy gets to, in place of how it got there.

Per-decision weights multiply along an episode. If what follows depends on a state c and the action
alone, only the chance to be in c matters: with d(c) the discounted expected number of steps that an
episode spends in c,

    V = sum_c d_target(c) E[w r | c] = E[ sum_t G_t (d_target / d_logged)(c_t) w_t r_t ],

whose weights do not grow with the length. Liu, Li, Tang and Zhou, "Breaking the Curse of Horizon:
Infinite-Horizon Off-Policy Estimation", NeurIPS 2018; for states that can be counted, Xie, Ma and
Wang, "Towards Optimal Off-Policy Evaluation for Reinforcement Learning with Marginalized Importance
Sampling", NeurIPS 2019. The state is coarse (a level of satisfaction by cohort, say), so that each
has many steps; d is then solved from the logged moves between states, a linear system.

Rejected: ratios trained as saddle points (DualDICE, MWL), which for a table of states have this
solution, and for anything else need tuning that no log can check.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.checks import require, require_shape
from replay.intervals import LEVEL, Estimate, clustered_estimate, effective_sample_size
from replay.ratios import Ratio, ratio_estimate
from replay.trajectories import Trajectories, Values


@dataclass(frozen=True, slots=True, eq=False)
class CoarseStates:
    """A coarse state before and after each step of Trajectories.

    Raises:
        ValueError: columns of different length, or a code below 0.
    """

    before: Ints  # (n,) code, at least 0
    after: Ints  # (n,) of the next step; any where the discount is 0

    def __post_init__(self) -> None:
        require_shape((len(self.before),), before=self.before, after=self.after)
        require(self.before >= 0, "state before", "at least 0", self.before)
        require(self.after >= 0, "state after", "at least 0", self.after)

    @property
    def n_states(self) -> int:
        """One more than the largest code."""
        return 1 + int(max(self.before.max(), self.after.max()))


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """What the log says about where the target gets to.

    Attributes:
        ratio: of each step, shape (n,), action weight included: the mean over episodes of the sum
            of ratio times anything is its discounted expectation under the target. 0 for steps
            that were left out.
        value: of each coarse state under the target, shape (n_states,).
    """

    ratio: Floats
    value: Floats


def solve_marginals(trajectories: Trajectories, states: CoarseStates) -> Marginals:
    """Return the marginal ratios, by one linear system over the coarse states.

    Moves and rewards of a state are means weighted by w, divided by the sum of w: so where a state
    has few steps, its chances still sum to 1. Steps into a state are left out if what follows is
    unknown: the log has no steps of the target that lead from there to an end or a discount.

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
    return Marginals(visits[states.before] * share, value)


def mis(trajectories: Trajectories, states: CoarseStates, level: float = LEVEL) -> Estimate:
    """Return marginalised importance sampling over coarse states.

    sum_c d_target(c) sum_{i in c} w_i r_i / sum_{i in c} w_i, with d_target from the logged moves
    (Xie, Ma and Wang 2019, without their time index). The influence of an episode is
    V(c_0) - V + sum_t ratio_t (r_t + discount_t V(c_{t+1}) - V(c_t)).

    Consistent where rewards and moves depend on the coarse state and the action alone, however
    long episodes are; `ess` is that of the ratios, in steps. Biased by what the coarse state hides:
    users of one state who differ in what follows. Of two that disagree beyond their intervals,
    the finer state is the better one.
    """
    marginals = solve_marginals(trajectories, states)
    v, ratio = marginals.value, marginals.ratio
    surprise = trajectories.reward + trajectories.discount * v[states.after] - v[states.before]
    starts = v[states.before[trajectories.first]]
    influence = starts - starts.mean() + trajectories.sums(ratio * surprise)
    value, ess = float(starts.mean()), effective_sample_size(ratio)
    return clustered_estimate("mis", value, influence, trajectories.user, ess, level)


def marginal_dr(
    trajectories: Trajectories, states: CoarseStates, values: Values, level: float = LEVEL
) -> Estimate:
    """Return the doubly robust estimator with marginal ratios (double reinforcement learning).

    mean(v(s_0) + sum_t ratio_t (r_t + discount_t v(s_{t+1}) - q(s_t, a_t))) (Kallus and Uehara,
    "Double Reinforcement Learning for Efficient Off-Policy Evaluation in Markov Decision
    Processes", JMLR 2020).

    Consistent if the coarse state suffices or the values are right, and then of the least variance
    that any regular estimator has in a Markov process. Values must come from other users
    (`replay.fqe.cross_fitted_values`); the ratios of a coarse state are too few to overfit.
    """
    require_shape(trajectories.reward.shape, chosen=values.chosen)
    ratio = solve_marginals(trajectories, states).ratio
    surprise = trajectories.reward + trajectories.discount * values.after - values.chosen
    corrections = trajectories.sums(ratio * surprise)
    terms = Ratio(values.before[trajectories.first] + corrections, np.ones(len(trajectories)))
    ess = effective_sample_size(ratio)
    return ratio_estimate("marginal dr", [terms], trajectories.user, ess, level)


def _solve(moves: Floats, start: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """Return visits and values of the states that are come by, 0 for others, both (n_states,)."""
    reached = _closure(start > 0.0, moves > 0.0)
    system = np.eye(int(reached.sum())) - moves[np.ix_(reached, reached)]
    visits, value = np.zeros(len(start)), np.zeros(len(start))
    visits[reached] = np.linalg.solve(system.T, start[reached])
    value[reached] = np.linalg.solve(system, gains[reached])
    return visits, value


def _usable(trajectories: Trajectories, states: CoarseStates) -> Bools:
    """Return which steps are from a state that is known and into one, or into none, shape (n,).

    A state is known if steps that the target could take lead from it to an end or a discount: from
    others, visits would never stop.
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
    """Return which states are reached, or can be from them along edges of shape (from, to)."""
    while True:
        further: Bools = reached | edges[reached].any(axis=0)
        if np.array_equal(further, reached):
            return reached
        reached = further
