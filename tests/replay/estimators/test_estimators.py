"""Estimators and intervals against hand calculation, exact expectations and known truths."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import (
    ESTIMATORS,
    dm,
    dr,
    dr_gain,
    ips,
    logged,
    replay,
    sndr,
    snips,
)
from replay.estimators.intervals import (
    Estimate,
    clustered_se,
    effective_sample_size,
    hall_quantile,
    mean_skewness,
    t_quantile,
)


def columns(**changes: object) -> Columns:
    """Four decisions of three users."""
    values: dict[str, object] = {
        "user": np.array([0, 0, 1, 2]),
        "reward": np.array([1.0, 0.0, 2.0, 1.0]),
        "propensity": np.array([0.5, 0.25, 0.5, 0.2]),
        "target": np.array([0.25, 0.5, 0.5, 0.1]),
    }
    return Columns(**{**values, **changes})  # type: ignore[arg-type]


def predictions() -> RewardPredictions:
    return RewardPredictions(
        chosen=np.array([0.5, 0.5, 1.0, 1.0]), direct=np.array([0.6, 0.7, 0.8, 0.9])
    )


def test_estimates_are_those_of_a_hand_calculation() -> None:
    # weights .5, 2, 1, .5
    assert logged(columns()).value == pytest.approx(1.0)
    assert ips(columns()).value == pytest.approx((0.5 + 0.0 + 2.0 + 0.5) / 4)
    assert snips(columns()).value == pytest.approx(3.0 / 4.0)
    assert dm(columns(), predictions()).value == pytest.approx(0.75)
    correction = (0.5 * 0.5 - 2.0 * 0.5 + 1.0 * 1.0 + 0.0) / 4
    assert dr(columns(), predictions()).value == pytest.approx(0.75 + correction)
    assert sndr(columns(), predictions()).value == pytest.approx(0.75 + correction)  # mean weight 1


def test_a_standard_error_sums_a_users_influences_before_it_squares_them() -> None:
    influence = np.array([0.5, 0.0, 2.0, 0.5]) - 0.75
    by_user = np.array([-0.25 - 0.75, 1.25, -0.25])
    expected = np.sqrt(3 / 2 * (by_user**2).sum()) / 4
    assert ips(columns()).se == pytest.approx(expected)
    assert clustered_se(influence, np.array([5, 5, 9, 2])) == pytest.approx(expected)


def test_estimates_carry_how_many_decisions_and_users_they_rest_on() -> None:
    estimate = ips(columns(), level=0.9)
    assert (estimate.n, estimate.n_users, estimate.level) == (4, 3, 0.9)
    assert estimate.ess == pytest.approx(4.0**2 / (0.25 + 4.0 + 1.0 + 0.25))
    t, skewness = t_quantile(0.9, 2), mean_skewness(np.array([-0.25 - 0.75, 1.25, -0.25]))
    assert estimate.low == pytest.approx(estimate.value - hall_quantile(t, skewness) * estimate.se)
    assert estimate.high == pytest.approx(
        estimate.value - hall_quantile(-t, skewness) * estimate.se
    )


def enumerated(model: Floats) -> tuple[Columns, RewardPredictions, float]:
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
    predicted = RewardPredictions(chosen=model[context, action], direct=(model @ target)[context])
    return made, predicted, float((rewards @ target).mean())


@pytest.mark.parametrize("wrong_by", [0.0, 1.0, -30.0])
def test_in_expectation_ips_snips_and_dr_are_the_truth_whatever_the_model(wrong_by: float) -> None:
    model = np.arange(12.0).reshape(4, 3) ** 1.5 + wrong_by * np.arange(3)
    made, predicted, truth = enumerated(model)
    assert ips(made).value == pytest.approx(truth, rel=1e-12)
    assert snips(made).value == pytest.approx(truth, rel=1e-12)
    assert dr(made, predicted).value == pytest.approx(truth, rel=1e-12)
    assert sndr(made, predicted).value == pytest.approx(truth, rel=1e-12)
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
BASE = np.array([0.2, 0.3, 0.4, 0.5])  # a user's taste moves all four alike


def drawn_log(rng: np.random.Generator) -> tuple[Columns, RewardPredictions, float]:
    """150 users with their own tastes, 1 to 7 decisions each; a model that is wrong."""
    user = np.repeat(np.arange(150), rng.integers(1, 8, size=150))
    taste = rng.choice([-0.15, 0.15], size=150)[user]
    action = rng.choice(4, size=len(user), p=LOGGING)
    reward = (rng.random(len(user)) < BASE[action] + taste).astype(np.float64)
    model = np.array([0.3, 0.3, 0.3, 0.6])
    made = Columns(user, reward, LOGGING[action], TARGET[action])
    direct = np.full(len(user), model @ TARGET)
    return made, RewardPredictions(model[action], direct), float(BASE @ TARGET)


SEEDS = count()
COVERING: dict[str, Callable[[Columns, RewardPredictions], Estimate]] = {
    "replay": lambda made, _: replay(made, seed=next(SEEDS)),  # the same draws for all logs: biased
    "ips": lambda made, _: ips(made),
    "snips": lambda made, _: snips(made),
    "dr": dr,
    "sndr": sndr,
    "gain": dr_gain,
}


@pytest.mark.parametrize("name", COVERING)
def test_intervals_cover_the_truth_as_often_as_they_say(name: str) -> None:
    rng = np.random.default_rng(20220430)
    n_logs, errors, covered = 500, [], 0
    for _ in range(n_logs):
        made, predicted, truth = drawn_log(rng)
        truth -= BASE @ LOGGING if name == "gain" else 0.0
        estimate = COVERING[name](made, predicted)
        errors.append(estimate.value - truth)
        covered += estimate.low <= truth <= estimate.high
    coverage_se = np.sqrt(0.95 * 0.05 / n_logs)
    assert abs(covered / n_logs - 0.95) <= 3 * coverage_se
    assert abs(np.mean(errors)) <= 3 * np.std(errors) / np.sqrt(n_logs)


def test_a_gain_is_surer_than_two_values_apart_where_users_differ() -> None:
    made, predicted, _ = drawn_log(np.random.default_rng(3))
    gain, apart = dr_gain(made, predicted), (dr(made, predicted), logged(made))
    assert gain.value == pytest.approx(apart[0].value - apart[1].value)
    assert gain.se < 0.95 * np.hypot(apart[0].se, apart[1].se)


def test_a_policy_gains_nothing_over_itself_and_is_sure_of_it() -> None:
    made, predicted, _ = drawn_log(np.random.default_rng(3))
    same = Columns(made.user, made.reward, made.propensity, made.propensity)
    unaware = RewardPredictions(np.zeros(len(made)), np.zeros(len(made)))
    assert (dr_gain(same, unaware).value, dr_gain(same, unaware).se) == (0.0, 0.0)
    model = np.array([0.3, 0.3, 0.3, 0.6])  # `drawn_log`'s
    guessing = RewardPredictions(predicted.chosen, np.full(len(made), model @ LOGGING))
    assert abs(dr_gain(same, guessing).value) < 3 * dr_gain(same, guessing).se


def test_intervals_that_forget_the_user_are_too_narrow_where_users_differ() -> None:
    made, _, _ = drawn_log(np.random.default_rng(3))
    alone = Columns(np.arange(len(made)), made.reward, made.propensity, made.target)
    assert logged(alone).se < logged(made).se


def test_the_interval_of_the_direct_method_knows_nothing_of_the_models_error() -> None:
    made, predicted, truth = drawn_log(np.random.default_rng(4))
    estimate = dm(made, predicted)
    assert estimate.se == pytest.approx(0.0, abs=1e-12)
    assert abs(estimate.value - truth) > 0.01


# --- a log that was thinned -----------------------------------------------------------------------


def thinned(rng: np.random.Generator) -> tuple[Columns, RewardPredictions, float]:
    """`drawn_log`, of which one card in four without a reward was kept, and all others."""
    made, predicted, truth = drawn_log(rng)
    rate = np.where(made.reward > 0.0, 1.0, 0.25)
    kept = np.flatnonzero(rng.random(len(made)) < rate)
    part = Columns(
        user=made.user[kept],
        reward=made.reward[kept],
        propensity=made.propensity[kept],
        target=made.target[kept],
        row_weight=1.0 / rate[kept],
    )
    return part, RewardPredictions(predicted.chosen[kept], predicted.direct[kept]), truth


@pytest.mark.parametrize("name", ["replay", "ips", "snips", "dr", "sndr"])
def test_row_weights_make_a_thinned_log_mean_what_the_whole_one_did(name: str) -> None:
    rng = np.random.default_rng(11)
    errors, ignoring, ses = [], [], []
    for _ in range(300):
        made, predicted, truth = thinned(rng)
        estimate = COVERING[name](made, predicted)
        errors.append(estimate.value - truth)
        ses.append(estimate.se)
        as_it_is = replace(made, row_weight=None)
        ignoring.append(COVERING[name](as_it_is, predicted).value - truth)
    spread = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) <= 3 * spread
    assert abs(np.mean(ignoring)) > 20 * spread
    assert np.mean(ses) == pytest.approx(np.std(errors), rel=0.15)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"replay"}))  # draws once a row
def test_a_row_of_weight_two_is_two_rows_of_the_same_user(name: str) -> None:
    twice = np.array([0, 0, 1, 2, 3])
    whole = Columns(*(getattr(columns(), c)[[0, 0, 1, 2, 3]] for c in FIELDS))
    predicted = predictions()
    repeated = RewardPredictions(predicted.chosen[twice], predicted.direct[twice])
    short = columns(row_weight=np.array([2.0, 1.0, 1.0, 1.0]))
    of_whole = ESTIMATORS[name](whole, repeated, 0.95)
    of_short = ESTIMATORS[name](short, predicted, 0.95)
    assert of_short.value == pytest.approx(of_whole.value)
    assert of_short.se == pytest.approx(of_whole.se)


FIELDS = ("user", "reward", "propensity", "target")


# --- rejection ------------------------------------------------------------------------------------


def test_replay_of_a_certain_target_on_a_uniform_log_takes_every_match() -> None:
    matches = columns(propensity=np.full(4, 0.25), target=np.array([1.0, 0.0, 1.0, 0.0]))
    estimate = replay(matches)
    assert (estimate.value, estimate.ess) == (1.5, 2.0)


def test_replay_accepts_in_proportion_to_the_weights_and_the_seed_decides_which() -> None:
    made, _, _ = drawn_log(np.random.default_rng(1))
    accepted = [replay(made, seed=seed).ess for seed in range(200)]
    expected = made.weights.sum() / made.weights.max()
    assert abs(np.mean(accepted) - expected) <= 3 * np.std(accepted) / np.sqrt(len(accepted))
    assert replay(made, seed=7) == replay(made, seed=7)
    values = [replay(made, seed=seed).value for seed in range(200)]
    assert abs(np.mean(values) - snips(made).value) <= 4 * np.std(values) / np.sqrt(len(values))


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
        ({"row_weight": np.array([1.0, 0.0, 1.0, 1.0])}, r"row weight .* got 0.0 in row 1"),
        ({"row_weight": np.array([1.0, np.inf, 1.0, 1.0])}, r"row weight .* got inf in row 1"),
    ],
)
def test_columns_refuse_what_no_estimate_can_stand_on(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        columns(**changes)


def test_predictions_must_be_finite_and_of_the_same_length() -> None:
    with pytest.raises(ValueError, match="predicted reward must be finite"):
        RewardPredictions(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="columns of one length"):
        dr(columns(), RewardPredictions(np.ones(3), np.ones(3)))


def test_no_decision_is_no_estimate() -> None:
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="at least 1"):
        Columns(empty.astype(np.int64), empty, empty, empty)


def test_one_user_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 users, got 1"):
        ips(columns(user=np.zeros(4, dtype=np.int64)))


def test_snips_refuses_a_target_that_never_agrees_with_the_log() -> None:
    nowhere = columns(target=np.zeros(4))
    assert ips(nowhere).value == 0.0
    assert effective_sample_size(nowhere.weights) == 0.0
    for name in ("replay", "snips", "sndr"):
        with pytest.raises(ValueError, match=f"{name} needs .* cannot evaluate this policy"):
            ESTIMATORS[name](nowhere, predictions(), 0.95)
