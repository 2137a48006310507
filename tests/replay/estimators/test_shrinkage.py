"""Switch-DR and DRos: their ends are dr and dm, and between them bias is paid for calm."""

from collections.abc import Callable

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import dm, dr
from replay.estimators.intervals import Estimate
from replay.estimators.shrinkage import dros, shrunk, switch_dr, switched

LOGGING = np.array([0.5, 0.3, 0.18, 0.02])
TARGET = np.array([0.1, 0.2, 0.2, 0.5])
BASE = np.array([0.2, 0.3, 0.4, 0.5])
MODEL = np.array([0.25, 0.3, 0.35, 0.3])
Shrunken = Callable[[Columns, RewardPredictions, float], Estimate]


def drawn(rng: np.random.Generator, n: int = 400) -> tuple[Columns, RewardPredictions]:
    action = rng.choice(4, size=n, p=LOGGING)
    reward = (rng.random(n) < BASE[action]).astype(np.float64)
    columns = Columns(np.arange(n), reward, LOGGING[action], TARGET[action])
    return columns, RewardPredictions(MODEL[action], np.full(n, MODEL @ TARGET))


@pytest.mark.parametrize("estimator", [switch_dr, dros])
def test_the_ends_are_dr_and_dm(estimator: Shrunken) -> None:
    columns, predictions = drawn(np.random.default_rng(1))
    unbiased, calm = dr(columns, predictions), dm(columns, predictions)
    assert estimator(columns, predictions, np.inf).value == pytest.approx(unbiased.value)
    assert estimator(columns, predictions, np.inf).low == pytest.approx(unbiased.low)
    assert estimator(columns, predictions, 1e12).value == pytest.approx(unbiased.value)
    assert estimator(columns, predictions, 0.0).value == pytest.approx(calm.value)


def expectation(weights: Floats) -> float:
    return float(MODEL @ TARGET + (LOGGING * weights * (BASE - MODEL)).sum())


@pytest.mark.parametrize(
    ("estimator", "weights", "parameter"),
    [
        (switch_dr, switched(TARGET / LOGGING, 5.0), 5.0),
        (dros, 20.0 * (TARGET / LOGGING) / ((TARGET / LOGGING) ** 2 + 20.0), 20.0),
    ],
)
def test_intervals_cover_the_estimators_own_expectation(
    estimator: Shrunken, weights: Floats, parameter: float
) -> None:
    rng, n_logs = np.random.default_rng(2), 400
    estimates = [estimator(*drawn(rng), parameter) for _ in range(n_logs)]
    own = expectation(weights)
    held = np.mean([e.low <= own <= e.high for e in estimates])
    assert abs(held - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / n_logs)
    # The large weight is shrunk, so the bias is there, and the variance is not.
    assert abs(own - BASE @ TARGET) > 5 * np.std([e.value for e in estimates]) / np.sqrt(n_logs)
    rng = np.random.default_rng(2)
    whole = [dr(*drawn(rng)).value for _ in range(n_logs)]
    assert np.std([e.value for e in estimates]) < 0.7 * np.std(whole)


def test_optimistic_shrinkage_halves_the_weight_that_is_the_root_of_lam() -> None:
    assert shrunk(np.array([7.0]), 49.0)[0] == pytest.approx(3.5)
    weights = np.geomspace(0.01, 1e6, 200)
    assert (shrunk(weights, 49.0) <= weights).all()
    assert shrunk(weights, 49.0).max() <= 3.5
    assert (np.diff(shrunk(weights, 49.0)[weights > 7.0]) < 0.0).all()


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_a_parameter_is_not_negative(wrong: float) -> None:
    columns, predictions = drawn(np.random.default_rng(1))
    with pytest.raises(ValueError, match="tau must be at least 0"):
        switch_dr(columns, predictions, wrong)
    with pytest.raises(ValueError, match="lam must be at least 0"):
        dros(columns, predictions, wrong)
