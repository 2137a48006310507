"""Search for the ranking weights under which users return most often.

The cross-entropy method (`WeightSearch`) plays its samples side by side, for whole lives of the
same simulated users. The samples' worths determine a search, so they are all that a resumed search
needs. Reasons: `docs/decisions/weight-search.md`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace

from env.played_lives import People, play_lives
from env.presets import Preset
from env.swiping import Swiping
from env.vocabulary import Floats, Ints
from policies.retention.rankings import N_WEIGHTS, Weights, columns, scores
from policies.weight_search import SearchArgs, WeightSearch

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
    people: People,
    start: Weights,
    goal: Goal,
    n_generations: int,
    seed: int,
    *,
    known: Sequence[Worths] = (),
    note: Note = lambda worths: None,
) -> Weights:
    """Return weights under which users' lives are worth most.

    Args:
        people: number of simulated users and length of their lives for each sample; every
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
            first = people.first + generation * people.n_places
            samples = begin + spread * steps
            worth = _worth(preset, people, samples, first, goal, cheats=start.is_informed)
            worths.append(tuple(worth.tolist()))
            note(tuple(worths))
        search.tell(steps, np.array(worths[generation]))
    found = begin + spread * search.mean
    return Weights(tuple(found.tolist()), start.is_informed)


def _worth(
    preset: Preset, people: People, samples: Floats, first: int, goal: Goal, *, cheats: bool
) -> Floats:
    """Return the worth of lives under each sample of weights, shape (n_samples,)."""
    n, m = people.n_places, len(samples)
    own = np.repeat(samples, n, axis=0).T[:, :, None]

    def choose(observation: Any, swiping: Swiping) -> Ints:
        found, load = columns(observation, swiping if cheats else None)
        return np.asarray(scores(found, load, own).argmax(axis=1))

    places = np.tile(first + np.arange(n), m)
    lives = play_lives(preset, choose, replace(people, n_places=n * m), places)
    days, reward = (x.reshape(m, n).sum(axis=1) for x in (lives.active_days, lives.reward))
    return np.asarray(reward / days if goal == "session" else days + REWARD_WORTH * reward)
