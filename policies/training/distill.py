"""The teacher's demonstrations: user_rows, their candidates, and the pmf of ranking weights.

The teacher reads the world's own observation; the student may see the columns of a request to the
HTTP feed for the same card (a privileged teacher: Chen et al., Learning by Cheating, CoRL 2019). So
a ranker for a feed needs no search of its own.

See also `docs/decisions/weight-search.md`.
"""

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional

from env.gym.observation import Screen
from env.gym.vector import SwipeVectorEnv
from env.report.played_lives import EvaluationUsers
from env.vocabulary import Float32s
from env.world.presets import Preset
from policies.explorers import draw, softmax
from policies.ranker.ranker import Ranker, RankerArgs
from policies.training.layout import Scaling
from policies.training.networks import Scorer, to_ranker
from policies.training.rankings import NetworkRanking, WeightedRanking, columns, scores
from policies.training.settings import Columns

MINIBATCH = 256
LR = 3e-3


def clone(
    args: RankerArgs,
    scalings: tuple[Scaling, Scaling],
    user_rows: Float32s,
    rows: Float32s,
    pmf: Float32s,
    *,
    epochs: int,
    seed: int,
) -> Ranker:
    """Return a network whose softmax is close to the given pmfs.

    Args:
        user_rows: user_rows' columns, shape (n, n_user).
        rows: their candidates, shape (n, K, n_item).
        pmf: over the candidates, shape (n, K).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = Scorer(args, *scalings)
    n_steps = epochs * -(-len(user_rows) // MINIBATCH)
    optimizer = torch.optim.Adam(list(scorer.parameters()), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, n_steps)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(user_rows))
        for first in range(0, len(order), MINIBATCH):
            at = order[first : first + MINIBATCH]
            logits = scorer(torch.from_numpy(user_rows[at]), torch.from_numpy(rows[at]))
            loss = functional.cross_entropy(logits, torch.from_numpy(pmf[at]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return to_ranker(scorer, args)


SOFTNESS = 0.03
"""Temperature of the teacher's softmax: scores differ by some tenths."""

KEPT_EVERY = 8
"""One card in so many is kept: a user's consecutive cards are much alike."""


def record_demonstrations(
    preset: Preset,
    teacher: WeightedRanking,
    users: EvaluationUsers,
    n_turns: int,
    seed: int,
    shown: Columns = "world",
) -> tuple[Float32s, Float32s, Float32s]:
    """Return user_rows, their candidates and the teacher's pmfs while the teacher serves them.

    Args:
        teacher: its softmax has the temperature `SOFTNESS`.
        shown: columns of the returned user_rows and candidates.

    Returns:
        Of shapes (m, n_user), (m, K, n_item) and (m, K).
    """
    env = SwipeVectorEnv(users.n_places, preset=preset, n_candidates=users.n_candidates, copy=False)
    screen = Screen(env.swiping, "feed", keeps_items=False) if shown == "feed" else None
    observation: Any
    observation, _ = env.reset(seed=users.first)
    rng, weights = np.random.default_rng(seed), np.array(teacher.weights)
    user_rows, rows, pmfs = [], [], []
    for turn in range(n_turns):
        pmf = softmax(scores(*columns(observation), weights), SOFTNESS)
        if turn % KEPT_EVERY == 0:
            seen: Any = observation if screen is None else screen.write(copy=False)
            user_rows.append(seen["user"].copy())
            rows.append(np.concatenate([seen["item"], seen["personal"]], axis=-1))
            pmfs.append(pmf.astype(np.float32))
        observation = env.step(draw(pmf, rng))[0]
    return np.concatenate(user_rows), np.concatenate(rows), np.concatenate(pmfs)


HIDDEN, EMBED = 32, 16
EPOCHS = 10


def distil(
    preset: Preset,
    teacher: WeightedRanking,
    users: EvaluationUsers,
    n_turns: int,
    seed: int,
    shown: Columns = "world",
) -> NetworkRanking:
    """Return a network that learned to rank as weights do."""
    user_rows, rows, pmf = record_demonstrations(preset, teacher, users, n_turns, seed, shown)
    n_row = rows.shape[-1]
    args = RankerArgs(user_rows.shape[1], n_row, HIDDEN, EMBED)
    is_feed = shown == "feed"
    scalings = (
        Scaling.of_columns(user_rows, of_feed=is_feed),
        Scaling.of_columns(rows.reshape(-1, n_row), of_feed=is_feed),
    )
    with threadpool_limits(1):  # other workers have the other processors
        ranker = clone(args, scalings, user_rows, rows, pmf, epochs=EPOCHS, seed=seed)
    return NetworkRanking(ranker.to_bytes())
