"""Folded states of the log that an audit reads, from a snapshot or from the log.

See also `docs/decisions/serve-versions.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs
from env.interface import Policy
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from policies.bandit.scorer import HybridBanditScorer, Kernel, make_layout
from policies.bandit.settings import HybridBanditArgs
from policies.custom.policy import CustomPolicy


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A frozen policy, item statistics, audiences and custom policies that pages are drawn with."""

    policy: Policy
    states: ItemStates
    audiences: Audiences
    version: int = 0
    offset: int = 0
    custom: Mapping[str, CustomPolicy] = field(default_factory=dict)


def initial_serving_model(
    args: HybridBanditArgs, audiences: AudienceArgs | None = None
) -> ServingModel:
    """Return version 0, the state before any learning."""
    return ServingModel(initial_model(args), ItemStates(), Audiences(audiences))


def initial_model(args: HybridBanditArgs) -> HybridBanditScorer:
    """Return the policy of version 0, which scores all candidates alike."""
    layout = make_layout(args.bits)
    nothing = np.zeros(layout.mask + 1, dtype=np.float32)
    return HybridBanditScorer(Kernel(layout, nothing), args.explorer, 0)


@dataclass(frozen=True, slots=True)
class Folds:
    """Audiences and item states at one offset of the log, and the catalogue.

    Attributes:
        args: arguments of the audiences.
        version: version of the published policy; 0: none was published.
        offset: last log line folded in.
    """

    audiences: Audiences
    states: ItemStates
    catalogue: Catalogue
    args: AudienceArgs
    version: int = 0
    offset: int = 0
