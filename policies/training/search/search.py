"""Search for the ranking weights under which users return most often.

The cross-entropy method (`WeightSearch`) plays its samples side by side, for whole lives of the
same simulated users. The samples' worths determine a search, so they are all that a resumed search
needs. Reasons: `docs/decisions/weight-search.md`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from env.report.played_lives import EvaluationUsers, evaluation_rollouts
from env.vocabulary import Floats, Ints
from env.world.presets import Preset
from env.world.simulation import Simulation
from policies.training.rankings import N_WEIGHTS, WeightedRanking, columns, scores


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


Worths = tuple[float, ...]
"""Worths of the samples in a generation."""

Note = Callable[[tuple[Worths, ...]], None]
"""Called with all generations so far, after each generation that was played."""

Goal = Literal["life", "session"]
"""The worth of a life: "life" counts active days and, next to them, the cards' reward; "session"
counts the reward per session, the objective of an operator who does not look beyond a session's
end."""

REWARD_WORTH = 0.01
"""Active days that a unit of reward is worth. It decides where the ranking does not change
returns."""

N_ELITE = 6
N_SAMPLES = 24
"""Samples of weights in a generation."""

NOISE = 0.3
SPREAD = (0.6, 0.5, 1.0, 0.1, 0.3, 0.1, 0.3, 0.3, 0.2)
"""Standard deviations of the first samples, by column: times a column's usual range, some tenths of
a score."""


def search_weights(
    preset: Preset,
    users: EvaluationUsers,
    start: WeightedRanking,
    goal: Goal,
    n_generations: int,
    seed: int,
    *,
    known: Sequence[Worths] = (),
    note: Note = lambda worths: None,
) -> WeightedRanking:
    """Return weights under which users' lives are worth most.

    Args:
        users: number of simulated users and length of their lives for each sample; every
            generation has its own users.
        start: the mean of the first samples.
        known: worths of the first generations of the same search, which are not played again.
    """
    args = SearchArgs(N_SAMPLES, N_ELITE, n_generations, sd=1.0, noise=NOISE)
    search = WeightSearch(N_WEIGHTS, args, seed)
    begin, spread = np.array(start.weights), np.array(SPREAD + SPREAD)
    worths = list(known)
    for generation in range(n_generations):
        steps = search.ask()
        if generation == len(worths):
            first = users.first + generation * users.n_places
            samples = begin + spread * steps
            worth = _worth(preset, users, samples, first, goal, cheats=start.is_informed)
            worths.append(tuple(worth.tolist()))
            note(tuple(worths))
        search.tell(steps, np.array(worths[generation]))
    found = begin + spread * search.mean
    return WeightedRanking(tuple(found.tolist()), start.is_informed)


def _worth(
    preset: Preset,
    users: EvaluationUsers,
    samples: Floats,
    first: int,
    goal: Goal,
    *,
    cheats: bool,
) -> Floats:
    """Return the worth of lives under each sample of weights, shape (n_samples,)."""
    n, m = users.n_places, len(samples)
    own = np.repeat(samples, n, axis=0).T[:, :, None]

    def choose(observation: Any, swiping: Simulation) -> Ints:
        found, load = columns(observation, swiping if cheats else None)
        return np.asarray(scores(found, load, own).argmax(axis=1))

    places = np.tile(first + np.arange(n), m)
    lives = evaluation_rollouts(preset, choose, replace(users, n_places=n * m), places)
    days, reward = (x.reshape(m, n).sum(axis=1) for x in (lives.active_days, lives.reward))
    return np.asarray(reward / days if goal == "session" else days + REWARD_WORTH * reward)
