"""The bootstrap by user against the influence's standard error, and against forgetting users."""

import numpy as np
import pytest

from replay.estimators.bootstrap import bootstrap
from replay.estimators.columns import Columns
from replay.estimators.decisions import ips, snips
from replay.estimators.intervals import Estimate
from replay.estimators.ratios import SumRatio, influence_of, mean_ratio, value_of, weighted_ratio

LOGGING, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])


def drawn(rng: np.random.Generator, n_users: int = 300) -> Columns:
    user = np.repeat(np.arange(n_users), rng.integers(1, 8, size=n_users))
    taste = rng.choice([-0.2, 0.2], size=n_users)[user]
    action = rng.choice(4, size=len(user), p=LOGGING)
    chance = np.array([0.3, 0.4, 0.5, 0.6])[action] + taste
    reward = (rng.random(len(user)) < chance).astype(np.float64)
    return Columns(user, reward, LOGGING[action], TARGET[action])


def resampled(columns: Columns, seed: int = 1, n_samples: int = 2000) -> Estimate:
    ratio = weighted_ratio("snips", columns, columns.reward)
    return bootstrap("snips", (ratio,), columns.user, columns.ess, seed=seed, n_samples=n_samples)


def test_it_agrees_with_the_influences_on_smooth_estimators() -> None:
    columns = drawn(np.random.default_rng(1))
    estimate, linear = resampled(columns), snips(columns)
    assert estimate.value == linear.value
    assert estimate.se == pytest.approx(linear.se, rel=4 / np.sqrt(2 * 2000))
    assert estimate.low == pytest.approx(linear.low, abs=0.15 * linear.se)
    assert estimate.high == pytest.approx(linear.high, abs=0.15 * linear.se)
    assert (estimate.n, estimate.n_users, estimate.interval) == (
        len(columns),
        300,
        "bootstrap by user",
    )


def test_it_keeps_a_users_decisions_together() -> None:
    columns = drawn(np.random.default_rng(2))
    ratio = mean_ratio(columns, columns.reward)
    together = bootstrap("logged", (ratio,), columns.user, 1.0, seed=1)
    apart = bootstrap("logged", (ratio,), np.arange(len(columns)), 1.0, seed=1)
    assert together.se > 1.2 * apart.se


def test_sums_of_ratios_are_resampled_as_one() -> None:
    columns = drawn(np.random.default_rng(3))
    one = mean_ratio(columns, columns.weights * columns.reward)
    minus = mean_ratio(columns, -columns.weights * columns.reward)
    nothing = bootstrap("nothing", (one, minus), columns.user, 1.0, seed=1)
    assert (nothing.value, nothing.se) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert bootstrap("ips", (one,), columns.user, 1.0, seed=1).value == ips(columns).value


@pytest.mark.slow
def test_it_covers_as_often_as_it_says() -> None:
    rng, n_logs = np.random.default_rng(4), 300
    truth = float(np.array([0.3, 0.4, 0.5, 0.6]) @ TARGET)
    held = 0
    for i in range(n_logs):
        estimate = resampled(drawn(rng), seed=i, n_samples=400)
        held += estimate.low <= truth <= estimate.high
    assert abs(held / n_logs - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / n_logs)


def test_the_same_seed_gives_the_same_interval() -> None:
    columns = drawn(np.random.default_rng(5))
    assert resampled(columns, seed=3) == resampled(columns, seed=3)
    assert resampled(columns, seed=3) != resampled(columns, seed=4)


@pytest.mark.parametrize(
    ("user", "level", "n_samples", "message"),
    [
        ([1, 1, 1], 0.95, 100, "at least 2 users, got 1"),
        ([0, 1, 2], 0.95, 99, "at least 100 samples, got 99"),
        ([0, 1, 2], 1.0, 100, "level must be in"),
    ],
)
def test_what_it_cannot_do_is_refused(
    user: list[int], level: float, n_samples: int, message: str
) -> None:
    ratio = SumRatio(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=message):
        bootstrap("x", (ratio,), np.array(user), 1.0, level, seed=1, n_samples=n_samples)


def test_the_influence_of_a_ratio_is_its_derivative() -> None:
    rng = np.random.default_rng(6)
    numerator, denominator = rng.normal(size=50), rng.random(50) + 0.5
    ratios = (SumRatio(numerator, denominator), SumRatio(denominator, np.ones(50)))
    influence = influence_of(ratios)
    assert influence.sum() == pytest.approx(0.0, abs=1e-9)
    for row in (0, 17):
        weight = np.ones(50)
        weight[row] += 1e-6
        moved = tuple(SumRatio(weight * n, weight * d) for n, d in ratios)
        slope = (value_of(moved) - value_of(ratios)) / 1e-6
        assert slope == pytest.approx(influence[row] / 50, rel=1e-4)
