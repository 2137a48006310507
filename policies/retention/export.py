"""From the module that was trained to the ranker that is served, and back for comparison.

What leaves training is a dict of arrays and a shape, never a pickle of code. The critic stays.
"""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from env.vocabulary import Float32s, Floats
from policies.ranker import Ranker
from policies.retention.layout import Layout
from policies.retention.module import ModuleConfig, RankerModule
from policies.retention.networks import to_ranker


def export(module: RankerModule) -> Ranker:
    """Return the scorer of a module with its weights of now.

    Raises:
        ValueError: a weight is not finite.
    """
    return to_ranker(module.scorer, module.settings.args)


def load(module: RankerModule, ranker: Ranker) -> None:
    """Give a module's scorer the weights of a ranker, to go on from there or to compare.

    Raises:
        ValueError: the ranker is of another shape.
    """
    if ranker.args != module.settings.args:
        raise ValueError(f"expected a ranker of {module.settings.args}, got {ranker.args}")
    weights = {name: torch.tensor(tensor) for name, tensor in ranker.tensors.items()}
    module.scorer.load_state_dict(weights)


def make_module(config: ModuleConfig, *, seed: int) -> RankerModule:
    """Return a module that is not trained, outside of any algorithm.

    Args:
        config: of which it is made.
        seed: of its weights; torch's global stream is left as it was.
    """
    layout = config.layout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RankerModule(
            observation_space=_space(layout),
            action_space=spaces.Discrete(layout.n_candidates),
            model_config=config.to_dict(),
        )


def torch_scores(module: RankerModule, user: Float32s, rows: Float32s) -> Floats:
    """Return the logits as the module computes them, shape (n, K).

    Args:
        module: of whatever layout; its scorer takes any number of candidates.
        user: shape (n, n_user).
        rows: shape (n, K, n_item).
    """
    with torch.no_grad():
        logits = module.scorer(torch.from_numpy(user), torch.from_numpy(rows))
    return np.asarray(logits.numpy(), dtype=np.float64)


def _space(layout: Layout) -> gym.Space[Float32s]:
    return spaces.Box(-np.inf, np.inf, (layout.n_flat,), np.float32)
