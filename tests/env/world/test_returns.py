import numpy as np
import pytest

from env.world.presets import Population
from env.world.returns import DAY_H, SHORTEST_AWAY, days_away, drift_interests, gap_days, visit_hour

N = 100_000


@pytest.mark.parametrize("chance", [0.1, 0.6, 0.95])
def test_gaps_are_geometric(chance: float) -> None:
    gap = gap_days(chance, np.random.default_rng(1).random(N))
    for day in (1, 2, 3):
        expected = chance * (1.0 - chance) ** (day - 1)
        se = (expected * (1.0 - expected) / N) ** 0.5
        assert abs(float((gap == day).mean()) - expected) <= 4.5 * se
    assert float(gap.min()) == 1.0


def test_a_sure_return_is_the_next_day() -> None:
    assert float(gap_days(1.0 - 1e-12, 0.999999)) == 1.0


def test_hours_lie_around_both_peaks_and_wrap_at_midnight() -> None:
    rng = np.random.default_rng(2)
    hours = visit_hour(np.array([9.0, 23.5]), 2.0, rng.random(N), rng.standard_normal(N))
    assert hours.min() >= 0.0
    assert hours.max() < DAY_H
    morning = np.abs(hours - 9.0) < 3.0
    expected = 0.5 * 0.86639 + 0.5 * 0.00058  # within 1.5, and beyond 3.25 standard deviations
    assert abs(morning.mean() - expected) < 4.5 * (expected * (1.0 - expected) / N) ** 0.5
    assert (hours < 2.0).mean() > 0.05


def test_nobody_is_back_before_they_left() -> None:
    assert float(days_away(1.0, 23.9, 0.1)) == SHORTEST_AWAY
    assert float(days_away(2.0, 12.0, 18.0)) == 2.25


def test_interests_wander_as_in_daily_steps_whatever_the_gap() -> None:
    population, rng = Population({}, drift=0.1, drift_back=0.05), np.random.default_rng(3)
    start = np.full((1, N), 0.4)
    at_once = drift_interests(population, start, 0.6, 5.0, rng.standard_normal((1, N)))
    by_days = start
    for _ in range(5):
        by_days = drift_interests(population, by_days, 0.6, 1.0, rng.standard_normal((1, N)))
    assert abs(at_once.mean() - 0.4 * 0.95**5) <= 4.5 * at_once.std() / N**0.5
    assert abs(at_once.mean() - by_days.mean()) <= 6.4 * at_once.std() / N**0.5
    assert abs(at_once.std() / by_days.std() - 1.0) <= 6.4 / (2.0 * N) ** 0.5


def test_the_spread_of_interests_does_not_grow_for_ever() -> None:
    population, rng = Population({}, drift=0.05, drift_back=0.02), np.random.default_rng(4)
    drift = drift_interests(population, np.zeros((1, N)), 0.6, 3_000.0, rng.standard_normal((1, N)))
    expected = 0.6 * 0.05 / (1.0 - 0.98**2) ** 0.5
    assert abs(drift.std() / expected - 1.0) <= 4.5 / (2.0 * N) ** 0.5
