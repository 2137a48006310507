"""Estimators and intervals against hand calculation, exact expectations and known truths."""

from collections.abc import Callable

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators import Columns, Predictions, dm, dr, dr_gain, ips, logged, snips
from replay.intervals import (
    Estimate,
    clustered_estimate,
    clustered_se,
    effective_sample_size,
    t_quantile,
)


def columns(**changes: object) -> Columns:
    """Four decisions of three people."""
    values: dict[str, object] = {
        "user": np.array([0, 0, 1, 2]),
        "reward": np.array([1.0, 0.0, 2.0, 1.0]),
        "propensity": np.array([0.5, 0.25, 0.5, 0.2]),
        "target": np.array([0.25, 0.5, 0.5, 0.1]),
    }
    return Columns(**{**values, **changes})  # type: ignore[arg-type]


def predictions() -> Predictions:
    return Predictions(chosen=np.array([0.5, 0.5, 1.0, 1.0]), direct=np.array([0.6, 0.7, 0.8, 0.9]))


def test_estimates_are_those_of_a_hand_calculation() -> None:
    # weights .5, 2, 1, .5
    assert logged(columns()).value == pytest.approx(1.0)
    assert ips(columns()).value == pytest.approx((0.5 + 0.0 + 2.0 + 0.5) / 4)
    assert snips(columns()).value == pytest.approx(3.0 / 4.0)
    assert dm(columns(), predictions()).value == pytest.approx(0.75)
    correction = (0.5 * 0.5 - 2.0 * 0.5 + 1.0 * 1.0 + 0.0) / 4
    assert dr(columns(), predictions()).value == pytest.approx(0.75 + correction)


def test_a_standard_error_sums_a_persons_influences_before_it_squares_them() -> None:
    influence = np.array([0.5, 0.0, 2.0, 0.5]) - 0.75
    by_person = np.array([-0.25 - 0.75, 1.25, -0.25])
    expected = np.sqrt(3 / 2 * (by_person**2).sum()) / 4
    assert ips(columns()).se == pytest.approx(expected)
    assert clustered_se(influence, np.array([5, 5, 9, 2])) == pytest.approx(expected)


def test_with_one_decision_a_person_the_error_is_the_usual_one() -> None:
    rewards = np.random.default_rng(1).normal(size=50)
    se = clustered_se(rewards - rewards.mean(), np.arange(50))
    assert se == pytest.approx(rewards.std(ddof=1) / np.sqrt(50))


def test_estimates_carry_how_many_decisions_and_people_they_rest_on() -> None:
    estimate = ips(columns(), level=0.9)
    assert (estimate.n, estimate.n_users, estimate.level) == (4, 3, 0.9)
    assert estimate.ess == pytest.approx(4.0**2 / (0.25 + 4.0 + 1.0 + 0.25))
    half = t_quantile(0.9, 2) * estimate.se
    assert (estimate.low, estimate.high) == (estimate.value - half, estimate.value + half)


@pytest.mark.parametrize(
    ("level", "dof", "expected"),
    # Quantiles of Student's t from the tables.
    [(0.95, 4, 2.776), (0.95, 10, 2.228), (0.95, 30, 2.042), (0.90, 10, 1.812), (0.99, 30, 2.750)],
)
def test_t_quantiles_are_those_of_the_tables(level: float, dof: int, expected: float) -> None:
    assert t_quantile(level, dof) == pytest.approx(expected, abs=1e-3)


def enumerated(model: Floats) -> tuple[Columns, Predictions, float]:
    """Every action of four contexts as often as the logging policy draws it: an expectation."""
    logging, target = np.array([0.25, 0.25, 0.5]), np.array([0.7, 0.1, 0.2])
    rewards = np.arange(12.0).reshape(4, 3) ** 1.5  # (context, action)
    context, action = np.repeat(np.arange(4), 4), np.tile([0, 1, 2, 2], 4)
    made = Columns(
        user=context,
        reward=rewards[context, action],
        propensity=logging[action],
        target=target[action],
    )
    predicted = Predictions(chosen=model[context, action], direct=(model @ target)[context])
    return made, predicted, float((rewards @ target).mean())


@pytest.mark.parametrize("wrong_by", [0.0, 1.0, -30.0])
def test_in_expectation_ips_snips_and_dr_are_the_truth_whatever_the_model(wrong_by: float) -> None:
    model = np.arange(12.0).reshape(4, 3) ** 1.5 + wrong_by * np.arange(3)
    made, predicted, truth = enumerated(model)
    assert ips(made).value == pytest.approx(truth, rel=1e-12)
    assert snips(made).value == pytest.approx(truth, rel=1e-12)
    assert dr(made, predicted).value == pytest.approx(truth, rel=1e-12)
    is_right = dm(made, predicted).value == pytest.approx(truth, rel=1e-12)
    assert is_right == (wrong_by == 0.0)


def test_dr_with_a_right_model_is_the_truth_even_with_wrong_propensities() -> None:
    made, predicted, truth = enumerated(np.arange(12.0).reshape(4, 3) ** 1.5)
    wrong = Columns(made.user, made.reward, np.full(len(made), 0.9), made.target)
    assert dr(wrong, predicted).value == pytest.approx(truth, rel=1e-12)
    assert ips(wrong).value != pytest.approx(truth, rel=0.1)


def test_snips_does_not_depend_on_where_the_rewards_zero_lies() -> None:
    moved = columns(reward=columns().reward + 100.0)
    assert snips(moved).value == pytest.approx(snips(columns()).value + 100.0)
    assert snips(moved).se == pytest.approx(snips(columns()).se)
    assert ips(moved).se > 10 * ips(columns()).se


# --- coverage -------------------------------------------------------------------------------------

LOGGING = np.array([0.4, 0.3, 0.2, 0.1])
TARGET = np.array([0.1, 0.2, 0.3, 0.4])
BASE = np.array([0.2, 0.3, 0.4, 0.5])  # a person's taste moves all four alike


def drawn_log(rng: np.random.Generator) -> tuple[Columns, Predictions, float]:
    """150 people with their own tastes, 1 to 7 decisions each; a model that is wrong."""
    user = np.repeat(np.arange(150), rng.integers(1, 8, size=150))
    taste = rng.choice([-0.15, 0.15], size=150)[user]
    action = rng.choice(4, size=len(user), p=LOGGING)
    reward = (rng.random(len(user)) < BASE[action] + taste).astype(np.float64)
    model = np.array([0.3, 0.3, 0.3, 0.6])
    made = Columns(user, reward, LOGGING[action], TARGET[action])
    direct = np.full(len(user), model @ TARGET)
    return made, Predictions(model[action], direct), float(BASE @ TARGET)


ESTIMATORS: dict[str, Callable[[Columns, Predictions], Estimate]] = {
    "ips": lambda made, _: ips(made),
    "snips": lambda made, _: snips(made),
    "dr": dr,
    "gain": dr_gain,
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover_the_truth_as_often_as_they_say(name: str) -> None:
    rng = np.random.default_rng(20220430)
    n_logs, errors, covered = 500, [], 0
    for _ in range(n_logs):
        made, predicted, truth = drawn_log(rng)
        truth -= BASE @ LOGGING if name == "gain" else 0.0
        estimate = ESTIMATORS[name](made, predicted)
        errors.append(estimate.value - truth)
        covered += estimate.low <= truth <= estimate.high
    coverage_se = np.sqrt(0.95 * 0.05 / n_logs)
    assert abs(covered / n_logs - 0.95) <= 3 * coverage_se
    assert abs(np.mean(errors)) <= 3 * np.std(errors) / np.sqrt(n_logs)


def test_a_gain_is_surer_than_two_values_apart_where_people_differ() -> None:
    made, predicted, _ = drawn_log(np.random.default_rng(3))
    gain, apart = dr_gain(made, predicted), (dr(made, predicted), logged(made))
    assert gain.value == pytest.approx(apart[0].value - apart[1].value)
    assert gain.se < 0.95 * np.hypot(apart[0].se, apart[1].se)


def test_a_policy_gains_nothing_over_itself_and_is_sure_of_it() -> None:
    made, predicted, _ = drawn_log(np.random.default_rng(3))
    same = Columns(made.user, made.reward, made.propensity, made.propensity)
    unaware = Predictions(np.zeros(len(made)), np.zeros(len(made)))
    assert (dr_gain(same, unaware).value, dr_gain(same, unaware).se) == (0.0, 0.0)
    model = np.array([0.3, 0.3, 0.3, 0.6])  # `drawn_log`'s
    guessing = Predictions(predicted.chosen, np.full(len(made), model @ LOGGING))
    assert abs(dr_gain(same, guessing).value) < 3 * dr_gain(same, guessing).se


def test_intervals_that_forget_the_person_are_too_narrow_where_people_differ() -> None:
    made, _, _ = drawn_log(np.random.default_rng(3))
    alone = Columns(np.arange(len(made)), made.reward, made.propensity, made.target)
    assert logged(alone).se < logged(made).se


def test_the_interval_of_the_direct_method_knows_nothing_of_the_models_error() -> None:
    made, predicted, truth = drawn_log(np.random.default_rng(4))
    estimate = dm(made, predicted)
    assert estimate.se == pytest.approx(0.0, abs=1e-12)
    assert abs(estimate.value - truth) > 0.01


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": np.array([0.5, 0.0, 0.5, 0.2])}, r"propensity .* got 0.0 in row 1"),
        ({"propensity": np.array([0.5, 0.5, 1.5, 0.2])}, r"propensity .* got 1.5 in row 2"),
        ({"propensity": np.array([np.nan, 0.5, 0.5, 0.2])}, r"propensity .* got nan in row 0"),
        ({"target": np.array([0.5, 0.5, 0.5, 1.2])}, r"target .* got 1.2 in row 3"),
        ({"target": np.array([-0.1, 0.5, 0.5, 0.2])}, r"target .* got -0.1 in row 0"),
        ({"reward": np.array([0.5, np.nan, 0.5, 0.2])}, r"reward .* got nan in row 1"),
        ({"reward": np.array([np.inf, 0.1, 0.5, 0.2])}, r"reward .* got inf in row 0"),
        ({"user": np.array([0, -1, 2, 3])}, r"user code .* got -1 in row 1"),
        ({"reward": np.array([1.0])}, r"columns of one length"),
    ],
)
def test_columns_refuse_what_no_estimate_can_stand_on(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        columns(**changes)


def test_predictions_must_be_finite_and_of_the_same_length() -> None:
    with pytest.raises(ValueError, match="predicted reward must be finite"):
        Predictions(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="columns of one length"):
        dr(columns(), Predictions(np.ones(3), np.ones(3)))


def test_no_decision_is_no_estimate() -> None:
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="at least 1"):
        Columns(empty.astype(np.int64), empty, empty, empty)


def test_one_person_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 people, got 1"):
        ips(columns(user=np.zeros(4, dtype=np.int64)))


def test_snips_refuses_a_target_that_never_agrees_with_the_log() -> None:
    nowhere = columns(target=np.zeros(4))
    assert ips(nowhere).value == 0.0
    assert effective_sample_size(nowhere.weights) == 0.0
    with pytest.raises(ValueError, match="the log cannot evaluate this policy"):
        snips(nowhere)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="level must be in"):
        clustered_estimate("ips", 0.0, np.zeros(2), np.array([0, 1]), 2.0, level)
