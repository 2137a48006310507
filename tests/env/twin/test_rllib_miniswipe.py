"""RLlib's own PPO on MiniSwipe as it is: no wrapper, no connector, many users at once."""

import pytest
from ppo import N_ENVS, train_once

from env.gym.registration import register_envs
from env.twin.env import MiniSwipeVectorEnv

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.slow
def test_ppo_trains_an_iteration_on_the_native_vector_env() -> None:
    register_envs()
    arguments = {"obs": "flat", "horizon_days": 3}
    trained = train_once("nextswipe/MiniSwipe-v0", arguments, batch=4096, minibatch=1024, epochs=2)
    runners = trained.result["env_runners"]
    assert isinstance(trained.env.unwrapped, MiniSwipeVectorEnv)
    assert trained.env.num_envs == N_ENVS == 64
    assert runners["num_env_steps_sampled"] >= 4096
    # Three days of about 16 s a card and 24 cards a session: episodes ended and were started anew.
    assert runners["num_episodes"] > 20
    assert 300.0 < runners["episode_return_mean"] < 3_000.0
    assert trained.has_moved
