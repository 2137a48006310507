"""Plain functions from features to scores, marked so that an arm can serve them.

The simplest policy of one's own is one function: it is given a page's `Features` and returns one
score a candidate. The explorer comes from the arm.
"""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from env.columns.schema import DYNAMIC, N_STATIC, SHARED, STATIC
from env.vocabulary import Bools, Context, Features, Floats
from policies.explorers import AnyExplorer, explorer_args

ScoresFeatures = Callable[[Features], npt.ArrayLike]


class ScoreFunction:
    """A function from features to scores that is marked as such; called, it is that function."""

    def __init__(self, function: ScoresFeatures) -> None:
        """Mark this function."""
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, features: Features) -> npt.ArrayLike:
        """Return the function's scores, shape (n,)."""
        return self.function(features)


def scores_features(function: ScoresFeatures) -> ScoreFunction:
    """Mark a function from a page's features to one score a candidate as a policy.

    >>> @scores_features
    ... def freshest(features: Features) -> Floats:
    ...     return -column(features, "age")
    """
    return ScoreFunction(function)


def column(features: Features, name: str) -> Floats:
    """Return a column of the candidates by its name, shape (n,).

    Args:
        features: of a page.
        name: one of `env.columns.schema.STATIC` or `env.columns.schema.DYNAMIC`.

    Raises:
        KeyError: there is no such column.
    """
    return features.actions[:, _place(name, _CANDIDATE)].astype(np.float64)


def shared_column(features: Features, name: str) -> float:
    """Return a column of the user or the scene by its name, one of `env.columns.schema.SHARED`.

    Raises:
        KeyError: there is no such column.
    """
    return float(features.shared[_place(name, _SHARED)])


class ScoredPolicy:
    """A marked function with an explorer, as a Policy."""

    def __init__(self, name: str, scores: ScoreFunction, explorer: AnyExplorer) -> None:
        """Draw by the scores of a function.

        Args:
            name: MODULE:FUNCTION.
            scores: the function.
            explorer: of the arm.
        """
        self.name = f"{name}@0"
        self._scores = scores
        self._explorer = explorer

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def score(self, context: Context) -> Floats:
        """Return the function's scores in float64."""
        return np.array(self._scores(context.features), dtype=np.float64)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self._explorer.pmf(scores, mask)


_SHARED = {name: place for place, name in enumerate(SHARED)}

_CANDIDATE = {
    **{name: place for place, name in enumerate(STATIC)},
    **{name: N_STATIC + place for place, name in enumerate(DYNAMIC)},
}


def _place(name: str, places: dict[str, int]) -> int:
    if name not in places:
        raise KeyError(f"expected one of {', '.join(places)}, got {name!r}")
    return places[name]
