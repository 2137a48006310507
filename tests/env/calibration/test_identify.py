from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from env.calibration.identify import WorldLog, identify
from env.calibration.recipes import rapid
from env.calibration.simulated import simulate
from env.vocabulary import Item, ItemId, Profile, UserId
from env.world.presets import Cohort, Population, Preset

START = Preset(name="mine", source="", population=Population(cohorts={}))
COHORTS = {"eager": Cohort(share=0.5, daily_share=0.9), "rare": Cohort(share=0.5, daily_share=0.1)}
N_PEOPLE = 250


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep BLAS from splitting small matrices over threads, which a busy machine pays for."""
    with threadpool_limits(1, user_api="blas"):
        yield


def log_of(preset: Preset, days: int) -> WorldLog:
    run = simulate(preset, N_PEOPLE, seed=1, days=days)
    shown = run.impressions
    duration_s = np.zeros(len(run.vectors))
    duration_s[shown.item] = shown.duration_s
    names = list(preset.population.cohorts)
    return WorldLog(
        shown,
        [Item(item_id=ItemId(f"i{k}"), duration_s=s or None) for k, s in enumerate(duration_s)],
        [(UserId(f"u{k}"), Profile(cohort=names[c])) for k, c in enumerate(run.cohort)],
        has_vectors=False,
    )


@pytest.fixture(scope="module")
def truth() -> Preset:
    preset = rapid()
    return replace(preset, population=replace(preset.population, cohorts=COHORTS))


@pytest.fixture(scope="module")
def log(truth: Preset) -> WorldLog:
    return log_of(truth, days=30)


@pytest.fixture(scope="module")
def found(log: WorldLog) -> Preset:
    return identify(log, START)[0]


def test_who_comes_daily_is_told_apart_by_cohort(found: Preset) -> None:
    cohorts = found.population.cohorts
    assert cohorts["eager"].daily_share > cohorts["rare"].daily_share + 0.3
    assert sum(cohort.share for cohort in cohorts.values()) == pytest.approx(1.0)
    assert found.moods.daily_share == pytest.approx(found.population.daily_share())
    leans = [cohort.share * cohort.lean for cohort in cohorts.values()]
    assert sum(leans) == pytest.approx(0.0, abs=1e-9)


def test_durations_and_watching_are_read_off(log: WorldLog, truth: Preset, found: Preset) -> None:
    seen = log.impressions.duration_s
    assert found.uploads.log_duration_mu == pytest.approx(np.log(seen).mean())
    assert found.uploads.least_s <= np.quantile(seen, 0.01)
    assert found.rates.skip_sd == pytest.approx(truth.rates.skip_sd, rel=0.1)
    assert found.rates.loop == pytest.approx(truth.rates.loop, abs=0.05)


def test_what_is_not_identified_stays_as_it_was(truth: Preset) -> None:
    start = replace(START, moods=replace(START.moods, satisfaction_step=0.03, bait_cost=2.0))
    found, rows = identify(log_of(truth, days=6), start)
    assert found.moods.satisfaction_step == 0.03
    assert found.moods.bait_cost == 2.0
    assert found.rates.satiation == start.rates.satiation
    assert {"satisfaction", "taste"} <= {row.name for row in rows if not row.identified}


def test_a_short_log_of_users_without_cohorts_says_who_has_which_chance_of_return(
    truth: Preset,
) -> None:
    short = log_of(truth, days=6)
    found, rows = identify(without_cohorts(short), START)
    assert found.moods.return_classes == START.moods.return_classes
    row = next(row for row in rows if row.name == "return classes")
    assert "the log is short" in row.how
    assert set(found.population.cohorts) == {"everybody"}
    assert found.population.cohorts["everybody"].share == 1.0


def without_cohorts(log: WorldLog) -> WorldLog:
    users = [(user, Profile()) for user, _ in log.users]
    return WorldLog(log.impressions, log.items, users, has_vectors=False)
