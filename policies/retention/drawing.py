"""The connectors between people and the network: observations in, drawn actions out, as arrays.

They take the place of RLlib's pipelines, which take the batch of a step apart, person by person,
and put it together again.
"""

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns


class Looking(ConnectorV2):
    """What everybody sees, as one tensor."""

    def __call__(self, *, rl_module: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the batch of the module."""
        return {Columns.OBS: torch.from_numpy(np.stack(kwargs[Columns.OBS]))}


class Drawing(ConnectorV2):
    """A candidate for everybody, drawn from the network's pmf."""

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], explore: bool | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the actions with the logits and the log-probabilities they were drawn at."""
        logits = batch[Columns.ACTION_DIST_INPUTS].detach()
        chances = torch.log_softmax(logits, dim=-1)
        drawn = torch.multinomial(chances.exp(), 1) if explore else logits.argmax(-1, keepdim=True)
        return {
            Columns.ACTIONS: drawn[:, 0].numpy(),
            Columns.ACTION_LOGP: chances.gather(1, drawn)[:, 0].numpy(),
            Columns.ACTION_DIST_INPUTS: logits.numpy(),
        }
