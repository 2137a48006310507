"""RLlib's other algorithms on the twin as they come: baselines, and why they are only that.

Double DQN; APPO, and IMPALA, which is APPO without the clip; PPO whose action is not a card but the
weights that cards are ranked by (`tests.studies.peers.weighing`). Their bootstraps know one
discount for every step, where a life has two: none within a session and day_discount ** gap after
it. `GAMMA` is what a card costs on average (a session of 24 cards and 1.5 days). Rewards are in
units, or values of thousands of seconds are out of the networks' reach.

Not here: a discount for each transition (it takes a learner of our own, which
`policies.training.ppo.config` is).
"""

from typing import Any

import gymnasium
import msgspec
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import TransformReward
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID, Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from env.twin.env import MiniSwipeEnv, MiniSwipeVectorEnv
from env.twin.solve import MiniObjective
from env.vocabulary import Float32s, Floats
from env.world.objective import MEAN_WATCH_S
from policies.explorers import softmax
from policies.training.ppo.job import running_ray, seed_draws
from tests.studies.peers.weighing import Gaussians, Weighed, WeighedVector

CARDS, WEIGHTS = "nextswipe/MiniSwipeInUnits-v0", "nextswipe/MiniSwipeByWeights-v0"
GAMMA = 0.998
UNITS: dict[MiniObjective, float] = {"watch": MEAN_WATCH_S, "days": 1.0}
HIDDEN = (64, 64)
LR = 1e-3


class PeerArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one of them is trained.

    Attributes:
        objective: what is counted.
        n_steps: cards in all.
        n_envs: users at a time.
        batch: transitions in a gradient.
        n_step: rewards before the bootstrap, of DQN.
        seed: of lives, weights and draws.
    """

    objective: MiniObjective = "watch"
    n_steps: int = 40_000
    n_envs: int = 64
    batch: int = 256
    n_step: int = 1
    seed: int = 0


def train_dqn(args: PeerArgs, observations: Float32s) -> Floats:
    """Return the values of actions that were learned, in units, shape (n, n_actions).

    Args:
        args: of the training.
        observations: of which values are returned, shape (n, 3).
    """
    config = DQNConfig().training(
        n_step=args.n_step,
        double_q=True,
        dueling=True,
        target_network_update_freq=2_000,
        num_steps_sampled_before_learning_starts=min(5_000, args.n_steps // 4),
        epsilon=[[0, 1.0], [args.n_steps // 2, 0.05]],
    )
    module = _trained(config, args, CARDS)
    with torch.no_grad():
        told = module.compute_q_values({Columns.OBS: torch.as_tensor(observations)})
    return np.asarray(told["qf_preds"].numpy(), dtype=np.float64)


def train_appo(args: PeerArgs, observations: Float32s) -> Floats:
    """Return the pmf over actions that was learned, shape (n, n_actions).

    Args:
        args: of the training.
        observations: at which it is taken, shape (n, 3).
    """
    return _drawn(APPOConfig(), args, observations)


def train_impala(args: PeerArgs, observations: Float32s) -> Floats:
    """Return the pmf over actions that was learned, shape (n, n_actions); see `train_appo`."""
    return _drawn(IMPALAConfig(), args, observations)


def train_weights(args: PeerArgs, observations: Float32s) -> Gaussians:
    """Return what PPO learned to weigh cards by, to be cut at `weighing.LIMIT` once drawn.

    Args:
        args: of the training; `batch` is of an iteration.
        observations: at which it is taken, shape (n, 3).
    """
    config = (
        PPOConfig()
        .env_runners(rollout_fragment_length=args.batch // args.n_envs)
        .training(
            lambda_=0.99,
            entropy_coeff=0.0,
            minibatch_size=1_024,
            num_epochs=4,
            grad_clip=0.5,
            vf_clip_param=float("inf"),
            use_kl_loss=False,
        )
    )
    told = _told(_trained(config, args, WEIGHTS), observations)
    mean, log_sd = np.split(told, 2, axis=1)
    return Gaussians(mean, np.exp(log_sd))


def _drawn(config: Any, args: PeerArgs, observations: Float32s) -> Floats:
    """Return the pmfs of one of those that learn from behind."""
    config = config.training(entropy_coeff=0.01).env_runners(rollout_fragment_length=32)
    return softmax(_told(_trained(config, args, CARDS), observations))


def _told(module: Any, observations: Float32s) -> Floats:
    """Return the inputs of a module's distribution of actions, shape (n, n_inputs)."""
    with torch.no_grad():
        told = module.forward_inference({Columns.OBS: torch.as_tensor(observations)})
    return np.asarray(told[Columns.ACTION_DIST_INPUTS].numpy(), dtype=np.float64)


def _trained(config: Any, args: PeerArgs, env_id: str) -> Any:
    """Return the module after `args.n_steps` cards."""
    _register()
    with running_ray():
        seed_draws(args.seed, 0)
        algorithm = _configured(config, args, env_id).build_algo()
        try:
            played = 0
            while played < args.n_steps:
                told = algorithm.train()["env_runners"]
                played = int(told["num_env_steps_sampled_lifetime"])
            return algorithm.get_module(DEFAULT_MODULE_ID)
        finally:
            algorithm.stop()


def _configured(config: Any, args: PeerArgs, env_id: str) -> Any:
    return (
        config.environment(env_id, env_config={"reward": args.objective})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=args.n_envs,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN)))
        .training(gamma=GAMMA, lr=LR, train_batch_size_per_learner=args.batch)
        .debugging(seed=args.seed)
    )


def _register() -> None:
    """Register the twin in units; RLlib asks one user's environment for its spaces."""
    if CARDS not in gymnasium.registry:
        gymnasium.register(CARDS, entry_point=_alone, vector_entry_point=_in_units)
        gymnasium.register(
            WEIGHTS, entry_point=_alone_weighed, vector_entry_point=_weighed_in_units
        )


def _alone(**arguments: Any) -> gymnasium.Env[Any, Any]:
    return MiniSwipeEnv(**arguments)


def _alone_weighed(**arguments: Any) -> gymnasium.Env[Any, Any]:
    return Weighed(MiniSwipeEnv(**arguments))


def _in_units(**arguments: Any) -> VectorEnv[Any, Any, Any]:
    unit = UNITS[arguments["reward"]]
    return TransformReward(MiniSwipeVectorEnv(**arguments), lambda rewards: rewards / unit)


def _weighed_in_units(**arguments: Any) -> VectorEnv[Any, Any, Any]:
    return WeighedVector(_in_units(**arguments))
