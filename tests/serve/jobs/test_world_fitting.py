from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kuairands import write_kuairand
from threadpoolctl import threadpool_limits

from env.calibration.checks import check
from env.calibration.identify import WorldLog
from env.calibration.recipes import daily, rapid
from env.calibration.simulated import simulate
from env.vocabulary import Item, ItemId, Profile, UserId
from env.world.log_statistics import log_statistics
from env.world.presets import Preset, load
from serve.errors import JobError
from serve.jobs.fit_world import Fitted, fit_log, make_named, read_log

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand_pure"
N_CARDS = 40_000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep BLAS from splitting small matrices over threads, which a busy machine pays for."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def own() -> WorldLog:
    """Return a log of three weeks of the world `rapid`, as if it were a user's."""
    run = simulate(rapid(), 400, seed=1, days=21)
    shown = run.impressions
    duration_s = np.zeros(len(run.vectors))
    duration_s[shown.item] = shown.duration_s
    items = [Item(item_id=ItemId(f"i{k}"), duration_s=s or None) for k, s in enumerate(duration_s)]
    users = [(UserId(f"u{k}"), Profile(cohort="ab"[k % 2])) for k in range(400)]
    return WorldLog(shown, items, users, has_vectors=False)


@pytest.fixture(scope="module")
def fitted(own: WorldLog) -> Fitted:
    return fit_log(own, "mine", "a test", n_cards=N_CARDS, n_rounds=6)


def test_a_fitted_world_swipes_as_the_log_did(own: WorldLog, fitted: Fitted) -> None:
    truth = log_statistics(own.impressions)
    off = {row.name: row for row in fitted.checks if not row.passed}
    rare = {"comment", "share", "follow", "not_interested", "follow given like, lift"}
    assert set(off) <= rare  # of a few dozen events each
    assert fitted.preset.moments is not None
    assert fitted.preset.moments.rates == truth.rates
    assert fitted.preset.moments.gaps == truth.gaps


def test_what_the_log_knows_is_near_the_truth(fitted: Fitted) -> None:
    found, truth = fitted.preset, rapid()
    assert found.moods.exit == pytest.approx(truth.moods.exit, abs=0.2)
    assert found.rates.skip_mu == pytest.approx(truth.rates.skip_mu, abs=0.1)
    assert found.rates.watch_mu == pytest.approx(truth.rates.watch_mu, abs=0.15)
    assert found.uploads.log_duration_mu == pytest.approx(truth.uploads.log_duration_mu, abs=0.2)
    assert {name: cohort.share for name, cohort in found.population.cohorts.items()} == {
        "a": 0.5,
        "b": 0.5,
    }


def test_what_is_assumed_is_said(fitted: Fitted) -> None:
    known = {row.name: row.identified for row in fitted.findings}
    assert known["watch"]
    assert known["leaving"]
    assert known["return classes"]
    assert not known["leaving when satiated"]
    assert not known["satisfaction"]
    assert fitted.preset.moods.satisfaction_step == rapid().moods.satisfaction_step
    assert msgspec.json.decode(fitted.preset.to_json(), type=Preset) == fitted.preset


@pytest.mark.skipif(not KUAIRAND.is_dir(), reason="KuaiRand is not at ../shared/data")
def test_the_first_half_of_kuairand_predicts_the_second() -> None:
    """Clicks, long views and mean watch time within 5%, rare events as well as can be told.

    In as many rounds as the command has, of fewer cards each.
    """
    log = read_log(KUAIRAND / "log_standard_sample.parquet")
    fitted = fit_log(log, "half", "a test", holdout=0.5, n_cards=N_CARDS)
    assert fitted.missed() == []
    assert len(fitted.holdout) == 8
    moods = fitted.preset.moods
    assert 0.01 < moods.daily_share < 0.99
    assert max(moods.return_classes) < 0.99


def test_a_row_that_missed_its_band_is_missed_wherever_it_is(fitted: Fitted) -> None:
    rows = [check("fit", "off", 2.0, 0.0, 1.0), check("holdout", "off", 2.0, 0.0, 1.0)]
    good = check("fit", "on", 0.5, 0.0, 1.0)
    each = msgspec.structs.replace(fitted, checks=[good, rows[0]], holdout=[good])
    assert each.missed() == [rows[0]]
    assert msgspec.structs.replace(each, checks=[good], holdout=[rows[1]]).missed() == [rows[1]]


def test_sessions_that_a_log_holds_parts_of_can_be_assumed(own: WorldLog) -> None:
    fitted = fit_log(own, "mine", "", session_cards=9.0, n_cards=10_000, n_rounds=4)
    target = fitted.preset.moments
    assert target is not None
    assert target.assumed == ("session_cards", "session_tail")
    row = next(row for row in fitted.checks if row.name == "session, cards")
    assert row.value == pytest.approx(9.0, rel=0.15)


def test_a_log_that_is_too_small_is_refused(own: WorldLog) -> None:
    few = own.part(own.impressions.take(np.arange(50)))
    with pytest.raises(JobError, match=r"cannot be fitted to the log: .*at least 100"):
        fit_log(few, "few", "")


def test_presets_of_constants_are_made_from_their_recipes() -> None:
    assert make_named("rapid", None, n_cards=1).preset == load("rapid")
    assert make_named("kuaisim", None, n_cards=1).preset == load("kuaisim")
    assert daily()[0].moods.return_classes == (0.92, 0.46)


def test_a_recipe_without_its_log_or_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="needs KuaiRand's log"):
        make_named("kuairand", None, n_cards=1)
    with pytest.raises(JobError, match="expected kuairand, daily, kuaisim or rapid"):
        make_named("tiktok", read_log(write_kuairand(tmp_path)), n_cards=1)
