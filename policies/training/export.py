"""Conversion between the trained module and the served ranker.

Only a dict of arrays and a shape leaves training, never a pickle of code. The critic is not
exported.
"""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from env.vocabulary import Float32s, Floats
from policies.ranker.ranker import Ranker
from policies.training.layout import ObservationLayout
from policies.training.module import ModuleConfig, RankerModule
from policies.training.networks import to_ranker


def export(module: RankerModule) -> Ranker:
    """Return a module's scorer as a ranker.

    Raises:
        ValueError: a weight is not finite.
    """
    return to_ranker(module.scorer, module.settings.args)


def load(module: RankerModule, ranker: Ranker) -> None:
    """Set a module's scorer to the weights of a ranker, to continue training or to compare.

    Raises:
        ValueError: the ranker is of another shape.
    """
    if ranker.args != module.settings.args:
        raise ValueError(f"expected a ranker of {module.settings.args}, got {ranker.args}")
    weights = {name: torch.tensor(tensor) for name, tensor in ranker.tensors.items()}
    module.scorer.load_state_dict(weights)


def make_module(config: ModuleConfig, *, seed: int) -> RankerModule:
    """Return an untrained module without an algorithm; torch's global stream is unchanged."""
    layout = config.layout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RankerModule(
            observation_space=_space(layout),
            action_space=spaces.Discrete(layout.n_candidates),
            model_config=config.to_dict(),
        )


def torch_scores(module: RankerModule, user: Float32s, rows: Float32s) -> Floats:
    """Return the module's logits, shape (n, K).

    Args:
        user: shape (n, n_user).
        rows: shape (n, K, n_item).
    """
    with torch.no_grad():
        logits = module.scorer(torch.from_numpy(user), torch.from_numpy(rows))
    return np.asarray(logits.numpy(), dtype=np.float64)


def _space(layout: ObservationLayout) -> gym.Space[Float32s]:
    return spaces.Box(-np.inf, np.inf, (layout.n_flat,), np.float32)
