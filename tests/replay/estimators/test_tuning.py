"""SLOPE: goes as far as noise allows, stops where bias shows, and keeps the interval honest."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.choice import DEFAULT, default
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import ESTIMATORS, dm, dr
from replay.estimators.intervals import Estimate, clustered_se
from replay.estimators.shrinkage import switched
from replay.estimators.tuning import (
    LAMS,
    TAUS,
    compared,
    extended,
    slope,
    tuned_dros,
    tuned_switch_dr,
)

LOGGING = np.array([0.5, 0.3, 0.18, 0.02])
TARGET = np.array([0.1, 0.2, 0.2, 0.5])
BASE = np.array([0.2, 0.3, 0.4, 0.5])
TRUTH = float(BASE @ TARGET)


def drawn(rng: np.random.Generator, n: int, model: Floats) -> tuple[Columns, RewardPredictions]:
    action = rng.choice(4, size=n, p=LOGGING)
    reward = (rng.random(n) < BASE[action]).astype(np.float64)
    columns = Columns(np.arange(n) // 2, reward, LOGGING[action], TARGET[action])
    return columns, RewardPredictions(model[action], np.full(n, model @ TARGET))


def test_slope_stops_before_the_first_value_that_disagrees_with_any_before_it() -> None:
    errors = np.full((4, 4), 1.0)
    assert slope(np.array([0.0, 0.5, 1.0, 1.4]), errors, width=1.5) == 3
    assert slope(np.array([0.0, 0.5, 1.6, 0.5]), errors, width=1.5) == 1
    assert slope(np.array([0.0, -0.8, 0.8, 0.0]), errors, width=1.5) == 1
    assert slope(np.array([3.0]), np.zeros((1, 1))) == 0
    with pytest.raises(ValueError, match="at least one parameter"):
        slope(np.zeros(0), np.zeros((0, 0)))


def test_grids_go_from_dr_to_dm() -> None:
    for grid in (TAUS, LAMS):
        assert (grid[0], grid[-1]) == (np.inf, 0.0)
        assert list(grid) == sorted(grid, reverse=True)


def paired(columns: Columns, predictions: RewardPredictions) -> float:
    terms = predictions.corrected(columns, columns.weights) - predictions.direct
    return clustered_se(terms - terms.mean(), columns.user)


def test_errors_of_differences_are_those_of_the_paired_terms() -> None:
    # Rewards are noisier where weights are large, so that these errors are the larger ones.
    columns, predictions = drawn(np.random.default_rng(3), 400, np.array([0.2, 0.3, 0.4, 0.0]))
    values, errors = compared(switched, (np.inf, 5.0, 0.0), columns, predictions)
    assert values[0] == pytest.approx(dr(columns, predictions).value)
    assert values[2] == pytest.approx(dm(columns, predictions).value)
    assert errors[0, 2] == pytest.approx(paired(columns, predictions) * np.sqrt(199 / 200))
    assert errors[2, 0] == errors[0, 2]
    assert errors[1, 1] == 0.0


def test_large_weights_without_a_reward_do_not_look_sure() -> None:
    columns, predictions = drawn(np.random.default_rng(8), 400, np.full(4, 0.3))
    large = columns.weights > 5.0
    lucky = replace(columns, reward=np.where(large, 0.3, columns.reward))  # just as predicted
    _, errors = compared(switched, (np.inf, 5.0), lucky, predictions)
    noise = ((lucky.reward - predictions.chosen) ** 2).mean()
    assert errors[0, 1] == pytest.approx(np.sqrt((columns.weights[large] ** 2).sum() * noise) / 400)


def test_many_users_are_compared_in_groups_that_say_the_same() -> None:
    model = np.array([0.2, 0.3, 0.4, 0.0])
    columns, predictions = drawn(np.random.default_rng(4), 300_000, model)
    _, errors = compared(switched, (np.inf, 0.0), columns, predictions)
    assert errors[0, 1] == pytest.approx(
        paired(columns, predictions), rel=0.02
    )  # 65,536 groups: a standard error of .3%


@pytest.mark.parametrize("tuned", [tuned_switch_dr, tuned_dros])
def test_a_right_model_is_leant_on_and_a_wrong_one_is_not(
    tuned: Callable[[Columns, RewardPredictions], Estimate],
) -> None:
    rng = np.random.default_rng(5)
    calm, loud = [], []
    for _ in range(100):
        columns, predictions = drawn(rng, 1000, BASE)
        calm.append(tuned(columns, predictions).value - TRUTH)
        loud.append(dr(columns, predictions).value - TRUTH)
    assert np.std(calm) < 0.75 * np.std(loud)
    columns, predictions = drawn(rng, 20_000, np.full(4, 0.1))
    assert tuned(columns, predictions).value == pytest.approx(
        dr(columns, predictions).value, abs=1.5 * dr(columns, predictions).se
    )
    assert abs(dm(columns, predictions).value - TRUTH) > 10 * dr(columns, predictions).se


def test_its_interval_is_that_of_dr_extended_to_the_value() -> None:
    columns, predictions = drawn(np.random.default_rng(6), 200, BASE)
    estimate, whole = tuned_dros(columns, predictions), dr(columns, predictions)
    assert estimate.value != whole.value
    assert estimate.se == whole.se
    assert (estimate.low, estimate.high) == pytest.approx((whole.low, whole.high))
    beyond = msgspec.structs.replace(estimate, value=whole.high + 1.0)
    assert (extended(beyond, whole).low, extended(beyond, whole).high) == (whole.low, beyond.value)
    below = msgspec.structs.replace(estimate, value=whole.low - 1.0)
    assert (extended(below, whole).low, extended(below, whole).high) == (below.value, whole.high)


def test_the_default_is_one_of_the_estimators() -> None:
    columns, predictions = drawn(np.random.default_rng(7), 500, BASE * 0.9)
    assert default(columns, predictions) == ESTIMATORS[DEFAULT](columns, predictions, 0.95)
    assert default(columns, predictions).estimator == DEFAULT
