"""Offline training, from shards of logged lives to a ranker that could be served.

    clone the logging policy -> learn candidates' values -> choose the step size -> learn the policy

Each step is a Learner of RLlib that receives whole lives, one shard at a time. The four steps and
rejected alternatives: `docs/decisions/offline-training.md`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from threadpoolctl import threadpool_limits

from env.pages.lives import Lives
from env.vocabulary import Floats
from policies.explorers import softmax
from policies.ranker.ranker import Ranker
from policies.training.export import export, load
from policies.training.layout import ObservationLayout, Scaling
from policies.training.module import ModuleConfig, RankerModule
from policies.training.offline.critic import (
    OfflineCritic,
    centred,
    page_pmfs,
    page_scores,
    tensors,
    values_of,
)
from policies.training.offline.episodes import (
    TARGETS,
    LoggedSteps,
    episodes_of,
    layout_of,
    observation_space,
)
from policies.training.offline.expectile import CandidateValues, PolicyLearner, ValuesLearner
from policies.training.offline.settings import OfflineArgs
from policies.training.offline.tempering import Scores, choose_share

AnyColumns = dict[str, Any]

AddColumns = Callable[[LoggedSteps, Any], AnyColumns]
"""Returns columns of a batch besides observations and actions, given the module."""


class LivesConnector(ConnectorV2):
    """Turns whole lives into a batch of their cards, with columns that `add` returns."""

    def __init__(self, add: AddColumns) -> None:
        super().__init__()
        self._add = add

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: Sequence[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Return the module's batch as tensors."""
        steps = LoggedSteps.of(episodes)
        module = rl_module[DEFAULT_MODULE_ID]
        columns = {Columns.ACTIONS: steps.actions, **self._add(steps, module)}
        return {DEFAULT_MODULE_ID: {Columns.OBS: tensors(steps.observations), **tensors(columns)}}


class LivesConfig(MARWILConfig):
    """RLlib's MARWIL (BC with beta 0) without its own advantages, which have one constant discount.

    Our own learners use it too: a configuration without an algorithm knows no module.
    """

    def build_learner_connector(self, *spaces_: Any, **kwargs: Any) -> Any:
        """Return the pipeline of any algorithm."""
        return AlgorithmConfig.build_learner_connector(self, *spaces_, **kwargs)


_SAMPLED_PAGES = 5_000

_LR_END = 0.1


class OfflineProgress(NamedTuple):
    """Progress of a training."""

    phase: str  # "prior", "critic", "advantage" or "policy"
    done: int  # completed passes over the log in this phase
    passes: int  # all passes of this phase
    loss: float  # at the last gradient


Advance = Callable[[OfflineProgress], None]

Targets = Callable[[Lives], Floats]
"""Target probabilities of a policy at each step, shape (n, K)."""


class OfflineTrainingResult(NamedTuple):
    """Result of a training."""

    ranker: Ranker  # as it would be served, at temperature 1
    prior: Ranker  # a clone of the logging policy
    critic: OfflineCritic  # trained on the given lives only
    share: float  # of the step away from the prior; 0: the log could not evaluate any
    seconds: float


def train_offline(
    args: OfflineArgs, lives: Sequence[Lives], *, advance: Advance | None = None
) -> OfflineTrainingResult:
    """Train a policy from logged lives.

    Args:
        lives: in shards, read once a pass; at least one.
    """
    with threadpool_limits(1):
        return _Training(args, lives, advance).run()


class _Training:
    """The steps of a training, which share the log and its arguments."""

    def __init__(self, args: OfflineArgs, lives: Sequence[Lives], advance: Advance | None) -> None:
        self._args, self._lives, self._advance = args, lives, advance
        self._layout = layout_of(lives[0])
        self._module = _module_config(args, self._layout, lives)
        self._mean, self._sd = self._unit()

    def run(self) -> OfflineTrainingResult:
        """Run all steps and return their result."""
        begun = time.monotonic()
        prior = self.clone()
        critic = self.learn_values()
        ranker, share = prior, 0.0
        if self._args.method != "bc":
            offsets = self.offsets(prior, critic)
            share = choose_share(self._lives, partial(page_scores, prior), offsets, self._args.kl)
            ranker = self.learn_policy(prior, offsets, share) if share else prior
        return OfflineTrainingResult(ranker, prior, critic, share, time.monotonic() - begun)

    def clone(self) -> Ranker:
        """Return a ranker that imitates the logging policy."""
        config = LivesConfig().training(beta=0.0)
        learner = self._learner(
            config, self._args.prior_passes, RankerModule, None, lambda steps, module: {}
        )
        self._fit(learner, "prior", self._args.prior_passes)
        return export(learner.module[DEFAULT_MODULE_ID])

    def learn_values(self) -> OfflineCritic:
        """Return the candidates' values by the method's Q-learning, or else by plain regression."""
        args = self._args
        settings = {
            "expectile": args.expectile if args.method == "iql" else 0.5,
            "penalty": args.penalty if args.method == "cql" else 0.0,
            "weight_decay": args.weight_decay,
        }
        config = LivesConfig().learners(learner_config_dict=settings)
        learner = self._learner(
            config, args.critic_passes, CandidateValues, ValuesLearner, self._bootstrapped
        )
        self._fit(learner, "critic", args.critic_passes)
        return OfflineCritic(learner.module[DEFAULT_MODULE_ID], self._mean, self._sd)

    def offsets(self, prior: Ranker, critic: OfflineCritic) -> Scores:
        """Return the offsets of each page's candidates to the prior's logits."""
        if self._args.method == "marwil":
            ranker = self._marwil()
            return lambda lives: centred(
                lives,
                page_scores(prior, lives),
                page_scores(ranker, lives) - page_scores(prior, lives),
            )
        scale = self._args.beta / self._advantage_sd(prior, critic)
        return lambda lives: (
            scale * centred(lives, page_scores(prior, lives), critic.advantages(lives))
        )

    def learn_policy(self, prior: Ranker, offsets: Scores, share: float) -> Ranker:
        """Return a ranker of the policy at this share of the offsets, trained from the prior on."""

        def targets(lives: Lives) -> Floats:
            moved = page_scores(prior, lives) + share * offsets(lives)
            return softmax(np.where(lives.mask, moved[lives.page], -np.inf))

        learner = self._learner(
            LivesConfig(),
            self._args.policy_passes,
            RankerModule,
            PolicyLearner,
            lambda steps, module: {TARGETS: steps.targets},
        )
        load(learner.module[DEFAULT_MODULE_ID], prior)
        self._fit(learner, "policy", self._args.policy_passes, targets)
        return export(learner.module[DEFAULT_MODULE_ID])

    def _marwil(self) -> Ranker:
        # RLlib's mean square of advantages starts at 100 and moves by 1e-8 a gradient, so it would
        # never adapt to values of unit size.
        config = LivesConfig().training(
            beta=1.0,
            vf_coeff=1.0,
            moving_average_sqd_adv_norm_start=1.0,
            moving_average_sqd_adv_norm_update_rate=0.01,
        )
        learner = self._learner(
            config, self._args.critic_passes, RankerModule, None, self._bootstrapped
        )
        self._fit(learner, "advantage", self._args.critic_passes)
        return export(learner.module[DEFAULT_MODULE_ID])

    def _bootstrapped(self, steps: LoggedSteps, module: Any) -> AnyColumns:
        values = self._mean + self._sd * values_of(module, steps.observations)
        last = self._mean + self._sd * values_of(module, steps.last)
        returns = steps.lambda_returns(values, last, self._args.lambda_)
        return {Postprocessing.VALUE_TARGETS: self._standard(returns)}

    def _standard(self, returns: Floats) -> Any:
        return ((returns - self._mean) / self._sd).astype(np.float32)

    def _unit(self) -> tuple[float, float]:
        """Return mean and sd of the log's returns after a step."""
        returns = []
        for episodes in self._shards():
            steps = LoggedSteps.of(episodes)
            nothing = np.zeros(len(steps.ends))
            returns.append(steps.lambda_returns(np.zeros(len(steps.actions)), nothing, 1.0))
        came = np.concatenate(returns)
        return float(came.mean()), max(float(came.std()), 1e-6)

    def _advantage_sd(self, prior: Ranker, critic: OfflineCritic) -> float:
        """Return the standard deviation of advantages on a page, under the prior."""
        squares = [
            (pmf * advantage**2).sum(axis=1).mean()
            for pmf, advantage in (
                (
                    page_pmfs(lives, page_scores(prior, lives)),
                    centred(lives, page_scores(prior, lives), critic.advantages(lives)),
                )
                for lives in self._lives
            )
        ]
        sizes = [len(lives.eps) for lives in self._lives]
        return max(float(np.sqrt(np.average(squares, weights=sizes))), 1e-9)

    def _shards(self, targets: Targets | None = None) -> Iterator[list[SingleAgentEpisode]]:
        for lives in self._lives:
            wanted = None if targets is None else targets(lives)
            yield episodes_of(lives, self._args.reward, self._args.credit, wanted)

    def _learner(
        self, config: Any, passes: int, module_class: Any, learner_class: Any, add: AddColumns
    ) -> Any:
        args = self._args
        n_steps = passes * sum(len(lives) for lives in self._lives)
        _seed(args.seed, module_class.__name__)
        config = (
            config.learners(
                num_learners=0,
                learner_connector=lambda *spaces_: LivesConnector(add),
                add_default_connectors_to_learner_pipeline=False,
                **({} if learner_class is None else {"learner_class": learner_class}),
            )
            .training(
                lr=[[0, args.lr], [n_steps, _LR_END * args.lr]],
                grad_clip=args.grad_clip,
                grad_clip_by="global_norm",
            )
            .rl_module(
                rl_module_spec=RLModuleSpec(
                    module_class=module_class, model_config=self._module.to_dict()
                )
            )
            .debugging(seed=args.seed, log_level="ERROR")
        )
        space = observation_space(self._layout)
        actions: Any = spaces.Discrete(self._layout.n_candidates)
        return config.build_learner(spaces={DEFAULT_MODULE_ID: (space, actions)})

    def _fit(self, learner: Any, phase: str, passes: int, targets: Targets | None = None) -> None:
        args, n_seen = self._args, 0
        for done in range(1, passes + 1):
            loss = np.nan
            for episodes in self._shards(targets):
                n = sum(map(len, episodes))
                results = learner.update(
                    episodes=episodes,
                    timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: n_seen},
                    minibatch_size=min(args.minibatch, n),
                    num_epochs=1,
                    shuffle_batch_per_epoch=True,
                )
                n_seen += n
                loss = float(results[DEFAULT_MODULE_ID][learner.TOTAL_LOSS_KEY])
            if self._advance is not None:
                self._advance(OfflineProgress(phase, done, passes, loss))


def _module_config(
    args: OfflineArgs, layout: ObservationLayout, shards: Sequence[Lives]
) -> ModuleConfig:
    """Return a network whose columns are scaled by a sample of pages from all shards."""
    users, rows = [], []
    for lives in shards:
        n = -(-_SAMPLED_PAGES // len(shards))
        pages = np.unique(np.linspace(0, len(lives.eps) - 1, n).astype(np.int64))
        candidates = lives.candidates(pages)
        users.append(lives.users(pages))
        rows.append(candidates[np.abs(candidates).sum(axis=2) > 0.0])
    return ModuleConfig.of(
        layout,
        hidden=args.hidden,
        embed=args.embed,
        user_scaling=Scaling.of_known(np.concatenate(users)),
        item_scaling=Scaling.of_known(np.concatenate(rows)),
    )


def _seed(seed: int, name: str) -> None:
    """Seed the streams of this process that RLlib draws from."""
    words = np.random.SeedSequence([seed, *name.encode()]).generate_state(2)
    np.random.seed(int(words[0]))  # noqa: NPY002  # RLlib shuffles with it
    torch.manual_seed(int(words[1]))
