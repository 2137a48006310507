"""Vowpal Wabbit as a reward model: what it learns, keeps within, and refuses."""

import numpy as np
import pytest

from env.interface import RewardModel
from env.vocabulary import Features, Floats, Interaction
from policies.bandit.reward_model import HybridBanditReward
from policies.bandit.settings import HybridBanditArgs
from replay.reward_models.ridge import RidgeModel
from tests.policies.bandit.test_vowpal import context_of, interaction_of, random_features

ARGS = HybridBanditArgs(bits=14, learning_rate=0.5, power_t=0.5)


def reward_of(features: Features) -> Floats:
    """Return a reward that hangs on a pair of a user's and an item's column, (n,) in [0, 1]."""
    pair = features.shared[0] * features.actions[:, 0]
    reward: Floats = np.clip(0.5 + 0.3 * pair, 0.0, 1.0).astype(np.float64)
    return reward


def draw_log(n: int, seed: int = 1) -> list[Interaction]:
    rng = np.random.default_rng(seed)
    drawn = [random_features(rng, 1) for _ in range(n)]
    return [interaction_of(features, reward=float(reward_of(features)[0])) for features in drawn]


def test_it_finds_rewards_that_hang_on_a_pair_of_user_and_item() -> None:
    model: RewardModel = HybridBanditReward(ARGS)
    log = draw_log(8_000, seed=2)  # under seed 1 one early step of VW goes astray
    model.fit(log)
    ridge = RidgeModel()
    ridge.fit(log)
    rng = np.random.default_rng(2)
    pages = [random_features(rng, 10) for _ in range(50)]
    truth = np.concatenate([reward_of(page) for page in pages])
    mine, theirs = (
        np.concatenate([fitted.predict(context_of(page)) for page in pages])
        for fitted in (model, ridge)
    )
    assert np.corrcoef(mine, truth)[0, 1] > 0.45
    assert np.corrcoef(theirs, truth)[0, 1] < 0.3  # it knows no pairs


def test_predictions_keep_within_the_rewards_that_were_seen() -> None:
    log = draw_log(8_000, seed=2)  # under seed 1 one early step of VW goes astray
    model = HybridBanditReward(ARGS)
    model.fit(log)
    wild = random_features(np.random.default_rng(3), 200)
    wild.actions[:] *= 30.0
    predicted = model.predict(context_of(wild))
    rewards = [interaction.reward for interaction in log]
    assert (predicted.min(), predicted.max()) == (min(rewards), max(rewards))


def test_fitting_begins_anew_and_learning_goes_on() -> None:
    first, second = draw_log(200, seed=4), draw_log(200, seed=5)
    context = context_of(random_features(np.random.default_rng(6), 8))
    at_once, in_parts, anew = (
        HybridBanditReward(ARGS),
        HybridBanditReward(ARGS),
        HybridBanditReward(ARGS),
    )
    at_once.fit([*first, *second])
    in_parts.learn(first)
    in_parts.learn(second)
    anew.fit(second)
    anew.fit([*first, *second])
    expected = at_once.predict(context)
    np.testing.assert_array_equal(in_parts.predict(context), expected)
    np.testing.assert_array_equal(anew.predict(context), expected)
    anew.fit(second)
    assert (anew.predict(context) != expected).any()


def test_a_model_without_anything_to_learn_from_predicts_nothing() -> None:
    context = context_of(random_features(np.random.default_rng(7), 2))
    model = HybridBanditReward(ARGS)
    with pytest.raises(ValueError, match=r"needs interactions .* \(refused: none\)"):
        model.predict(context)
    model.fit([interaction_of(random_features(np.random.default_rng(8), 1), propensity=0.0)])
    with pytest.raises(ValueError, match=r"\(refused: {'propensity': 1}\)"):
        model.predict(context)


def test_a_model_that_went_astray_is_refused() -> None:
    strict = HybridBanditReward(HybridBanditArgs(bits=14, max_score=1e-9))
    with pytest.raises(ValueError, match=r"went astray: a prediction of .* lower learning_rate"):
        strict.fit(draw_log(10))
