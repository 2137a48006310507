"""Connector and configuration that make batches of whole lives for RLlib's learners."""

from collections.abc import Callable, Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from policies.training.offline.critic import tensors
from policies.training.offline.episodes import LoggedSteps

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
