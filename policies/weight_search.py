"""Search over the weights of a linear ranker by the cross-entropy method.

A policy is the softmax of weights times features of a candidate, so it is as large as the weights:
what feeds in production are tuned by. The search asks for the mean worth of lives under each of a
population of weights, and moves a Gaussian to the best of them (Rubinstein, The Cross-Entropy
Method for Combinatorial and Continuous Optimization, 1999), with noise that fades, so that it does
not narrow before it has arrived (Szita and Lorincz, Learning Tetris Using the Noisy Cross-Entropy
Method, 2006).

It asks and is told, and knows no environment: `SwipeEnv` takes weights as they are
(`actions="weights"`), other environments take what `linear_pmf` makes of them. Rejected: CMA-ES (a
covariance of some dozens of weights from noisy ranks costs more lives than it saves).
"""

import msgspec
import numpy as np

from env.vocabulary import Floats


class SearchArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How weights are searched.

    Attributes:
        population: of each generation.
        elite: how many of it the next one is drawn around.
        generations: how many.
        sd: of the first generation's weights, around 0.
        noise: added to the standard deviation of the second generation; it fades linearly.
    """

    population: int = 48
    elite: int = 8
    generations: int = 30
    sd: float = 2.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a search that cannot move.

        Raises:
            ValueError: fewer than 2 elite, not fewer than the population, or no generation.
        """
        if not 2 <= self.elite < self.population or self.generations < 1:
            raise ValueError(
                f"expected 2 <= elite < population and a generation or more, got {self}"
            )


class WeightSearch:
    """A Gaussian over weights, moved by what it is told.

    Attributes:
        mean: the weights it is at, shape (n_weights,).
        sd: shape (n_weights,).
        generation: number of those that it was told of.
    """

    def __init__(self, n_weights: int, args: SearchArgs, seed: int) -> None:
        """Begin around 0."""
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
        """Move to the best of the weights that were tried.

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
    """Return the softmax of weights times features.

    Args:
        weights: shape (.., n_weights).
        features: of each candidate, shape (.., n_candidates, n_weights).

    Returns:
        Of shape (.., n_candidates).
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
        Of shape (n, n_actions, n_actions * (n_columns + 1)): 0 but in an action's own columns.
    """
    n, n_columns = observations.shape
    own = np.concatenate([np.ones((n, 1)), observations], axis=1)
    features = np.zeros((n, n_actions, n_actions, n_columns + 1))
    each = np.arange(n_actions)
    features[:, each, each] = own[:, None, :]
    return features.reshape(n, n_actions, -1)
