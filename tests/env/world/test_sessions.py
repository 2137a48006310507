import numpy as np
import pytest
from swipes import make_log, visits

from env.calibration.impressions import (
    DAY_MS,
    PAUSE_MS,
    Sessions,
    day_gaps,
    length_survival,
    tail_slope,
)


def test_a_session_ends_where_nothing_happened_for_half_an_hour() -> None:
    pause = PAUSE_MS + 10_000  # the card before it was played for 10 s
    at_ms = np.cumsum([0, 20_000, pause, pause + 1])
    sessions = Sessions.of(make_log(np.zeros(4, np.int64), at_ms))
    assert sessions.first.tolist() == [True, False, False, True]
    assert sessions.position.tolist() == [0, 1, 2, 0]
    assert sessions.last().tolist() == [False, False, True, True]


def test_users_have_their_own_sessions_in_any_order_of_rows() -> None:
    log = visits([[3, 2], [1]], [[0, 2], [0]])
    mixed = log.take(np.random.default_rng(1).permutation(len(log)))
    assert Sessions.of(mixed).lengths().tolist() == [3, 2, 1]


def test_the_tail_of_sessions_that_end_by_chance_is_their_hazard() -> None:
    lengths = np.random.default_rng(2).geometric(1.0 / 24.0, 200_000)
    assert tail_slope(lengths) == pytest.approx(np.log1p(-1.0 / 24.0), rel=0.03)
    assert tail_slope(np.array([3, 3, 3])) == 0.0
    assert length_survival(lengths)[24] == pytest.approx((23 / 24) ** 24, abs=0.005)


def test_gaps_are_between_days_of_visit_and_the_last_one_is_cut_off() -> None:
    log = visits([[1, 2, 1], [1]], [[0, 1, 4], [3]])
    gaps = day_gaps(log, n_days=5)
    assert gaps.observed.tolist() == [1, 0, 1, 0, 0]
    assert gaps.censored.tolist() == [1, 0, 0, 0, 0]  # of the second user, seen a day before


def test_a_gap_longer_than_asked_for_counts_as_cut_off() -> None:
    gaps = day_gaps(visits([[1, 1]], [[0, 9]]), n_days=5)
    assert gaps.observed.sum() == 0
    assert gaps.censored.tolist() == [0, 0, 0, 0, 1]


def test_days_begin_at_the_midnight_of_the_place() -> None:
    late, early = DAY_MS - 1_000, DAY_MS + 1_000
    log = make_log(np.zeros(2, np.int64), np.array([late, early]))
    assert day_gaps(log, n_days=2).observed.tolist() == [1, 0]
    assert day_gaps(log, midnight_ms=DAY_MS // 2, n_days=2).observed.sum() == 0


def test_an_empty_log_has_no_sessions_and_no_gaps() -> None:
    nothing = make_log(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert Sessions.of(nothing).lengths().tolist() == []
    assert day_gaps(nothing, n_days=3).observed.tolist() == [0, 0, 0]
