"""Ranking weights under which people come back most often, found by search.

The cross-entropy method (`policies.weight_search`), whose samples are played side by side, for
whole lives, by the same people. What a card does to a return is far below the noise of one return;
what a ranking does to a life is not. Eighteen numbers are few enough to be found so.

A search is known by what its samples were worth: told the same worths it asks for the same samples,
so these are all that has to be kept of one that shall go on after a kill.
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
"""Of the samples of a generation."""
Note = Callable[[tuple[Worths, ...]], None]
"""Told of all generations so far, after each that was played."""
Goal = Literal["life", "session"]
"""What a life is worth: its active days and, next to them, what its cards earn; or what they earn a
session, as someone sees it who does not look beyond its end."""
REWARD_WORTH = 0.01
"""Active days that are worth a unit of engagement. Where nothing that is shown changes whether
people come back, it decides."""
N_ELITE = 6
N_SAMPLES = 24
"""Of weights in a generation."""
NOISE = 0.3
SPREAD = (0.6, 0.5, 1.0, 0.1, 0.3, 0.1, 0.3, 0.3, 0.2)
"""Of the first samples, by column: a column's usual range times it is some tenths of a score."""


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
    """Return weights under which people's lives are worth most.

    Args:
        preset: of the world.
        people: how many see each sample of weights, in lives of how many days; others in each
            generation.
        start: the middle of the first samples.
        goal: what a life is worth.
        n_generations: of samples.
        seed: of the samples.
        known: what the first generations were worth to the same search, which are not played.
        note: told of each that is.
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
    """Return what lives are worth under each sample of weights, shape (n_samples,)."""
    n, m = people.n_places, len(samples)
    own = np.repeat(samples, n, axis=0).T[:, :, None]

    def choose(observation: Any, swiping: Swiping) -> Ints:
        found, load = columns(observation, swiping if cheats else None)
        return np.asarray(scores(found, load, own).argmax(axis=1))

    places = np.tile(first + np.arange(n), m)
    lives = play_lives(preset, choose, replace(people, n_places=n * m), places)
    days, reward = (x.reshape(m, n).sum(axis=1) for x in (lives.active_days, lives.reward))
    return np.asarray(reward / days if goal == "session" else days + REWARD_WORTH * reward)
