import msgspec
import numpy as np
import pytest

from env.gym.vector import SwipeVectorEnv
from tests.studies.evaluation.selection import (
    TARGETS,
    SelectionSize,
    logging_pmf,
    predict_rewards,
    run_selection,
    spearman,
    uniform_pmf,
)
from tests.studies.evaluation.worlds import SwipeLog, exact_rewards, feature, known_of, play_log


@pytest.fixture(scope="module")
def log() -> SwipeLog:
    env = SwipeVectorEnv(400, preset="kuairand", n_candidates=10, copy=False)
    return play_log(env, logging_pmf, TARGETS, 30, seed=11)


def silent(step: str, done: int, total: int) -> None:
    """Take progress."""


def test_the_exact_reward_is_the_mean_of_what_happens(log: SwipeLog) -> None:
    expected = log.expected[np.arange(len(log.action)), log.action]
    noise = log.reward - expected
    for part in (noise, noise[expected > np.median(expected)], noise[expected > 0.8]):
        assert abs(part.mean()) < 4.0 * part.std() / np.sqrt(len(part))
    assert expected.std() > 0.1


def test_propensities_are_those_of_the_draws(log: SwipeLog) -> None:
    # A uniform target's weight 1 / (K p) has mean 1 if actions were drawn with probability p.
    uniform = log.targets[list(TARGETS).index("uniform")]
    weights = uniform[:, 0] / log.propensity
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / np.sqrt(len(weights))
    np.testing.assert_allclose(log.targets.sum(axis=2), 1.0, rtol=1e-9)
    assert log.propensity.min() >= 0.2 / 10


def test_a_place_whose_life_ends_goes_on_as_another_user() -> None:
    short = SwipeVectorEnv(20, preset="rapid", n_candidates=4, horizon_days=1, copy=False)
    log = play_log(short, uniform_pmf, {"uniform": uniform_pmf}, 60, seed=1)
    turns = np.bincount(log.user)
    assert len(turns) > 20
    # The turn in which a place changes hands is nobody's.
    assert turns.sum() == len(log.user) < 20 * 60


def test_exact_rewards_do_not_move_the_users() -> None:
    env = SwipeVectorEnv(5, preset="kuairand", n_candidates=4)
    env.reset(seed=1)
    once = exact_rewards(env)
    np.testing.assert_array_equal(exact_rewards(env), once)
    assert once.shape == (5, 4)


def test_features_are_found_by_name() -> None:
    env = SwipeVectorEnv(3, preset="kuairand", n_candidates=4)
    observation, _ = env.reset(seed=1)
    assert isinstance(observation, dict)
    known = known_of(observation)
    np.testing.assert_array_equal(known[..., feature("match")], observation["personal"][..., 0])
    np.testing.assert_array_equal(known[..., feature("bait_guess")], observation["item"][..., -1])


def test_a_users_rewards_do_not_reach_their_own_predictions(log: SwipeLog) -> None:
    changed = log.reward.copy()
    own = log.user == log.user[0]
    changed[own] = 4.0
    moved = SwipeLog(
        log.user, log.action, changed, log.propensity, log.targets, log.features, log.expected
    )
    before, after = predict_rewards(log), predict_rewards(moved)
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


def test_predictions_know_something(log: SwipeLog) -> None:
    predicted = predict_rewards(log)
    assert np.corrcoef(predicted.ravel(), log.expected.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    ("right", "expected"), [([1, 2, 3, 4], 1.0), ([9, 7, 5, 1], -1.0), ([1, 3, 2, 4], 0.8)]
)
def test_rank_correlations(right: list[float], expected: float) -> None:
    left = np.array([0.1, 0.2, 0.3, 0.4])
    assert spearman(left, np.array(right, dtype=np.float64)) == pytest.approx(expected)


def test_the_best_policy_is_picked_from_short_logs() -> None:
    size = SelectionSize(logs=4, users=250, turns=20)
    result = run_selection(size, preset="kuairand", seed=3, advance=silent)
    assert result.best_picked >= 0.75
    assert result.regret_share <= 0.05
    assert result.spearman >= 0.9
    assert list(result.truth.values()) == sorted(result.truth.values(), reverse=True)
    assert set(result.truth) == set(TARGETS)
    covered = {s.estimator: s.covered for s in result.selectors}
    assert covered["dr"] > 0.8
    again = run_selection(size, preset="kuairand", seed=3, advance=silent)
    assert msgspec.json.encode(again) == msgspec.json.encode(result)
