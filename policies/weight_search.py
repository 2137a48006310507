"""Search over the weights of a linear ranker by the cross-entropy method.

The search asks for the worth of lives under each sample of weights and moves a Gaussian to the best
of them (Rubinstein, 1999), with fading noise so that it does not narrow too early (Szita and
Lorincz, 2006). It knows no environment. Sources and rejected alternatives:
`docs/decisions/weight-search.md`.
"""

import msgspec
import numpy as np

from env.vocabulary import Floats


class SearchArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of a search."""

    population: int = 48  # samples in each generation
    elite: int = 8  # best samples from which the next generation is drawn
    generations: int = 30  # number of generations
    sd: float = 2.0  # of the first generation's weights, around 0
    noise: float = 0.5  # added to the second generation's deviation; it fades linearly

    def __post_init__(self) -> None:
        """Raise ValueError unless 2 <= elite < population and there is a generation."""
        if not 2 <= self.elite < self.population or self.generations < 1:
            raise ValueError(
                f"expected 2 <= elite < population and a generation or more, got {self}"
            )


class WeightSearch:
    """A Gaussian over weights that moves to the best samples.

    Attributes:
        mean: current weights, shape (n_weights,).
        sd: shape (n_weights,).
        generation: number of generations that it was told of.
    """

    def __init__(self, n_weights: int, args: SearchArgs, seed: int) -> None:
        self.mean: Floats = np.zeros(n_weights)
        self.sd: Floats = np.full(n_weights, args.sd)
        self.generation = 0
        self._args = args
        self._generator = np.random.default_rng(seed)

    def ask(self) -> Floats:
        """Return weights to try, shape (population, n_weights)."""
        shape = (self._args.population, len(self.mean))
        return np.asarray(self.mean + self.sd * self._generator.standard_normal(shape))

    def tell(self, weights: Floats, worth: Floats) -> None:
        """Move to the best samples.

        Args:
            weights: as `ask` returned them.
            worth: of each, the higher the better, shape (population,).

        Raises:
            ValueError: a worth is no finite number, or there is not one for each.
        """
        if worth.shape != (len(weights),) or not np.isfinite(worth).all():
            raise ValueError(f"expected {len(weights)} finite worths, got {worth}")
        self.generation += 1
        best = weights[np.argsort(-worth, kind="stable")[: self._args.elite]]
        left = max(1.0 - self.generation / self._args.generations, 0.0)
        self.mean = best.mean(axis=0)
        self.sd = np.asarray(best.std(axis=0) + self._args.noise * left)


def linear_pmf(weights: Floats, features: Floats) -> Floats:
    """Return the softmax of weights times features, shape (.., n_candidates).

    Args:
        weights: shape (.., n_weights).
        features: of each candidate, shape (.., n_candidates, n_weights).
    """
    scores = np.einsum("...kw,...w->...k", features, weights)
    scores -= scores.max(axis=-1, keepdims=True)
    odds = np.exp(scores)
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def crossed(observations: Floats, n_actions: int) -> Floats:
    """Return features of n_actions that are always offered: the observation and 1 for each action.

    Args:
        observations: shape (n, n_columns).

    Returns:
        Of shape (n, n_actions, n_actions * (n_columns + 1)): 0 except in an action's own columns.
    """
    n, n_columns = observations.shape
    own = np.concatenate([np.ones((n, 1)), observations], axis=1)
    features = np.zeros((n, n_actions, n_actions, n_columns + 1))
    each = np.arange(n_actions)
    features[:, each, each] = own[:, None, :]
    return features.reshape(n, n_actions, -1)
