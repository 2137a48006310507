"""The teacher's demonstrations: users, their candidates, and the pmf of ranking weights.

The teacher reads the world's own observation; the student may see the columns of a request to the
HTTP feed for the same card (a privileged teacher: Chen et al., Learning by Cheating, CoRL 2019). So
a ranker for a feed needs no search of its own.
"""

from typing import Any

import numpy as np

from env.observation import Screen
from env.played_lives import People
from env.presets import Preset
from env.vector import SwipeVectorEnv
from env.vocabulary import Float32s
from policies.pmfs import draw, softmax
from policies.retention.args import Columns
from policies.retention.rankings import Weights, columns, scores

SOFTNESS = 0.03
"""Temperature of the teacher's softmax: scores differ by some tenths."""
KEPT_EVERY = 8
"""One card in so many is kept: a user's consecutive cards are much alike."""


def watch_teacher(
    preset: Preset,
    teacher: Weights,
    people: People,
    n_turns: int,
    seed: int,
    shown: Columns = "world",
) -> tuple[Float32s, Float32s, Float32s]:
    """Return users, their candidates and the teacher's pmfs while the teacher serves them.

    Args:
        teacher: its softmax has the temperature `SOFTNESS`.
        shown: columns of the returned users and candidates.

    Returns:
        Of shapes (m, n_user), (m, K, n_item) and (m, K).
    """
    env = SwipeVectorEnv(
        people.n_places, preset=preset, n_candidates=people.n_candidates, copy=False
    )
    screen = Screen(env.swiping, "feed", keeps_items=False) if shown == "feed" else None
    observation: Any
    observation, _ = env.reset(seed=people.first)
    rng, weights = np.random.default_rng(seed), np.array(teacher.weights)
    users, rows, pmfs = [], [], []
    for turn in range(n_turns):
        pmf = softmax(scores(*columns(observation), weights), SOFTNESS)
        if turn % KEPT_EVERY == 0:
            seen: Any = observation if screen is None else screen.write(copy=False)
            users.append(seen["user"].copy())
            rows.append(np.concatenate([seen["items"], seen["personal"]], axis=-1))
            pmfs.append(pmf.astype(np.float32))
        observation = env.step(draw(pmf, rng))[0]
    return np.concatenate(users), np.concatenate(rows), np.concatenate(pmfs)
