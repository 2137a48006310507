"""Fitted Q evaluation against values that are solved for, and against its own limit."""

import dataclasses

import numpy as np
import pytest
from chains import FAR, LOGGING, NEAR, ChainLog, draw_chain, exact_q, exact_value

from env.vocabulary import Floats
from replay.estimators.fqe import (
    Predict,
    Ridge,
    cross_fitted_values,
    fitted_q,
    fqe,
    ridge_fqe,
    ridge_q,
)
from replay.estimators.trajectories import dr_rl, pdis

LOG = draw_chain(1_500, seed=3)


class Table:
    """The mean of each distinct row of features: a function class that is no ridge."""

    def fit(self, features: Floats, targets: Floats, counts: Floats) -> Predict:
        known = {row.tobytes(): float(value) for row, value in zip(features, targets, strict=True)}
        return lambda new: np.array([known.get(row.tobytes(), 0.0) for row in new])


@pytest.mark.parametrize("target", [LOGGING, NEAR, FAR])
def test_fqe_is_within_standard_errors_of_the_exact_value(target: Floats) -> None:
    estimate = ridge_fqe(LOG.trajectories(target), LOG.markov(target))
    assert abs(estimate.value - exact_value(target)) <= 3.0 * estimate.se
    assert estimate.low < estimate.value < estimate.high
    assert (estimate.n, estimate.n_users) == (1_500, 750)


def test_the_further_the_target_the_fewer_effective_steps() -> None:
    sizes = [
        ridge_fqe(LOG.trajectories(target), LOG.markov(target)).ess
        for target in (LOGGING, NEAR, FAR)
    ]
    assert len(LOG.state) * 1.01 > sizes[0] > sizes[1] > sizes[2]


def test_iterated_regression_tends_to_the_linear_system() -> None:
    trajectories, steps = LOG.trajectories(FAR), LOG.markov(FAR)
    q = fitted_q(trajectories, steps, Ridge(5.0), tolerance=1e-10)
    assert q == pytest.approx(ridge_q(trajectories, steps, 5.0), abs=1e-6)
    assert ridge_q(trajectories, steps, 1e-6) == pytest.approx(exact_q(FAR), abs=0.8)


def test_any_function_class_will_do_and_users_are_resampled_for_its_error() -> None:
    trajectories, steps = LOG.trajectories(FAR), LOG.markov(FAR)
    theirs = ridge_fqe(trajectories, steps, 1e-6)
    mine = fqe(trajectories, steps, Table(), n_resamples=60)
    assert mine.value == pytest.approx(theirs.value, abs=1e-3)
    # The standard deviation of 60 resamples is known to about 9%.
    assert mine.se == pytest.approx(theirs.se, rel=0.3)


def test_a_class_that_cannot_hold_q_is_biased_beyond_its_interval() -> None:
    steps = LOG.markov(FAR)
    blind = dataclasses.replace(steps, features=np.zeros((*steps.target.shape, 1)))
    estimate = ridge_fqe(LOG.trajectories(FAR), blind)
    assert abs(estimate.value - exact_value(FAR)) > 5.0 * estimate.se


def test_values_of_a_user_come_from_other_users() -> None:
    trajectories, steps = LOG.trajectories(NEAR), LOG.markov(NEAR)
    mine = (trajectories.user == 7)[trajectories.episode]
    moved = dataclasses.replace(trajectories, reward=trajectories.reward + 100.0 * mine)
    before, after = cross_fitted_values(trajectories, steps), cross_fitted_values(moved, steps)
    assert before.chosen[mine] == pytest.approx(after.chosen[mine])
    other_fold = (trajectories.user % 5 != 7 % 5)[trajectories.episode]
    assert (before.chosen[other_fold] != after.chosen[other_fold]).all()


def test_errors_are_ordered_as_what_is_assumed_is() -> None:
    trajectories, steps = LOG.trajectories(FAR), LOG.markov(FAR)
    doubly = dr_rl(trajectories, cross_fitted_values(trajectories, steps))
    products, fitted = pdis(trajectories), ridge_fqe(trajectories, steps)
    assert fitted.se < doubly.se < products.se
    assert abs(doubly.value - exact_value(FAR)) <= 3.0 * doubly.se


@pytest.mark.slow
def test_rounds_that_do_not_settle_are_refused() -> None:
    log = dataclasses.replace(LOG, discount=np.ones(len(LOG.state)))
    with pytest.raises(ValueError, match="expected values that settle"):
        fitted_q(log.trajectories(NEAR), log.markov(NEAR), Table(), tolerance=1e-12)


def test_everybody_in_one_fold_is_refused() -> None:
    one = alone(LOG)
    with pytest.raises(ValueError, match="got 5 folds and 1 users"):
        cross_fitted_values(one.trajectories(NEAR), one.markov(NEAR))


def test_an_error_by_resampling_needs_two_users() -> None:
    one = alone(LOG)
    with pytest.raises(ValueError, match="episodes of at least 2 users, got 1"):
        fqe(one.trajectories(NEAR), one.markov(NEAR))


def alone(log: ChainLog) -> ChainLog:
    return dataclasses.replace(log, user=np.zeros_like(log.user))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.full_like(LOG.state, 3)}, r"state must be in \[0, 3\), got 3 in row 0"),
        ({"action": np.full_like(LOG.state, -1)}, r"action must be in \[0, 2\), got -1 in row 0"),
        ({"target": np.full((3, 2), 0.4)}, "pmf must be at least 0 and sum to 1, got 0.8 in row 0"),
        ({"after": LOG.after[:-1]}, "expected after of shape"),
    ],
)
def test_steps_that_are_not_in_the_table_are_refused(
    changes: dict[str, Floats], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LOG.markov(NEAR), **changes)  # type: ignore[arg-type]
