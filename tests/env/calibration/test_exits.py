import numpy as np
import pytest
from swipes import make_log, visits

from env.arrays.reals import logistic
from env.calibration.identify import fit_exits, satiation
from env.calibration.impressions import DAY_MS, Sessions
from env.world.moods import N_TOPICS, StateDynamics, satiate

BASE, POSITION, SKIPPED, SATIATED = -2.0, 1.5, 0.4, 0.6
N_PEOPLE, N_DAYS, N_KINDS = 400, 60, 4
MOODS = StateDynamics()


def simulate(seed: int) -> tuple[Sessions, np.ndarray]:
    """Return sessions whose end has the hazard above, with the topic of each card."""
    rng = np.random.default_rng(seed)
    user, at_ms, play_s, topic = [], [], [], []
    for row_user in range(N_PEOPLE):
        for day in range(N_DAYS):
            level = np.zeros(N_TOPICS)
            for position in range(1_000):
                kind = int(rng.integers(N_KINDS))
                level = satiate(MOODS, level, kind)
                plays = rng.random() < 0.5
                user.append(row_user)
                at_ms.append(day * DAY_MS + 20_000 * position)
                play_s.append(10.0 if plays else 1.0)
                topic.append(kind)
                log_odds = BASE + POSITION * position / 100 + SKIPPED * (not plays)
                log_odds += SATIATED * level[kind]
                if rng.random() < logistic(float(log_odds)):
                    break
    log = make_log(np.array(user), np.array(at_ms), np.array(play_s))
    sessions = Sessions.of(log)
    return sessions, np.array(topic)[sessions.shown.item]


def test_the_hazard_of_leaving_comes_back() -> None:
    sessions, topic = simulate(1)
    found = fit_exits(sessions, MOODS, topic)
    truth = np.array([BASE, POSITION, SKIPPED, SATIATED])
    off = np.array([found.base, found.position, found.skipped, found.satiation]) - truth
    assert np.all(np.abs(off) <= 4.0 * found.se)
    assert np.all(found.se < 0.5)


def test_without_topics_nothing_is_said_of_satiation() -> None:
    sessions, _ = simulate(2)
    assert fit_exits(sessions, MOODS).satiation == 0.0


def test_satiation_is_that_of_the_world_and_sessions_begin_rested() -> None:
    sessions = Sessions.of(visits([[3, 1]], [[0, 1]]))
    once = MOODS.satiation_step
    again = MOODS.satiation_decay * once + once
    level = satiation(sessions, np.array([5, 5, 2, 5]), MOODS)
    assert level.tolist() == [once, again, once, once]


def test_a_user_with_two_sessions_is_needed() -> None:
    with pytest.raises(ValueError, match="two sessions"):
        fit_exits(Sessions.of(visits([[3], [2]], [[0], [0]])), MOODS)
