"""Connectors between environment and network: observations in, drawn actions out, as arrays.

They replace RLlib's pipelines, which split each step's batch by user and join it again.
"""

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns


class Looking(ConnectorV2):
    """Stacks all users' observations into one tensor."""

    def __call__(self, *, rl_module: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the batch of the module."""
        return {Columns.OBS: torch.from_numpy(np.stack(kwargs[Columns.OBS]))}


class Drawing(ConnectorV2):
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
