"""Estimators of one's own: their answers are checked, and stand beside ours under their names."""

import custom_estimators
import msgspec
import numpy as np
import pytest

from replay.estimators.choice import estimates_of
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.custom import checked
from replay.estimators.decisions import ips


@pytest.fixture(scope="module")
def columns() -> Columns:
    rng = np.random.default_rng(4)
    n = 600
    propensity = rng.choice([0.1, 0.5], n)
    reward = (rng.random(n) < 0.4).astype(np.float64)
    return Columns(rng.integers(0, 60, n), reward, propensity, np.full(n, 0.3))


@pytest.fixture(scope="module")
def predictions(columns: Columns) -> RewardPredictions:
    return RewardPredictions(np.full(len(columns), 0.4), np.full(len(columns), 0.4))


def test_an_estimator_of_ones_own_stands_behind_ours(
    columns: Columns, predictions: RewardPredictions
) -> None:
    own = checked("mine:capped", custom_estimators.capped)
    ours = estimates_of(columns, predictions, 0.9)
    *first, last = estimates_of(columns, predictions, 0.9, further=[own])
    assert tuple(first) == ours
    assert last.estimator == "mine:capped"
    capped = np.minimum(columns.weights, custom_estimators.CAP) * columns.reward
    assert last.value == pytest.approx(capped.mean())
    assert last.value < ips(columns).value
    assert last.low < last.value < last.high


def test_its_numbers_can_be_written(columns: Columns, predictions: RewardPredictions) -> None:
    own = checked("mine:numbers", custom_estimators.numpy_numbers)
    found = own(columns, predictions, 0.95)
    told = msgspec.json.decode(msgspec.json.encode(found))
    assert told["value"] == ips(columns).value


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", r"m:number: expected an Estimate \(replay.estimators.intervals\), got float"),
        ("infinite", "m:infinite: expected finite value, se and ess"),
        ("upside_down", "m:upside_down: expected low <= value <= high"),
        ("other_level", "m:other_level: expected an interval of level 0.95, got 0.5"),
        ("fails", "m:fails raised ZeroDivisionError: no rows"),
    ],
)
def test_what_is_no_estimate_is_refused(
    columns: Columns, predictions: RewardPredictions, function: str, message: str
) -> None:
    own = checked(f"m:{function}", getattr(custom_estimators, function))
    with pytest.raises(ValueError, match=message):
        own(columns, predictions, 0.95)
