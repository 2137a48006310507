"""Marginal-ratio estimators against values that are solved for, and what a coarse state hides."""

import dataclasses

import numpy as np
import pytest
from chains import DISCOUNT, FAR, LOGGING, NEAR, ChainLog, draw_chain, exact_value

from env.vocabulary import Floats
from replay.estimators.fqe import cross_fitted_values
from replay.estimators.marginal import CoarseStates, marginal_dr, mis, solve_marginals
from replay.estimators.trajectories import StepValues, Trajectories, logged_return, pdis

LOG = draw_chain(1_500, seed=4)


def whole(log: ChainLog) -> CoarseStates:
    return CoarseStates(log.state, log.after)


def parity(log: ChainLog) -> CoarseStates:
    return CoarseStates(log.state % 2, log.after % 2)


@pytest.mark.parametrize("target", [NEAR, FAR])
def test_estimates_are_within_standard_errors_of_the_exact_value(target: Floats) -> None:
    trajectories = LOG.trajectories(target)
    values = cross_fitted_values(trajectories, LOG.markov(target))
    for estimate in (
        mis(trajectories, whole(LOG)),
        marginal_dr(trajectories, whole(LOG), values),
        marginal_dr(trajectories, parity(LOG), values),
    ):
        assert abs(estimate.value - exact_value(target)) <= 3.0 * estimate.se


def test_marginal_weights_are_less_noisy_than_products() -> None:
    trajectories = LOG.trajectories(FAR)
    mine, theirs = mis(trajectories, whole(LOG)), pdis(trajectories)
    assert mine.se < 0.6 * theirs.se
    assert mine.ess / len(LOG.state) > 3.0 * theirs.ess / len(trajectories)


def test_what_a_coarse_state_hides_is_a_bias_beyond_the_interval() -> None:
    estimate = mis(LOG.trajectories(FAR), parity(LOG))
    assert abs(estimate.value - exact_value(FAR)) > 3.0 * estimate.se


def test_the_logging_policys_own_value_is_that_of_the_log_whatever_the_state() -> None:
    undiscounted = dataclasses.replace(LOG, discount=(LOG.discount > 0.0).astype(np.float64))
    trajectories = undiscounted.trajectories(LOGGING)
    for states in (whole(LOG), parity(LOG)):
        mine = mis(trajectories, states)
        assert mine.value == pytest.approx(logged_return(trajectories).value)
        assert solve_marginals(trajectories, states).ratio == pytest.approx(np.ones(len(LOG.state)))


def test_ratios_are_the_discounted_visits_of_the_target() -> None:
    trajectories = LOG.trajectories(FAR)
    ratio = solve_marginals(trajectories, whole(LOG)).ratio
    # Steps begin with 1 an episode and go on by their discounts: a balance that holds exactly.
    begun = len(trajectories) + float((ratio * LOG.discount).sum())
    assert float(ratio.sum()) == pytest.approx(begun)


def test_marginal_dr_with_values_of_mis_is_mis() -> None:
    trajectories, states = LOG.trajectories(FAR), whole(LOG)
    value = solve_marginals(trajectories, states).value
    q = StepValues(value[LOG.state], value[LOG.state], value[LOG.after])
    assert marginal_dr(trajectories, states, q).value == pytest.approx(
        mis(trajectories, states).value
    )


def two_paths(target: Floats, after: list[int]) -> tuple[Trajectories, CoarseStates]:
    """Return four episodes of two steps, from state 0 to the given states."""
    episode = np.repeat(np.arange(4), 2)
    discount = np.tile([DISCOUNT, 0.0], 4)
    reward = np.tile([1.0, 2.0], 4)
    before = np.ravel([[0, state] for state in after])
    following = np.ravel([[state, 0] for state in after])
    half = np.full(8, 0.5)
    trajectories = Trajectories(np.arange(4), episode, reward, half, target, discount)
    return trajectories, CoarseStates(before, following)


def test_steps_into_states_that_the_target_never_acts_in_are_left_out() -> None:
    target = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.0])
    trajectories, states = two_paths(target, [1, 1, 2, 2])
    marginals = solve_marginals(trajectories, states)
    assert marginals.ratio[4:].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert mis(trajectories, states).value == pytest.approx(1.0 + DISCOUNT * 2.0)


def test_an_episode_that_starts_where_nothing_is_known_is_refused() -> None:
    trajectories, states = two_paths(np.tile([0.0, 0.5], 4), [1, 1, 2, 2])
    with pytest.raises(ValueError, match="an episode starts in state 0, from which the log has no"):
        mis(trajectories, states)


def test_states_without_a_way_out_are_no_states_to_start_in() -> None:
    trajectories, states = two_paths(np.full(8, 0.5), [0, 0, 0, 0])
    for_ever = dataclasses.replace(trajectories, discount=np.ones(8))
    with pytest.raises(ValueError, match="no steps of the target to an end or a discount"):
        mis(for_ever, states)


def test_a_state_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="state before must be at least 0, got -1 in row 0"):
        CoarseStates(np.array([-1]), np.array([0]))
