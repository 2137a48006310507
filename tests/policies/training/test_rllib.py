"""RLlib's own PPO with the module, on observations in the form of a Dict, whose mask counts."""

import logging
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from env.gym.registration import register_envs
from policies.ranker.ranker import Ranker, RankerArgs
from policies.training.export import export
from policies.training.layout import ObservationLayout
from policies.training.module import ModuleConfig, RankerModule

WORLD = "nextswipe/Swipe-v0"
ARGUMENTS: dict[str, Any] = {"n_candidates": 6, "masked": True}


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_ppo_trains_scorer_and_critic_and_draws_no_candidate_off_the_mask() -> None:
    register_envs()
    layout = ObservationLayout.of(gym.make(WORLD, **ARGUMENTS).observation_space)
    config = (
        PPOConfig()
        .environment(WORLD, env_config=ARGUMENTS)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=16,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=RankerModule, model_config=ModuleConfig.of(layout).to_dict()
            )
        )
        .training(
            train_batch_size_per_learner=256,
            minibatch_size=64,
            num_epochs=2,
            vf_clip_param=float("inf"),
        )
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
        algorithm.train()
        episodes = algorithm.env_runner.sample(num_timesteps=128)
        module = algorithm.get_module()
        after, ranker = module.get_state(), export(module)
        algorithm.stop()
    finally:
        ray.shutdown()
    weights = {name for name in before if name.endswith(("weight", "bias"))}
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert still == before.keys() - weights
    assert ranker.args == RankerArgs(layout.n_user, layout.n_row)
    assert Ranker.from_bytes(ranker.to_bytes()).args == ranker.args
    n_off = 0
    for episode in episodes:
        allowed = episode.get_observations()["mask"][:-1].astype(bool)
        assert allowed[np.arange(len(episode)), episode.get_actions()].all()
        n_off += int(np.count_nonzero(~allowed))
    assert n_off > 0
