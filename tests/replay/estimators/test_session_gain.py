"""The paired gain of a session, against a world in which it is known."""

from functools import cache

import numpy as np
import pytest
from logged_lives import behaviour, draw_lives

from env.pages.lives import LifeReward, Lives
from env.vocabulary import Floats
from replay.estimators.marginal import (
    join_sessions,
    join_values,
    session_gain,
    session_trajectories,
    session_values,
)

REWARD = LifeReward(return_worth=5.0)
STAY = 0.8


def _target(lives: Lives, strength: float) -> Floats:
    logits = np.log(behaviour(lives.rows)) + strength * lives.rows[:, :, 0].astype(np.float64)
    return lives.pmfs(logits)


def _right_q(lives: Lives, mean_card: float) -> Floats:
    """Return what a card earns, what the rest of its session does, and the return."""
    rest = STAY * mean_card / (1.0 - STAY) + REWARD.return_worth * REWARD.day_discount**2
    return np.asarray(lives.rows[lives.page][:, :, 0].astype(np.float64) + rest)


@cache
def _truth(strength: float) -> float:
    """Return the gain of a session: of a card, 1 / (1 - STAY) times, from a great sample."""
    lives = draw_lives(4_000, seed=99, stay=STAY)
    cards = lives.rows[lives.page][:, :, 0].astype(np.float64)
    gain = ((_target(lives, strength) - behaviour(lives.rows)[lives.page]) * cards).sum(axis=1)
    return float(gain.mean()) / (1.0 - STAY)


@pytest.mark.parametrize("strength", [0.0, 0.4, -0.4])
@pytest.mark.parametrize("is_right", [True, False])
def test_the_gain_is_unbiased_whatever_the_values_are(strength: float, is_right: bool) -> None:
    truth, z = _truth(strength), []
    for seed in range(12):
        lives = draw_lives(150, seed=seed, stay=STAY)
        pmfs = _target(lives, strength)
        q = _right_q(lives, 0.0) if is_right else np.full(lives.mask.shape, 3.0)
        gain = session_gain(
            session_trajectories(lives, pmfs, REWARD), session_values(lives, pmfs, q)
        )
        z.append((gain.value - truth) / max(gain.se, 1e-9))
    assert abs(np.mean(z)) < 4.0 / np.sqrt(len(z))


def test_the_right_values_take_noise_out_of_the_gain() -> None:
    lives = draw_lives(150, seed=1, stay=STAY)
    pmfs = _target(lives, 0.8)
    sessions = session_trajectories(lives, pmfs, REWARD)
    right = session_gain(sessions, session_values(lives, pmfs, _right_q(lives, 0.0)))
    none = session_gain(sessions, session_values(lives, pmfs, np.zeros(lives.mask.shape)))
    assert right.se < 0.7 * none.se


def test_shards_joined_say_what_the_whole_says() -> None:
    lives = draw_lives(40, seed=5)
    chosen = np.arange(40) < 17
    whole = lives.select(chosen | True)
    parts = [lives.select(chosen), lives.select(~chosen)]
    sessions, values = [], []
    for part in [*parts, whole]:
        pmfs = _target(part, 0.2)
        sessions.append(session_trajectories(part, pmfs, REWARD))
        values.append(session_values(part, pmfs, _right_q(part, 0.0)))
    joined = session_gain(join_sessions(sessions[:2]), join_values(values[:2]))
    assert joined.value == pytest.approx(session_gain(sessions[2], values[2]).value)
    assert joined.n_users == 40
