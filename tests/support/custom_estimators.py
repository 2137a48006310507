"""Estimators of one's own by the name `custom_estimators:capped`, and functions that are none."""

from typing import Any

import msgspec
import numpy as np

from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import ips
from replay.estimators.intervals import Estimate
from replay.estimators.ratios import mean_ratio, ratio_estimate

CAP = 2.0


def capped(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    terms = np.minimum(columns.weights, CAP) * columns.reward
    return ratio_estimate("mine", (mean_ratio(columns, terms),), columns.user, columns.ess, level)


def numpy_numbers(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    found = ips(columns, level)
    return msgspec.structs.replace(found, value=np.float64(found.value), n=np.int64(found.n))


def number(columns: Columns, predictions: RewardPredictions, level: float) -> Any:
    return float(columns.reward.mean())


def infinite(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    return msgspec.structs.replace(ips(columns, level), value=float("nan"))


def upside_down(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    found = ips(columns, level)
    return msgspec.structs.replace(found, low=found.high, high=found.low)


def other_level(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    return ips(columns, 0.5)


def fails(columns: Columns, predictions: RewardPredictions, level: float) -> Estimate:
    raise ZeroDivisionError("no\nrows")
