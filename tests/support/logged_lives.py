"""Lives of a world of which everything is known: one column of a card says what it earns."""

import numpy as np

from env.pages.lives import NO_PAGE, Halves, Lives
from env.vocabulary import Floats

K, N_USER, N_ITEM = 4, 2, 3


def draw_lives(
    n_lives: int,
    seed: int,
    *,
    n_sessions: int = 3,
    stay: float = 0.8,
    gain: float = 1.0,
    noise: float = 0.3,
) -> Lives:
    """Return lives of pages of one card, drawn by a softmax of the candidates' second column.

    A card earns `gain` times its first column, and noise; sessions end by chance alone, and the
    next one is always two days later.
    """
    generator = np.random.default_rng(seed)
    lengths = generator.geometric(1.0 - stay, size=(n_lives, n_sessions))
    n = int(lengths.sum())
    rows = generator.normal(size=(n, K, N_ITEM)).astype(np.float16)
    shared = generator.normal(size=(n, N_USER)).astype(np.float16)
    pmf = behaviour(rows)
    upto = pmf.cumsum(axis=1)
    action = (generator.random(n)[:, None] * upto[:, -1:] >= upto).sum(axis=1)
    at = (np.arange(n), action)
    leaves = np.zeros(n, dtype=np.bool_)
    leaves[lengths.reshape(-1).cumsum() - 1] = True
    mask = np.ones((n, K), dtype=np.bool_)
    return Lives(
        shared=shared,
        rows=rows,
        eps=np.zeros(n),
        page=np.arange(n),
        mask=mask,
        floor=mask,
        action=action,
        propensity=pmf[at],
        reward=gain * rows[at][:, 0].astype(np.float64) + noise * generator.normal(size=n),
        leaves=leaves,
        gap_days=np.where(leaves, 2.0, 0.0),
        life=np.repeat(np.arange(n_lives), lengths.sum(axis=1)),
        user=np.arange(n_lives, dtype=np.uint64) + np.uint64(1_000 * seed),
        last_page=np.full(n_lives, NO_PAGE),
        last_mask=np.zeros((n_lives, K), dtype=np.bool_),
    )


def behaviour(rows: Halves) -> Floats:
    """Return the logging policy's probabilities, shape (p, K)."""
    raised = np.exp(0.5 * rows[:, :, 1].astype(np.float64))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
