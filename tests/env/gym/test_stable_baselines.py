"""Stable-Baselines3's own PPO on the environments as they are: no wrapper."""

from typing import Any

import pytest
from small_worlds import PRESET

from env.gym.registration import register_envs

pytest.importorskip("stable_baselines3", reason="the extra `test` is not installed")

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

SWIPE = {"preset": PRESET, "n_candidates": 5, "page_size": 3, "horizon_days": 2}


@pytest.mark.parametrize(
    ("env_id", "policy", "arguments"),
    [
        ("nextswipe/Swipe-v0", "MultiInputPolicy", {"preset": PRESET}),
        ("nextswipe/Swipe-v0", "MultiInputPolicy", {**SWIPE, "actions": "page"}),
        (
            "nextswipe/Swipe-v0",
            "MlpPolicy",
            {**SWIPE, "actions": "weights", "obs": "flat"},
        ),
        ("nextswipe/MiniSwipe-v0", "MlpPolicy", {"horizon_days": 5}),
    ],
)
@pytest.mark.slow
def test_ppo_trains_on_several_users(env_id: str, policy: str, arguments: dict[str, Any]) -> None:
    register_envs()
    users = make_vec_env(env_id, n_envs=4, seed=0, env_kwargs=arguments)
    learner = PPO(policy, users, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
    before = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    learner.learn(256)
    after = learner.policy.state_dict()
    assert learner.num_timesteps == 256
    assert any(not before[name].equal(after[name]) for name in before)
    seen: Any = users.reset()
    actions, _ = learner.predict(seen, deterministic=True)
    assert len(actions) == 4
