"""The myopic bandit is greedy in a ridge regression of a card's reward on its columns.

It learns from random cards first, then from its own with a share of random ones, and the fit that
earns most per card is kept. Only its horizon limits it, so a ranker for retention is compared with
it, and a search starts from it.
"""

import numpy as np

from env.played_lives import People, play_lives
from env.presets import Preset
from env.vector import SwipeVectorEnv
from env.vocabulary import Floats
from policies.retention.rankings import COLUMNS, AtRandom, Weights, columns, weigh

RIDGE = 10.0
EXPLORED = 0.3
N_FITS = 3


def tune_myopic(preset: Preset, learns: People, judged: People, n_turns: int, seed: int) -> Weights:
    """Return the fit of a myopic bandit under which a card earns most.

    Args:
        judged: other simulated users, for the choice of a fit.
        n_turns: cards of each for each fit.
    """
    fits = fit_myopic(preset, learns, n_turns, seed)
    earned = [play_lives(preset, fit.open(seed), judged).reward_a_card() for fit in fits]
    return fits[int(np.argmax(earned))]


def fit_myopic(preset: Preset, people: People, n_turns: int, seed: int) -> list[Weights]:
    """Return a myopic bandit's fits, first to last, each after n_turns cards of every user."""
    fits: list[Weights] = []
    log: list[tuple[Floats, Floats]] = []
    for k in range(N_FITS):
        log.append(_log(preset, people, fits[-1] if fits else None, n_turns, seed + k))
        rows, rewards = (np.concatenate(part) for part in zip(*log, strict=True))
        fits.append(Weights((*_regress(rows, rewards).tolist(), *weigh()[len(COLUMNS) :])))
    return fits


def _log(
    preset: Preset, people: People, served: Weights | None, n_turns: int, seed: int
) -> tuple[Floats, Floats]:
    """Return columns of shown cards, shape (m, columns), and their rewards, (m,)."""
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
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    spread = np.maximum(centred.std(axis=0), 1e-9)
    design = centred / spread
    gram = design.T @ design + RIDGE * np.eye(len(spread))
    slopes = np.linalg.solve(gram, design.T @ (rewards - rewards.mean()))
    return np.asarray(slopes / spread)
