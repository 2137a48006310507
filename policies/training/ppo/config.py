"""The configuration of RLlib's PPO for retention.

The parts that are not RLlib's are the learner connector, the critics, the module, and the state
that its checkpoints add.
"""

from functools import partial
from typing import Any

import numpy as np
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from policies.training.fitted_model import Grid
from policies.training.limits import ConstraintState
from policies.training.module import ModuleConfig, RankerModule
from policies.training.ppo.connectors import (
    ActionConnector,
    AdvantageConnector,
    ObservationConnector,
)
from policies.training.ppo.critics import Critic, FittedCritic, NetworkCritic
from policies.training.ppo.runner import LivesRunner
from policies.training.settings import RetentionArgs
from policies.training.worlds import TWIN_GRID, TrainingEnvironment

_JUDGING = "judging"
_RLLIB_STREAM = 1


class RetentionLearner(PPOTorchLearner):
    """RLlib's learner, whose checkpoint contains the connector's state."""

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return RLlib's own state, and the connector's if all of the state is requested."""
        state = dict(super().get_state(components, not_components=not_components, **kwargs))
        if components is None:
            state[_JUDGING] = self._judging().get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Load a state, and the connector's if it has one."""
        super().set_state(state)
        if _JUDGING in state:
            self._judging().set_state(state[_JUDGING])

    def held(self) -> tuple[ConstraintState, ...]:
        """Return the constraints' state after the last iteration; empty without any."""
        restraint = self._judging().restraint
        return () if restraint is None else restraint.held

    def _judging(self) -> AdvantageConnector:
        (judging,) = (
            c for c in self._learner_connector.connectors if isinstance(c, AdvantageConnector)
        )
        return judging


def make_config(args: RetentionArgs, world: TrainingEnvironment) -> PPOConfig:
    """Return RLlib's configuration of a training in a world."""
    batch = args.n_envs * args.n_cards
    n_steps = args.n_iterations * batch
    runners = max(args.n_runners, 1)
    module = ModuleConfig.of(
        world.layout,
        hidden=args.hidden,
        embed=args.embed,
        user_scaling=world.user_scaling,
        item_scaling=world.item_scaling,
    )
    return (
        PPOConfig()
        .environment(world.env_id, env_config=world.arguments)
        .env_runners(
            env_runner_cls=LivesRunner,
            num_env_runners=args.n_runners,
            num_envs_per_env_runner=-(-args.n_envs // runners),
            rollout_fragment_length=args.n_cards,
            gym_env_vectorize_mode="vector_entry_point",
            env_to_module_connector=_looking,
            module_to_env_connector=_drawing,
            add_default_connectors_to_env_to_module_pipeline=False,
            add_default_connectors_to_module_to_env_pipeline=False,
        )
        .learners(
            num_learners=0,
            learner_class=RetentionLearner,
            learner_connector=partial(_connector, args, world),
            add_default_connectors_to_learner_pipeline=False,
        )
        .rl_module(
            rl_module_spec=RLModuleSpec(module_class=RankerModule, model_config=module.to_dict())
        )
        .training(
            gamma=1.0,
            lambda_=args.lambda_,
            lr=[[0, args.lr], [n_steps, args.lr_end]],
            train_batch_size_per_learner=batch,
            minibatch_size=min(args.minibatch, batch),
            num_epochs=args.epochs,
            entropy_coeff=[[0, args.entropy], [n_steps, args.entropy_end]],
            clip_param=args.clip,
            grad_clip=args.grad_clip,
            grad_clip_by="global_norm",
            use_critic=args.critic == "network",
            vf_loss_coeff=args.value_coef,
            vf_clip_param=float("inf"),
            use_kl_loss=False,
        )
        .debugging(seed=rllib_seed(args.seed), log_level="ERROR")
    )


def constraint_states(algorithm: Any) -> tuple[ConstraintState, ...]:
    """Return the state of an algorithm's constraints after the last iteration."""
    (held,) = algorithm.learner_group.foreach_learner(lambda learner: learner.held())
    return tuple(held.get())


def rllib_seed(seed: int) -> int:
    """Return RLlib's seed, far from other trainings': lives use it and the numbers after it."""
    return int(np.random.SeedSequence([seed, _RLLIB_STREAM]).generate_state(1)[0] >> 2)


def make_critic(args: RetentionArgs, grid: Grid, n_actions: int) -> Critic:
    """Return the critic of a training."""
    if args.critic == "network":
        return NetworkCritic()
    return FittedCritic(grid, n_actions, args.return_worth)


def _looking(*_: Any) -> ObservationConnector:
    return ObservationConnector()


def _drawing(*_: Any) -> ActionConnector:
    return ActionConnector()


def _connector(args: RetentionArgs, world: TrainingEnvironment, *spaces: Any) -> AdvantageConnector:
    critic = make_critic(args, TWIN_GRID, world.layout.n_candidates)
    return AdvantageConnector(args, world.layout, critic)
