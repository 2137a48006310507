import numpy as np
import pytest
from msgspec.structs import replace

from env.gym.vector import SwipeVectorEnv
from env.report.played_lives import EvaluationUsers, evaluation_rollouts
from env.world.presets import load
from policies.explorers import draw, softmax
from policies.ranker.ranker import Ranker
from policies.training.distill import KEPT_EVERY, SOFTNESS, record_demonstrations
from policies.training.rankings import (
    COLUMNS,
    RandomRanking,
    WeightedRanking,
    columns,
    named_weights,
    scores,
    tune_myopic,
)
from policies.training.search.search import search_weights

RAPID = load("rapid")
PLAYED, UNBAITED = (
    WeightedRanking(named_weights(valid_play=1.0)),
    WeightedRanking(named_weights(bait_guess=-1.0)),
)


def test_weights_of_each_user_score_as_weights_of_all_do() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    weights = np.random.default_rng(0).normal(size=2 * len(COLUMNS))
    found, load_ = columns(observation)
    own = np.tile(weights, (16, 1)).T[:, :, None]
    np.testing.assert_allclose(
        scores(found, load_, weights), scores(found, load_, own), rtol=1e-4, atol=1e-5
    )


def test_the_load_of_the_columns_follows_the_cards_of_the_session() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    for _ in range(6):
        observation = env.step(np.zeros(16, dtype=np.int64))[0]
    _, found = columns(observation)
    expected = 1.0 - 0.95**env.swiping.crowd.position
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_what_cheats_sees_true_bait_and_load() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    for _ in range(4):
        observation = env.step(np.zeros(16, dtype=np.int64))[0]
    guessed, _ = columns(observation)
    found, load_ = columns(observation, env.swiping)
    guess = guessed[COLUMNS.index("bait_guess")]
    bait = found[COLUMNS.index("bait_guess")]
    assert 0.1 < np.std(guess - bait) < 0.3
    np.testing.assert_allclose(
        load_[:, 0] * RAPID.moods.load_step / (1.0 - RAPID.moods.load_decay),
        env.swiping.crowd.load,
        rtol=1e-5,
    )


def test_a_bandit_earns_more_a_card_than_chance_and_than_its_prediction_of_plays() -> None:
    judged = EvaluationUsers(2**20, 256, 1, days=14)
    bandit = tune_myopic(RAPID, EvaluationUsers(0, 256), judged, n_turns=60, seed=0)
    earned = [
        evaluation_rollouts(RAPID, policy.open(0), judged).reward_a_card()
        for policy in (RandomRanking(), PLAYED, bandit)
    ]
    assert earned[0] < 0.9 * earned[1]
    assert earned[2] > 0.98 * earned[1]


def test_a_search_finds_what_brings_users_back() -> None:
    slow = replace(RAPID.moods, return_satisfaction=8.0, satisfaction_step=0.2)
    preset = replace(RAPID, moods=slow)
    found = search_weights(
        preset, EvaluationUsers(10**6, 16, 1, days=14), PLAYED, "life", 4, seed=0
    )
    judged = EvaluationUsers(2**20, 256, 1, days=14)
    assert found.weights[COLUMNS.index("bait_guess")] < 0.0
    days = [
        evaluation_rollouts(preset, p.open(0), judged).active_days.mean() for p in (PLAYED, found)
    ]
    assert days[1] > 1.02 * days[0]


def test_a_teacher_is_watched_where_it_serves_itself() -> None:
    user_rows, rows, pmf = record_demonstrations(RAPID, PLAYED, EvaluationUsers(0, 8), 16, seed=0)
    assert (len(user_rows), len(rows), pmf.shape) == (16, 16, (16, 20))
    np.testing.assert_allclose(pmf.sum(axis=1), 1.0, rtol=1e-5)
    most_likely = rows[..., -1].argmax(axis=1)
    assert (pmf.argmax(axis=1) == most_likely).all()


def test_who_learns_sees_the_feed_s_columns_of_the_users_that_the_teacher_serves() -> None:
    users, n_turns = EvaluationUsers(0, 8, n_candidates=6), 17
    _, _, pmf = record_demonstrations(RAPID, PLAYED, users, n_turns, seed=5)
    user_rows, rows, same = record_demonstrations(
        RAPID, PLAYED, users, n_turns, seed=5, shown="feed"
    )
    assert same.tolist() == pmf.tolist()
    feed = SwipeVectorEnv(8, preset=RAPID, obs="feed", n_candidates=6)
    world = SwipeVectorEnv(8, preset=RAPID, n_candidates=6)
    seen, told = feed.reset(seed=0)[0], world.reset(seed=0)[0]
    rng = np.random.default_rng(5)
    for turn in range(n_turns):
        assert isinstance(seen, dict)
        if turn % KEPT_EVERY == 0:
            at = slice(turn // KEPT_EVERY * 8, (turn // KEPT_EVERY + 1) * 8)
            assert user_rows[at].tolist() == seen["user"].tolist()
            expected = np.concatenate([seen["item"], seen["personal"]], axis=-1)
            assert rows[at].tolist() == expected.tolist()
        chances = softmax(scores(*columns(told), np.array(PLAYED.weights)), SOFTNESS)
        cards = draw(chances, rng)
        seen, told = feed.step(cards)[0], world.step(cards)[0]


def test_a_network_ranks_as_the_weights_that_it_learned_from() -> None:
    pytest.importorskip("torch")
    from policies.training.distill import distil

    teacher = WeightedRanking(named_weights(valid_play=1.0, bait_guess=-1.0))
    policy = distil(RAPID, teacher, EvaluationUsers(0, 128), 240, seed=0)
    user_rows, rows, pmf = record_demonstrations(
        RAPID, teacher, EvaluationUsers(10**6, 64), 40, seed=0
    )
    learned = softmax(Ranker.from_bytes(policy.ranker).batch_scores(user_rows, rows))
    uniform = float((pmf * np.log(pmf * pmf.shape[1] + 1e-30)).sum(axis=1).mean())
    apart = float((pmf * np.log((pmf + 1e-30) / learned)).sum(axis=1).mean())
    assert apart < 0.5 * uniform
