"""Rankings that are searched for: by what a card earns now, or by how often people come back.

The myopic bandit is greedy in a regression of the card's reward on the columns. It learns as a
bandit does: from cards drawn at random, then from its own with a share of random ones, and of all
its fits the one counts that earns most a card. Nothing holds it back but its horizon.

Weights are found by the cross-entropy method (`policies.weight_search`), all samples of a
generation played side by side by the same people.
"""

from typing import Any, Literal

import numpy as np
from msgspec.structs import replace

from env.presets import Preset
from env.swiping import Swiping
from env.vector import SwipeVectorEnv
from env.vocabulary import Floats, Ints
from policies.weight_search import SearchArgs, WeightSearch
from serve.bench.retention_lives import People, play_lives
from serve.bench.retention_rankings import (
    COLUMNS,
    N_WEIGHTS,
    AtRandom,
    Mixture,
    Weights,
    columns,
    scores,
    weigh,
)

RIDGE = 10.0
EXPLORED = 0.3
N_FITS = 3
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


def fit_myopic(preset: Preset, people: People, n_turns: int, seed: int) -> list[Weights]:
    """Return the fits of a bandit that sees one card ahead, first to last.

    Args:
        preset: of its world.
        people: whom it learns from; their lives may be longer.
        n_turns: cards of each that it learns from, for each fit.
        seed: of what it shows at random.
    """
    fits: list[Weights] = []
    log: list[tuple[Floats, Floats]] = []
    for k in range(N_FITS):
        log.append(_log(preset, people, fits[-1] if fits else None, n_turns, seed + k))
        rows, rewards = (np.concatenate(part) for part in zip(*log, strict=True))
        fits.append(Weights((*_regress(rows, rewards), *weigh()[len(COLUMNS) :])))
    return fits


def _log(
    preset: Preset, people: People, served: Weights | None, n_turns: int, seed: int
) -> tuple[Floats, Floats]:
    """Return columns of cards that were shown, shape (m, columns), and their rewards, (m,)."""
    env = SwipeVectorEnv(
        people.n_places, preset=preset, n_candidates=people.n_candidates, copy=False
    )
    observation, _ = env.reset(seed=people.first)
    rng, at = np.random.default_rng(seed), np.arange(people.n_places)
    choose = AtRandom().open(seed) if served is None else served.open(seed)
    rows, rewards, was_over = [], [], np.zeros(people.n_places, dtype=np.bool_)
    for _ in range(n_turns):
        found, _ = columns(observation)
        explores = rng.random(len(at)) < EXPLORED
        shown = np.where(
            explores,
            rng.integers(people.n_candidates, size=len(at)),
            choose(observation, env.swiping),
        )
        row = np.stack([column[at, shown] for column in found], axis=1)
        observation, reward, terminated, truncated, _ = env.step(shown)
        rows.append(row[~was_over])
        rewards.append(reward[~was_over])
        was_over = terminated | truncated
    return np.concatenate(rows), np.concatenate(rewards)


def _regress(rows: Floats, rewards: Floats) -> Floats:
    """Return the slopes of a ridge regression with an intercept."""
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    spread = np.maximum(centred.std(axis=0), 1e-9)
    design = centred / spread
    gram = design.T @ design + RIDGE * np.eye(len(spread))
    slopes = np.linalg.solve(gram, design.T @ (rewards - rewards.mean()))
    return np.asarray(slopes / spread)


def constant_mixes(engaging: Weights) -> dict[str, Mixture | Weights]:
    """Return constant mixtures of what engages and what nourishes, by name.

    Of two kinds: the ranker of a card is drawn, or both are added up with a constant weight. What
    nourishes is played and does not look like bait.

    Args:
        engaging: ranks by what engages.
    """
    nourishing = Weights(weigh(valid_play=1.0, baited_play=-1.0, bait_guess=-1.0))
    mixes: dict[str, Mixture | Weights] = {
        f"nourish {share:g}": Mixture(share, nourishing, engaging)
        for share in (0.25, 0.5, 0.75, 1.0)
    }
    for weight in (0.25, 0.5, 1.0):
        mixes[f"bait -{weight:g}"] = Weights(weigh(valid_play=1.0, bait_guess=-weight))
    return mixes


def search_weights(
    preset: Preset, people: People, start: Weights, goal: Goal, n_generations: int, seed: int
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
    """
    args = SearchArgs(N_SAMPLES, N_ELITE, n_generations, sd=1.0, noise=NOISE)
    search = WeightSearch(N_WEIGHTS, args, seed)
    begin, spread = np.array(start.weights), np.array(SPREAD + SPREAD)
    for generation in range(n_generations):
        steps = search.ask()
        first = people.first + generation * people.n_places
        samples = begin + spread * steps
        search.tell(steps, _worth(preset, people, samples, first, goal, cheats=start.is_informed))
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
