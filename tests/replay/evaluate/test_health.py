"""Health: figures of the weights that count rows as often as they stand for, and drift in time."""

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.columns import Columns
from replay.evaluate.health import drift_of, shape_of, weights_of

N = 2_000


def columns(rng: np.random.Generator, reward: Floats | None = None) -> Columns:
    """Return uniform draws among four, of a target that prefers one."""
    drawn = rng.integers(0, 4, N)
    return Columns(
        user=rng.integers(0, 200, N),
        reward=rng.random(N) if reward is None else reward,
        propensity=np.full(N, 0.25),
        target=np.where(drawn == 0, 0.7, 0.1),
    )


def test_a_row_counts_as_often_as_it_stands_for() -> None:
    rng = np.random.default_rng(1)
    once = columns(rng)
    counts = rng.integers(1, 4, N)
    thinned = Columns(once.user, once.reward, once.propensity, once.target, counts.astype(float))
    rows = np.repeat(np.arange(N), counts)
    repeated = Columns(once.user[rows], once.reward[rows], once.propensity[rows], once.target[rows])
    mine, theirs = weights_of(thinned), weights_of(repeated)
    for name in ("mean_weight", "mean_weight_se", "max_user_share", "n_users", "max_weight"):
        assert getattr(mine, name) == pytest.approx(getattr(theirs, name)), name
    assert shape_of(thinned).weight == pytest.approx(shape_of(repeated).weight)


def test_the_shape_says_where_the_decisions_and_where_the_weight_is() -> None:
    shape = shape_of(columns(np.random.default_rng(2)))
    cells = dict(zip(shape.edges, zip(shape.decisions, shape.weight, strict=True), strict=True))
    assert cells[0.3][0] == pytest.approx(0.75, abs=0.04)  # weights of .4
    assert cells[1.0][1] == pytest.approx(0.7, abs=0.04)  # weights of 2.8
    assert sum(shape.decisions) == pytest.approx(1.0)
    assert sum(shape.weight) == pytest.approx(1.0)


def test_a_reward_that_rises_shows_and_one_that_stays_does_not() -> None:
    rng = np.random.default_rng(3)
    at_ms = rng.permutation(N).astype(np.int64)
    still = drift_of(columns(rng, rng.random(N)), at_ms)
    rising = drift_of(columns(rng, rng.random(N) + 3.0 * at_ms / N), at_ms)
    assert still is not None
    assert rising is not None
    assert still.p_value > 0.01
    assert rising.p_value < 1e-6
    assert [p.n for p in rising.periods] == [N // 10] * 10
    assert [p.first_ms for p in rising.periods] == list(range(0, N, N // 10))
    rewards = [p.reward for p in rising.periods]
    assert rewards == sorted(rewards)


def test_rare_rewards_do_not_drift_by_the_periods_that_have_none() -> None:
    """Of logs that stay as they are, one in a hundred has p < .01."""
    rng = np.random.default_rng(5)
    at_ms = np.arange(N)
    found = [
        drift_of(columns(rng, rng.binomial(1, 0.03, N).astype(float)), at_ms) for _ in range(60)
    ]
    p_values = [drift.p_value for drift in found if drift is not None]
    assert len(p_values) > 40
    assert sum(p < 0.05 for p in p_values) <= 3 + 3 * np.sqrt(3)
    assert drift_of(columns(rng, rng.binomial(1, 0.01, N).astype(float)), at_ms) is None
    assert drift_of(columns(rng, np.zeros(N)), at_ms) is None


def test_a_short_log_has_no_drift() -> None:
    few = 23
    rng = np.random.default_rng(6)
    short = Columns(np.arange(few), rng.random(few), np.full(few, 0.5), np.full(few, 0.5))
    assert drift_of(short, np.arange(few)) is None


def test_rewards_are_those_that_are_not_the_commonest() -> None:
    rare = columns(np.random.default_rng(7), (np.arange(N) % 20 == 0).astype(float))
    weights = weights_of(rare)
    assert weights.n_rewards == N // 20
    of_rare = rare.weights[::20]
    assert weights.effective_rewards == pytest.approx(of_rare.sum() ** 2 / (of_rare**2).sum())
    assert weights_of(columns(np.random.default_rng(7), np.ones(N))).n_rewards == 0


def test_a_log_without_times_has_no_drift() -> None:
    assert drift_of(columns(np.random.default_rng(4)), np.zeros(N, dtype=np.int64)) is None
