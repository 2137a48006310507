"""The confidence sequence: time-uniform coverage, streaming in parts, and what it refuses."""

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.confidence_sequence import ConfidenceSequence

LOGGING, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
N = 3_000


def drawn(rng: np.random.Generator, chance: Floats, n: int = N) -> tuple[Floats, Floats]:
    action = rng.choice(4, size=n, p=LOGGING)
    reward = (rng.random(n) < chance[action]).astype(np.float64)
    return (TARGET / LOGGING)[action], reward


def looks(weights: Floats, rewards: Floats) -> tuple[Floats, Floats]:
    """Mean and 1.96 standard errors after each decision."""
    terms, n = weights * rewards, np.arange(1, len(weights) + 1)
    mean = np.cumsum(terms) / n
    return mean, 1.96 * np.sqrt(np.maximum(np.cumsum(terms**2) / n - mean**2, 0.0) / n)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("chance", [[0.2, 0.3, 0.4, 0.5], [0.02, 0.03, 0.02, 0.04], [0.98] * 4])
def test_it_misses_at_any_time_in_fewer_streams_than_alpha(
    chance: list[float], level: float
) -> None:
    rng, n_streams = np.random.default_rng(1), 200
    truth = float(np.array(chance) @ TARGET)
    missed = 0
    for _ in range(n_streams):
        low, high = ConfidenceSequence((0.0, 1.0), level).path(*drawn(rng, np.array(chance)))
        missed += bool(((low > truth) | (high < truth)).any())
    assert missed / n_streams <= 1.0 - level


def test_a_usual_interval_looked_at_after_every_decision_misses_far_more_often() -> None:
    rng, n_streams, chance = np.random.default_rng(2), 200, np.array([0.2, 0.3, 0.4, 0.5])
    missed = 0
    for _ in range(n_streams):
        mean, half = looks(*drawn(rng, chance))
        missed += bool((np.abs(mean - chance @ TARGET) > half)[100:].any())
    assert missed / n_streams > 0.25


def test_it_says_something() -> None:
    rng, chance = np.random.default_rng(3), np.array([0.2, 0.3, 0.4, 0.5])
    weights, rewards = drawn(rng, chance, 20_000)
    low, high = ConfidenceSequence((0.0, 1.0)).after(weights, rewards).interval
    mean, half = looks(weights, rewards)
    assert half[-1] * 2 < high - low < half[-1] * 2 * 4
    assert low < mean[-1] < high
    uniform = float(chance @ LOGGING)
    assert low > uniform  # sure that the target is better than the log


def test_a_stream_in_parts_is_the_stream() -> None:
    weights, rewards = drawn(np.random.default_rng(4), np.array([0.2, 0.3, 0.4, 0.5]))
    whole = ConfidenceSequence((0.0, 1.0)).path(weights, rewards)
    monitor = ConfidenceSequence((0.0, 1.0))
    assert monitor.interval == (0.0, 1.0)
    for start in range(0, N, 700):
        part = slice(start, start + 700)
        path = monitor.path(weights[part], rewards[part])
        monitor = monitor.after(weights[part], rewards[part])
        assert path.low == pytest.approx(whole.low[part])
        assert path.high == pytest.approx(whole.high[part])
    assert monitor.n == N
    assert monitor.interval == pytest.approx((whole.low[-1], whole.high[-1]))
    assert monitor.after(np.zeros(0), np.zeros(0)).interval == monitor.interval


def test_of_a_thinned_stream_it_covers_the_value_of_the_whole_one() -> None:
    rng, chance, missed, widths = np.random.default_rng(7), np.array([0.2, 0.3, 0.4, 0.5]), 0, []
    for _ in range(100):
        weights, rewards = drawn(rng, chance)
        rate = np.where(rewards > 0.0, 1.0, 0.25)
        kept = rng.random(N) < rate
        low, high = ConfidenceSequence((0.0, 1.0)).path(
            np.where(kept, weights / rate, 0.0), rewards
        )
        missed += bool(((low > chance @ TARGET) | (high < chance @ TARGET)).any())
        widths.append(high[-1] - low[-1])
    assert missed <= 5
    assert np.median(widths) < 0.5  # of 1: it says something


def test_it_never_widens() -> None:
    low, high = ConfidenceSequence((0.0, 1.0)).path(
        *drawn(np.random.default_rng(5), np.full(4, 0.5))
    )
    assert (np.diff(low) >= 0.0).all()
    assert (np.diff(high) <= 0.0).all()


def test_other_units_of_the_reward_are_other_units_of_the_interval() -> None:
    weights, rewards = drawn(np.random.default_rng(6), np.array([0.2, 0.3, 0.4, 0.5]))
    low, high = ConfidenceSequence((0.0, 1.0)).after(weights, rewards).interval
    in_seconds = ConfidenceSequence((-5.0, 15.0)).after(weights, 20.0 * rewards - 5.0).interval
    assert in_seconds == pytest.approx((20.0 * low - 5.0, 20.0 * high - 5.0))


@pytest.mark.parametrize(
    ("weights", "rewards", "message"),
    [
        ([1.0, 1.0], [0.0, 1.5], r"rewards must be within \(0.0, 1.0\), got 0.0 to 1.5"),
        ([1.0, 1.0], [0.0, np.nan], "rewards must be within"),
        ([-1.0, 1.0], [0.0, 1.0], "weights must be finite and at least 0"),
        ([np.inf, 1.0], [0.0, 1.0], "weights must be finite and at least 0"),
    ],
)
def test_what_cannot_be_bet_on_is_refused(
    weights: list[float], rewards: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ConfidenceSequence((0.0, 1.0)).after(np.array(weights), np.array(rewards))


def test_a_monitor_needs_a_range_and_a_level() -> None:
    with pytest.raises(ValueError, match="a lowest and a highest reward"):
        ConfidenceSequence((1.0, 1.0))
    with pytest.raises(ValueError, match="level must be in"):
        ConfidenceSequence((0.0, 1.0), 1.0)
