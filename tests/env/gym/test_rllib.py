"""RLlib's own PPO on SwipeEnv as it is: no wrapper, no connector, many users at once."""

from typing import Any

import pytest
from ppo import N_ENVS, train_once
from small_worlds import PRESET

from env.gym.vector import SwipeVectorEnv

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.parametrize("actions", [{}, {"actions": "page", "page_size": 3}])
@pytest.mark.slow
def test_ppo_trains_an_iteration_on_the_native_vector_env(actions: dict[str, Any]) -> None:
    arguments = {"obs": "flat", "preset": PRESET, "n_candidates": 5, "horizon_days": 2, **actions}
    trained = train_once(
        "env.gym.registration:nextswipe/Swipe-v0", arguments, batch=2048, minibatch=512, epochs=1
    )
    runners = trained.result["env_runners"]
    assert isinstance(trained.env.unwrapped, SwipeVectorEnv)
    assert trained.env.num_envs == N_ENVS == 64
    assert runners["num_env_steps_sampled"] >= 2048
    assert runners["num_episodes"] > 20
    assert runners["episode_return_mean"] > 0.0
    assert trained.has_moved
