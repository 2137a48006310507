"""What is made between a search and a network: a bandit's best fit, and what a teacher shows.

No torch here.
"""

import numpy as np

from env.presets import Preset
from env.vector import SwipeVectorEnv
from env.vocabulary import Float32s
from serve.bench.pmfs import draw, softmax
from serve.bench.retention_lives import People, play_lives
from serve.bench.retention_rankings import Weights, columns, scores
from serve.bench.retention_tuning import fit_myopic

SOFTNESS = 0.03
"""Temperature of a clone's teacher: scores differ by some tenths."""
KEPT_EVERY = 8
"""Cards of which a clone learns one: the next ones of a person are much like it."""


def tune_myopic(preset: Preset, learns: People, judged: People, n_turns: int, seed: int) -> Weights:
    """Return the fit of a bandit that looks one card ahead under which a card earns most.

    Args:
        preset: of the world.
        learns: people whom it learns from.
        judged: others, by whom the fit is chosen.
        n_turns: cards of each for each fit.
        seed: of what is explored.
    """
    fits = fit_myopic(preset, learns, n_turns, seed)
    earned = [play_lives(preset, fit.open(seed), judged).reward_a_card() for fit in fits]
    return fits[int(np.argmax(earned))]


def watch_teacher(
    preset: Preset, teacher: Weights, people: People, n_turns: int, seed: int
) -> tuple[Float32s, Float32s, Float32s]:
    """Return people, what they were offered and a teacher's pmf over it, where it serves itself.

    Args:
        preset: of the world.
        teacher: whose softmax it is, at a temperature of `SOFTNESS`.
        people: who are served.
        n_turns: cards of each.
        seed: of the draws.

    Returns:
        Of shapes (m, n_user), (m, K, n_item) and (m, K).
    """
    env = SwipeVectorEnv(
        people.n_places, preset=preset, n_candidates=people.n_candidates, copy=False
    )
    observation: dict[str, Float32s]
    observation, _ = env.reset(seed=people.first)  # type: ignore[assignment]
    rng, weights = np.random.default_rng(seed), np.array(teacher.weights)
    users, rows, pmfs = [], [], []
    for turn in range(n_turns):
        pmf = softmax(scores(*columns(observation), weights), SOFTNESS)
        if turn % KEPT_EVERY == 0:
            users.append(observation["user"].copy())
            rows.append(np.concatenate([observation["items"], observation["personal"]], axis=-1))
            pmfs.append(pmf.astype(np.float32))
        observation = env.step(draw(pmf, rng))[0]  # type: ignore[assignment]
    return np.concatenate(users), np.concatenate(rows), np.concatenate(pmfs)
