"""The RLlib module that is trained: a `TorchRLModule` around the scorer and the critic.

It draws from the softmax of the candidates' logits. Its model_config holds the layout and the
scaling, so a checkpoint restores it without any connector. Rejected alternatives:
`docs/decisions/ranker-network.md`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule

from policies.ranker.ranker import RankerArgs
from policies.training.layout import ObservationLayout, Scaling
from policies.training.networks import MASKED, CriticNetwork, Scorer


class ModuleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configuration of the module; as a dict it is RLlib's `model_config`."""

    n_user: int  # columns of a user, as in the layout
    n_item: int  # columns of a candidate's row, as in the layout
    layout: ObservationLayout  # of the observation
    hidden: int = 64  # units of each hidden layer
    embed: int = 32  # length of an embedding
    user_scaling: Scaling | None = None  # of a user's columns; None: unscaled
    item_scaling: Scaling | None = None  # of a row's columns; None: unscaled

    def __post_init__(self) -> None:
        """Raise ValueError if the numbers of columns differ."""
        widths = (self.n_user, self.n_item)
        scaled = tuple(
            len(scaling.shift) if scaling else width
            for scaling, width in zip((self.user_scaling, self.item_scaling), widths, strict=True)
        )
        laid_out = (self.layout.n_user, self.layout.n_row)
        if not widths == laid_out == scaled:
            raise ValueError(
                f"expected as many columns of a user and a row everywhere, got {widths}, in the "
                f"layout {laid_out}, in the scaling {scaled}"
            )

    @classmethod
    def of(
        cls,
        layout: ObservationLayout,
        *,
        hidden: int = 64,
        embed: int = 32,
        user_scaling: Scaling | None = None,
        item_scaling: Scaling | None = None,
    ) -> "ModuleConfig":
        """Return the configuration for observations of this layout."""
        return cls(layout.n_user, layout.n_row, layout, hidden, embed, user_scaling, item_scaling)

    @property
    def args(self) -> RankerArgs:
        """The shape of the network."""
        return RankerArgs(self.n_user, self.n_item, self.hidden, self.embed)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "ModuleConfig":
        """Read a configuration from a `model_config`, to which RLlib adds keys of its own.

        Raises:
            msgspec.ValidationError: a key is missing, or they contradict each other.
        """
        ours = {name: config[name] for name in cls.__struct_fields__ if name in config}
        return msgspec.convert(ours, cls)

    def to_dict(self) -> dict[str, Any]:
        """Return RLlib's `model_config`: plain values, which any checkpoint keeps."""
        config: dict[str, Any] = msgspec.to_builtins(self)
        return config


class RankerModule(TorchRLModule, ValueFunctionAPI):
    """Softmax over candidates, with a value of the objective and one of the returns alone.

    Observations come in any form of `ObservationLayout`; `model_config` is
    `ModuleConfig.to_dict()`.
    """

    def setup(self) -> None:
        """Make the networks.

        Raises:
            msgspec.ValidationError: the model_config is none, or contradicts itself.
        """
        self.settings = ModuleConfig.from_dict(self.model_config)
        args = self.settings.args
        user = self.settings.user_scaling or Scaling.none(args.n_user)
        item = self.settings.item_scaling or Scaling.none(args.n_item)
        self.scorer = Scorer(args, user, item)
        self.critic = CriticNetwork(args, user, item)
        one_hot = torch.eye(self.settings.layout.n_candidates)[None]
        self.register_buffer("one_hot", one_hot, persistent=False)
        self.action_dist_cls = TorchCategorical

    def _forward(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return the logits of the candidates, MASKED off the mask."""
        user, rows, mask = self._inputs(batch)
        logits = self.scorer(user, rows)
        if mask is not None:
            logits = logits.masked_fill(~mask, MASKED)
        return {Columns.ACTION_DIST_INPUTS: logits}

    def compute_values(
        self, batch: Mapping[str, Any], embeddings: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the value of the objective, shape (n,)."""
        return self.compute_both_values(batch)[:, 0]

    def compute_both_values(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return values of the objective and of the returns alone, shape (n, 2)."""
        return self.critic(*self._inputs(batch))

    def _inputs(
        self, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return users (n, U), rows (n or 1, K, n_row) and the mask (n, K) if there is one."""
        observation, layout = batch[Columns.OBS], self.settings.layout
        if isinstance(observation, Mapping):
            user, blocks = observation["user"], [observation["item"]]
            if layout.n_personal:
                blocks.append(observation["personal"])
            mask = observation.get("mask")
            mask = None if mask is None else mask.bool()
        else:
            (user, blocks), mask = layout.cut(observation), None
        rows = torch.cat(blocks, dim=-1) if blocks else self.one_hot
        return user, rows, mask
