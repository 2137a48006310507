import numpy as np
import pytest
from small_worlds import PRESET

from env.reward import Reward
from env.world.creators import LiveSupply
from env.world.population import DrawnUsers
from env.world.settings import Settings
from env.world.simulation import Simulation
from env.world.supply import Stock
from tests.studies.served_world.arrivals import Arrivals

COLUMNS = ("serial", "creator", "market", "vectors", "columns", "keys")


def test_a_world_begins_with_the_items_of_a_live_one() -> None:
    arrivals, live = Arrivals(PRESET, 3, a_day=30.0), LiveSupply(PRESET, 3)
    assert_same(arrivals.stock, live.stock, live.stock.n)
    np.testing.assert_array_equal(arrivals.stock.counts, live.stock.counts)


def test_uploads_are_the_same_however_finely_the_clock_is_moved() -> None:
    at_once, step_by_step = Arrivals(PRESET, 3, a_day=30.0), Arrivals(PRESET, 3, a_day=30.0)
    rows = at_once.advance(2.0)
    found = [step_by_step.advance(day) for day in np.linspace(0.0, 2.0, 201)]
    np.testing.assert_array_equal(np.concatenate(found), rows)
    assert_same(at_once.stock, step_by_step.stock, at_once.stock.n)
    np.testing.assert_allclose(at_once.stock.published, step_by_step.stock.published, atol=1e-9)


def test_an_upload_comes_when_it_is_published_and_takes_nobodys_place() -> None:
    arrivals = Arrivals(PRESET, 3, a_day=30.0)
    start = arrivals.stock
    for day in np.linspace(0.1, 3.0, 30).tolist():
        rows, before = arrivals.advance(day), arrivals.stock.n
        published = arrivals.stock.published[rows]
        assert ((published > day - 0.1 - 1e-9) & (published <= day + 1e-9)).all()
        assert rows.tolist() == list(range(before - len(rows), before))
    assert_same(arrivals.stock, start, start.n)
    np.testing.assert_array_equal(arrivals.stock.serial, np.arange(arrivals.stock.n))
    assert arrivals.n_uploads == arrivals.stock.n - start.n


def test_as_many_come_as_the_rate_says() -> None:
    arrivals = Arrivals(PRESET, 3, a_day=30.0)
    n = len(arrivals.advance(20.0))
    assert abs(n - 600) < 4.0 * np.sqrt(600.0)
    gaps = np.diff(arrivals.stock.published[-n:])
    assert abs(gaps.std() / gaps.mean() - 1.0) < 0.2, "gaps of a Poisson process are exponential"


def test_a_rate_that_changes_moves_times_and_not_uploads() -> None:
    steady, surging = Arrivals(PRESET, 3, a_day=30.0), Arrivals(PRESET, 3, a_day=30.0)
    rows = steady.advance(5.0)
    first = surging.advance(1.0)
    surging.a_day = 300.0
    burst = surging.advance(1.2)
    assert 30 < len(burst) < 100
    n = PRESET.uploads.n_items + min(len(rows), len(first) + len(burst))
    assert_same(steady.stock, surging.stock, n)
    surging.a_day = 0.0
    assert not len(surging.advance(9.0))


def test_it_starts_again() -> None:
    arrivals = Arrivals(PRESET, 3, a_day=30.0)
    arrivals.advance(1.0)
    after = arrivals.stock
    arrivals.a_day = 1.0
    arrivals.restart()
    assert (arrivals.day, arrivals.n_uploads) == (0.0, 0)
    arrivals.advance(1.0)
    assert_same(arrivals.stock, after, after.n)


def test_time_does_not_go_back() -> None:
    arrivals = Arrivals(PRESET, 3, a_day=30.0)
    arrivals.advance(1.0)
    with pytest.raises(ValueError, match=r"day of 1\.0 or later"):
        arrivals.advance(0.5)


def test_users_can_swipe_what_has_arrived() -> None:
    arrivals = Arrivals(PRESET, 3, a_day=30.0)
    settings = Settings(n_candidates=5, steps_per_day=2)
    feed = Simulation(PRESET, DrawnUsers(PRESET), arrivals, settings, Reward(), 4)
    feed.restart(np.arange(4))
    for _ in range(20):
        feed.play(np.zeros((4, 1), dtype=np.int64))
    assert arrivals.day == 10.0
    rows = np.full((4, 1), arrivals.stock.n - 1)
    assert feed.show(rows).rows.tolist() == rows.tolist()


def assert_same(left: Stock, right: Stock, n: int) -> None:
    """Fail unless the first n items of two stocks are the same."""
    for name in COLUMNS:
        np.testing.assert_array_equal(
            getattr(left, name)[..., :n], getattr(right, name)[..., :n], err_msg=name
        )
