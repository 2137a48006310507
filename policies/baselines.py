"""Baseline policies: uniform, popularity, and a mixture of the two.

They need no training, serve before there is a model, and are the policies that a learned one is
compared with. Their pmfs can be checked by hand.
"""

import numpy as np

from env.columns.schema import POPULARITY, action_index
from env.vocabulary import Bools, Context, Floats
from policies.explorers import AnyExplorer, Mixed, Softmax, Uniform, explorer_args


class UniformPolicy:
    """Shows every candidate with the same probability."""

    name = "uniform@0"

    @property
    def explorer(self) -> dict[str, object]:
        """The uniform explorer's arguments."""
        return explorer_args(Uniform())

    def score(self, context: Context) -> Floats:
        """Return zeros, shape (n,)."""
        return np.zeros(len(context))

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return 1 / |mask| on the mask."""
        return Uniform().pmf(scores, mask)


class PopularityPolicy:
    """Ranks by the popularity column of the features, softened by an explorer.

    With `Mixed((Uniform(), Softmax(t)), (w, 1 - w))` the pmf is p = w / k + (1 - w) * softmax.
    """

    def __init__(self, explorer: AnyExplorer | None = None, *, name: str = "popularity@0") -> None:
        """Rank with this explorer; the default is softmax at temperature 0.1."""
        self.name = name
        self._explorer = explorer or Softmax(0.1)

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return each candidate's popularity, shape (n,)."""
        return context.features.actions[:, action_index(POPULARITY)].astype(np.float64)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)


def mixture_policy(uniform_share: float, temperature: float = 0.1) -> PopularityPolicy:
    """Return popularity mixed with a share of uniform.

    Args:
        temperature: of the popularity softmax, above 0.
    """
    parts = (Uniform(), Softmax(temperature))
    explorer = Mixed(parts, (uniform_share, 1.0 - uniform_share))
    return PopularityPolicy(explorer, name="mixture@0")


def baseline(name: str, explorer: AnyExplorer) -> UniformPolicy | PopularityPolicy | None:
    """Return the baseline with this name and explorer; None if the name is another policy's."""
    match name:
        case UniformPolicy.name:
            return UniformPolicy()
        case "popularity@0" | "mixture@0":
            return PopularityPolicy(explorer, name=name)
        case _:
            return None
