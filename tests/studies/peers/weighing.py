"""Actions that say how candidates are ranked, not which one is shown: weights of features.

A search finds one setting of such weights for everybody (`policies.training.search.search`). Here a
policy chooses them anew for each card, as a continuous action, and whichever comes first by them is
shown: what a ranking system in production leaves to reinforcement learning (Cai et al., Reinforcing
User Retention in a Billion Scale Short Video Recommender System, WWW 2023). The features are those
of the search, 1 and the three columns observed for each of the twin's actions, so the two compare.

A policy over weights is none over cards until the weights are drawn, so its chance of a card is
counted from draws. Rejected: a softmax of the ranked scores instead of the first (then noise is
drawn twice, of the weights and of the card).
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from env.twin.model import N_ACTIONS
from env.vocabulary import Float32s, Floats, Ints
from policies.training.search.search import crossed

LIMIT = 1.0
"""Weights are in [-LIMIT, LIMIT], as `SwipeEnv` takes them; what is beyond is cut."""

N_COLUMNS = 3
N_WEIGHTS = N_ACTIONS * (N_COLUMNS + 1)
_SPACE = spaces.Box(-LIMIT, LIMIT, (N_WEIGHTS,), np.float32)


class Gaussians(NamedTuple):
    """Weights that are drawn, each for itself: shape (n, N_WEIGHTS) both."""

    mean: Floats
    sd: Floats


def ranked_first(weights: Floats, observations: Float32s) -> Ints:
    """Return which card comes first, shape (..., n).

    Args:
        weights: shape (..., n, N_WEIGHTS).
        observations: shape (n, N_COLUMNS).
    """
    features = crossed(observations.astype(np.float64), N_ACTIONS)
    cut = np.clip(weights, -LIMIT, LIMIT)
    return np.asarray(np.einsum("nkw,...nw->...nk", features, cut).argmax(axis=-1))


def chances(weights: Gaussians, observations: Float32s, n_draws: int, seed: int) -> Floats:
    """Return how often each card comes first, shape (n, N_ACTIONS), rows of sum 1.

    Args:
        weights: which are drawn.
        observations: shape (n, N_COLUMNS).
        n_draws: of each row.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_draws, *weights.mean.shape))
    first = ranked_first(weights.mean + weights.sd * noise, observations)
    counts = (first[:, :, None] == np.arange(N_ACTIONS)).sum(axis=0)
    return np.asarray(counts / n_draws)


class Weighed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One user of the twin, to whom weights are put; its observation must be flat."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Stand before an environment."""
        super().__init__(env)
        self.action_space = _SPACE
        self._seen: Any = None

    def reset(self, **kwargs: Any) -> Any:
        """Begin a life."""
        self._seen, info = self.env.reset(**kwargs)
        return self._seen, info

    def step(self, action: Any) -> Any:
        """Show the card that comes first by the weights, shape (N_WEIGHTS,)."""
        (card,) = ranked_first(action[None], self._seen[None])
        self._seen, *told = self.env.step(int(card))
        return self._seen, *told


class WeighedVector(VectorWrapper):
    """`Weighed` of n users at a time."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Stand before an environment."""
        super().__init__(env)
        self.single_action_space = _SPACE
        self.action_space = batch_space(_SPACE, env.num_envs)
        self._seen: Any = None

    def reset(self, **kwargs: Any) -> Any:
        """Begin a life in each place."""
        self._seen, info = self.env.reset(**kwargs)
        return self._seen, info

    def step(self, actions: Any) -> Any:
        """Show everybody the card that comes first by their weights, shape (n, N_WEIGHTS)."""
        self._seen, *told = self.env.step(ranked_first(actions, self._seen))
        return self._seen, *told
