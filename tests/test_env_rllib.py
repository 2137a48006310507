"""RLlib's own PPO on SwipeEnv as it is: no wrapper, no connector, many people at once."""

import logging

import numpy as np
import pytest
from small_worlds import PRESET

from env.vector import SwipeVectorEnv

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_ppo_trains_an_iteration_on_the_native_vector_env() -> None:
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig

    arguments = {"obs": "flat", "preset": PRESET, "n_candidates": 5, "horizon_days": 2}
    config = (
        PPOConfig()
        .environment("env.registration:nextswipe/Swipe-v0", env_config=arguments)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=64,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=2048, minibatch_size=512, num_epochs=1)
        .debugging(seed=0)
    )
    ray.init(
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=1,
    )
    try:
        algorithm = config.build_algo()
        before = {k: np.copy(v) for k, v in algorithm.get_module().get_state().items()}
        result = algorithm.train()
        after = algorithm.get_module().get_state()
        runner = algorithm.env_runner
        assert isinstance(runner.env.unwrapped, SwipeVectorEnv)
        assert runner.env.num_envs == 64
        algorithm.stop()
    finally:
        ray.shutdown()
    assert result["env_runners"]["num_env_steps_sampled"] >= 2048
    assert result["env_runners"]["num_episodes"] > 20
    assert result["env_runners"]["episode_return_mean"] > 0.0
    assert any(not np.array_equal(before[name], after[name]) for name in before)
