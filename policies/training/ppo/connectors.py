"""The learner connector turns fragments of lives into a batch with advantages and value targets.

It replaces RLlib's whole learner pipeline, since lives are discounted by days and not by cards.
Rejected alternatives: `docs/decisions/ppo-training.md`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from env.vocabulary import Bools, Float32s, Floats
from policies.explorers import softmax
from policies.training.layout import ObservationLayout
from policies.training.ppo.advantages import Steps, estimate, standardise
from policies.training.ppo.critics import Critic, NetworkFunctions
from policies.training.ppo.restraint import ConstrainedAdvantages
from policies.training.ppo.survival import ReturnModel
from policies.training.settings import RetentionArgs


class ObservationConnector(ConnectorV2):
    """Stacks all users' observations into one tensor."""

    def __call__(self, *, rl_module: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the batch of the module."""
        return {Columns.OBS: torch.from_numpy(np.stack(kwargs[Columns.OBS]))}


class ActionConnector(ConnectorV2):
    """Draws a candidate for each user from the network's pmf."""

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], explore: bool | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the actions with their logits and log-probabilities."""
        logits = batch[Columns.ACTION_DIST_INPUTS].detach()
        chances = torch.log_softmax(logits, dim=-1)
        drawn = torch.multinomial(chances.exp(), 1) if explore else logits.argmax(-1, keepdim=True)
        return {
            Columns.ACTIONS: drawn[:, 0].numpy(),
            Columns.ACTION_LOGP: chances.gather(1, drawn)[:, 0].numpy(),
            Columns.ACTION_DIST_INPUTS: logits.numpy(),
        }


_TAKEN = (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS)
"""Module outputs at the draw of each card, needed for the probability ratio."""


class AdvantageConnector(ConnectorV2):
    """Computes advantages and value targets of the cards in fragments of lives.

    Attributes:
        restraint: applies the constraints; None without any.
    """

    def __init__(self, args: RetentionArgs, layout: ObservationLayout, critic: Critic) -> None:
        super().__init__()
        self._args, self._layout, self._critic = args, layout, critic
        self._returns = ReturnModel() if args.expected_return else None
        limits = args.limits.listed()
        self.restraint = ConstrainedAdvantages(limits, layout) if limits else None

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: Sequence[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Return the module's batch as tensors."""
        module = rl_module[DEFAULT_MODULE_ID]
        came = steps_of(episodes)
        steps = self._expected(came)
        judged = self._critic.judge(steps, network_of(module))
        advantages = estimate(judged.targets, judged.values, steps, self._args.lambda_)
        taken = {name: _joined(episodes, name) for name in _TAKEN}
        scaled = standardise(advantages)
        if self.restraint is not None:
            events = events_of(episodes, self.restraint.events)
            pmfs = softmax(taken[Columns.ACTION_DIST_INPUTS].astype(np.float64))
            scaled = self.restraint.hold(scaled, steps, pmfs, events)
        columns = {
            Columns.OBS: steps.observations,
            Columns.ACTIONS: steps.actions,
            Postprocessing.ADVANTAGES: scaled.astype(np.float32),
            Postprocessing.VALUE_TARGETS: self._critic.unit(judged.values + advantages).astype(
                np.float32
            ),
            **taken,
        }
        return {DEFAULT_MODULE_ID: {name: torch.from_numpy(c) for name, c in columns.items()}}

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return everything learned outside the network."""
        returns = None if self._returns is None else self._returns.state()
        restraint = None if self.restraint is None else self.restraint.state()
        return {"critic": self._critic.state(), "returns": returns, "restraint": restraint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Load the state of another one."""
        self._critic.restore(state["critic"])
        if self._returns is not None:
            self._returns.restore(state["returns"])
        if self.restraint is not None:
            self.restraint.restore(state["restraint"])

    def _expected(self, steps: Steps) -> Steps:
        """Return the steps with expected discounts at sessions' ends, if the arguments say so."""
        if self._returns is not None:
            features = self._seen_at_ends(steps)
            self._returns.learn(features, steps.discounts[steps.left])
            if self._returns.n_ends:
                discounts = steps.discounts.copy()
                discounts[steps.left] = self._returns.expect(features)
                steps = steps.expecting(discounts, self._args.return_worth)
        return steps

    def _seen_at_ends(self, steps: Steps) -> Floats:
        """Return the user and the shown card at each session's end, shape (n_ends, width)."""
        ends = np.flatnonzero(steps.left)
        users, rows, _ = self._layout.arrays(steps.observations[ends])
        shown = rows[np.arange(len(ends)), steps.actions[ends]]
        return np.concatenate([users, shown], axis=1).astype(np.float64)


def steps_of(episodes: Sequence[Any]) -> Steps:
    """Return the cards of numpy `SingleAgentEpisode`s, one fragment of a life after another.

    The infos must contain `session_end` and `discount`.
    """
    observations = [episode.get_observations() for episode in episodes]
    infos = [info for episode in episodes for info in episode.get_infos(slice(1, None))]
    lengths = np.array([len(episode) for episode in episodes])
    is_last: Bools = np.zeros(int(lengths.sum()), dtype=np.bool_)
    is_last[lengths.cumsum() - 1] = True
    return Steps(
        observations=np.concatenate([seen[:-1] for seen in observations]),
        actions=np.concatenate([episode.get_actions() for episode in episodes]),
        rewards=np.concatenate([episode.get_rewards() for episode in episodes]).astype(np.float64),
        left=np.array([info["session_end"] for info in infos], dtype=np.bool_),
        discounts=np.array([info["discount"] for info in infos], dtype=np.float64),
        after=np.concatenate([seen[1:] for seen in observations]),
        is_last=is_last,
    )


def events_of(episodes: Sequence[Any], names: Sequence[str]) -> Floats:
    """Return each card's named events from the infos, 1 or 0, shape (n, n_names)."""
    infos = (info for episode in episodes for info in episode.get_infos(slice(1, None)))
    return np.array([[info[name] for name in names] for info in infos], dtype=np.float64)


def network_of(module: Any) -> NetworkFunctions:
    """Return the functions of a module that critics use."""

    def values(observations: Float32s) -> Floats:
        with torch.no_grad():
            found = module.compute_values({Columns.OBS: torch.from_numpy(observations)})
        return np.asarray(found.numpy(), dtype=np.float64)

    def pmf(observations: Float32s) -> Floats:
        with torch.no_grad():
            out = module.forward_inference({Columns.OBS: torch.from_numpy(observations)})
        logits = out[Columns.ACTION_DIST_INPUTS].double()
        return np.asarray(torch.softmax(logits, dim=-1).numpy())

    return NetworkFunctions(values, pmf)


def _joined(episodes: Sequence[Any], column: str) -> Float32s:
    parts = [episode.get_extra_model_outputs(column) for episode in episodes]
    return np.asarray(np.concatenate(parts), dtype=np.float32)
