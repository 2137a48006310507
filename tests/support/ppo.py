"""One iteration of RLlib's own PPO on an environment as it is: no wrapper, no connector."""

import logging
from typing import Any, NamedTuple

import numpy as np

N_ENVS = 64


class Trained(NamedTuple):
    """What came of it: RLlib's result, the vector env, and whether the weights moved."""

    result: dict[str, Any]
    env: Any
    has_moved: bool


def train_once(
    env_id: str, arguments: dict[str, Any], *, batch: int, minibatch: int, epochs: int
) -> Trained:
    """Train once in this process, on `N_ENVS` places of the native vector environment."""
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig

    config = (
        PPOConfig()
        .environment(env_id, env_config=arguments)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=N_ENVS,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=batch, minibatch_size=minibatch, num_epochs=epochs)
        .debugging(seed=0)
    )
    ray.init(
        address="local",
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
        env = algorithm.env_runner.env
        algorithm.stop()
    finally:
        ray.shutdown()
    moved = any(not np.array_equal(before[name], after[name]) for name in before)
    return Trained(result, env, moved)
