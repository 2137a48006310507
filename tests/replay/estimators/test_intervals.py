"""Intervals from influences: Student's quantiles, Hall's, and coverage where rewards are rare."""

import numpy as np
import pytest

from replay.estimators.columns import Columns
from replay.estimators.decisions import logged
from replay.estimators.intervals import clustered_estimate, clustered_se, hall_quantile, t_quantile


def test_with_one_decision_a_user_the_error_is_the_usual_one() -> None:
    rewards = np.random.default_rng(1).normal(size=50)
    se = clustered_se(rewards - rewards.mean(), np.arange(50))
    assert se == pytest.approx(rewards.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize(
    ("level", "dof", "expected"),
    # Quantiles of Student's t from the tables.
    [(0.95, 4, 2.776), (0.95, 10, 2.228), (0.95, 30, 2.042), (0.90, 10, 1.812), (0.99, 30, 2.750)],
)
def test_t_quantiles_are_those_of_the_tables(level: float, dof: int, expected: float) -> None:
    assert t_quantile(level, dof) == pytest.approx(expected, abs=1e-3)


def test_where_rewards_are_rare_the_skewness_taken_out_makes_the_interval_cover() -> None:
    # 15 rewards in the mean, of different size: a symmetric interval is too often below the truth.
    rng, truth, n_logs, held = np.random.default_rng(5), 0.0125, 2000, np.zeros(2)
    for _ in range(n_logs):
        rewards = np.where(rng.random(600) < 0.025, rng.random(600), 0.0)
        made = Columns(np.arange(600), rewards, np.ones(600), np.ones(600))
        estimate = logged(made)
        half = t_quantile(0.95, 599) * estimate.se
        held += (estimate.low <= truth <= estimate.high, abs(estimate.value - truth) <= half)
    three_se = 3 * np.sqrt(0.95 * 0.05 / n_logs)
    corrected, symmetric = held / n_logs
    assert 0.95 - three_se <= corrected < 0.99
    assert symmetric < 0.95 - three_se


def test_hall_quantiles_are_students_where_nothing_is_skewed_and_mirror_each_other() -> None:
    assert hall_quantile(1.96, 0.0) == 1.96
    assert hall_quantile(1.96, 1e-5) == pytest.approx(1.96, abs=1e-3)
    assert hall_quantile(1.96, 0.3) == pytest.approx(-hall_quantile(-1.96, -0.3))
    ts = np.linspace(-4.0, 4.0, 50)
    assert (np.diff([hall_quantile(t, 0.2) for t in ts]) > 0.0).all()
    assert hall_quantile(-1.96, 0.9) == -2 * 1.96


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="level must be in"):
        clustered_estimate("ips", 0.0, np.zeros(2), np.array([0, 1]), 2.0, level)
