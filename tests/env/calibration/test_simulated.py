import numpy as np
import pytest
from msgspec.structs import replace

from env.calibration.impressions import DAY_MS, Sessions
from env.calibration.recipes import rapid
from env.calibration.simulated import Simulated, count, simulate
from env.world.moments import log_statistics
from env.world.presets import Preset

PRESET = rapid()


@pytest.fixture(scope="module")
def run() -> Simulated:
    return simulate(PRESET, 400, seed=3, days=20)


def test_the_same_seed_gives_the_same_log(run: Simulated) -> None:
    again = simulate(PRESET, 400, seed=3, days=20)
    for name in ("user", "item", "at_ms", "play_s", "like"):
        assert np.array_equal(getattr(run.impressions, name), getattr(again.impressions, name))
    other = simulate(PRESET, 400, seed=4_000, days=20)
    assert len(other.impressions) != len(run.impressions)


def test_users_are_there_from_the_first_day_and_gone_after_the_last(run: Simulated) -> None:
    day = run.impressions.at_ms // DAY_MS
    assert day.min() == 0
    assert day.max() <= 20
    assert set(run.impressions.user[day == 0].tolist()) == set(range(400))
    assert run.cohort.shape == (400,)
    assert run.vectors.shape == (PRESET.uploads.n_items, PRESET.uploads.n_dims)


def test_sessions_of_the_log_are_those_that_were_simulated(run: Simulated) -> None:
    """The gap between visits is at least a day, so no two sessions of a user share one."""
    sessions = Sessions.of(run.impressions)
    shown = sessions.shown
    visits = np.unique(np.column_stack([shown.user, shown.at_ms // DAY_MS])[sessions.first], axis=0)
    assert len(visits) <= np.count_nonzero(sessions.first)
    assert np.count_nonzero(sessions.first) < 1.1 * len(visits)  # a session may pass midnight
    assert np.all(shown.play_s >= 0.0)
    assert np.all((shown.duration_s >= 5.0) & (shown.duration_s <= 600.0))


def test_a_longer_session_is_a_lower_exit() -> None:
    patient = replace(PRESET, moods=replace(PRESET.moods, exit=PRESET.moods.exit - 1.0))
    lengths = [
        log_statistics(simulate(preset, 200, seed=1, days=10).impressions).session_cards
        for preset in (PRESET, patient)
    ]
    assert lengths[1] > 1.5 * lengths[0]


def test_moments_are_counted_over_as_many_users_as_it_takes() -> None:
    seen: list[int] = []
    counted = count(PRESET, 60_000, seed=1, days=10, advance=seen.append)
    assert counted.moments.n == sum(seen) >= 60_000
    assert counted.survival[0] == 1.0
    assert counted.survival[-1] == pytest.approx(0.0)
    assert float(counted.survival.sum()) == pytest.approx(counted.moments.session_cards, rel=1e-6)
    assert counted.cohorts.shape == (1,)


def test_a_user_who_never_leaves_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("env.calibration.simulated.MOST_TURNS", 5)
    endless: Preset = replace(PRESET, moods=replace(PRESET.moods, exit=-30.0))
    with pytest.raises(RuntimeError, match="do they ever leave"):
        simulate(endless, 2, seed=1)
