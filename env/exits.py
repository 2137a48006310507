"""The hazard of a session's end after each card, estimated from a log by regression.

    P(last | card) = s(base + a position / 100 + b [no valid play] + c satiation)

The slope c is an association and not an effect, so it is reported and not put into a world:
`docs/decisions/world-fitting.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.moods import N_TOPICS, Moods
from env.random_effects import CommonBlock
from env.reals import logistic
from env.sessions import Sessions
from env.vocabulary import Floats, Ints

N_STEPS = 30
PRIOR_SD = 5.0


@dataclass(frozen=True, slots=True)
class ExitHazard:
    """Coefficients of the log-odds of leaving after a card, with their standard errors."""

    base: float  # after a valid play, first card
    position: float  # for each 100 cards before this one
    skipped: float  # without a valid play
    satiation: float  # for each unit of satiation with the card's topic; 0 where topics are unknown
    se: Floats  # (4,) in this order


def fit_exits(sessions: Sessions, moods: Moods, topic: Ints | None = None) -> ExitHazard:
    """Return the hazard of a session's end.

    Each user's last session is left out, since the log may have ended before it did. `topic` is of
    each impression of `sessions.shown`, shape (n,) in [0, N_TOPICS).

    Raises:
        ValueError: no user has two sessions.
    """
    shown = sessions.shown
    whole = ~_in_last_session(sessions)
    if not whole.any():
        raise ValueError("expected somebody with two sessions, got one each: no end was seen")
    had = np.zeros(len(shown)) if topic is None else satiation(sessions, topic, moods)
    design = np.column_stack(
        [np.ones(len(shown)), sessions.position / 100.0, ~shown.valid_play(), had]
    )[whole].astype(np.float64)
    beta, se = _fit_logistic(design, sessions.last()[whole].astype(np.float64))
    base, position, skipped, satiated = beta.tolist()
    return ExitHazard(base, position, skipped, satiated, se)


def satiation(sessions: Sessions, topic: Ints, moods: Moods) -> Floats:
    """Return satiation with each card's topic after it, shape (n,); sessions begin at 0."""
    starts = np.flatnonzero(sessions.first)
    lengths = sessions.lengths()
    had = np.zeros(len(topic), dtype=np.float64)
    level = np.zeros((len(starts), N_TOPICS), dtype=np.float64)
    for position in range(int(lengths.max(initial=0))):
        session = np.flatnonzero(lengths > position)
        card = starts[session] + position
        level *= moods.satiation_decay
        level[session, topic[card]] += moods.satiation_step
        had[card] = level[session, topic[card]]
    return had


def _in_last_session(sessions: Sessions) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    number = np.cumsum(sessions.first)
    user = sessions.shown.user
    ends = np.flatnonzero(np.append(np.diff(user) != 0, np.ones(min(len(user), 1), np.bool_)))
    return np.isin(number, number[ends])


def _fit_logistic(design: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return coefficients and standard errors under a wide normal prior, by Newton's method."""
    prior_sd = np.full(design.shape[1], PRIOR_SD)
    block = CommonBlock(design, prior_sd)
    eta = np.zeros(len(y), dtype=np.float64)
    for _ in range(N_STEPS):
        p = np.asarray(logistic(eta))
        w = np.maximum(p * (1.0 - p), 1e-4)
        eta = np.clip(block.move(w, eta + (y - p) / w), -15.0, 15.0)
    p = np.asarray(logistic(eta))
    information = (design.T * (p * (1.0 - p))) @ design + np.diag(1.0 / prior_sd**2)
    return block.beta, np.sqrt(np.diag(np.linalg.inv(information)))
