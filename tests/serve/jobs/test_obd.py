"""The Open Bandit Dataset: published figures come out, and what cannot be answered is refused."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from replay.evaluate.gates import Gates
from serve.commands.main import app
from serve.errors import BadFile, JobError
from serve.importers.obd import BetaPriors, read_click_rates, read_log, read_prior
from serve.jobs.open_bandit import (
    DRAWS,
    MORE_DRAWS,
    ObdFolder,
    ObdReport,
    ThompsonSampling,
    ask,
    columns_of,
    evaluate_obd,
    print_report,
)

FOLDER = Path("../shared/data/obd")
LOG = "item_id,position,click,propensity_score\n0,1,0,0.5\n1,2,1,0.5\n"
PRIOR = """women:
  alpha:
    - 1.0
    - 2.0
    - 3.0
  beta:
    - 30.0
    - 40.5
    - 50.0
"""


def obd() -> Path:
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is not there: the small Open Bandit Dataset")
    return FOLDER


def write_obd(
    folder: Path, *, log: str = LOG, prior: str = PRIOR, behaviours: Sequence[str] = ("random",)
) -> Path:
    for behaviour in behaviours:
        (folder / behaviour / "women").mkdir(parents=True)
        (folder / behaviour / "women" / "women.csv").write_text(log)
    (folder / "prior_bts.yaml").write_text(prior)
    return folder


@pytest.fixture(scope="module")
def report() -> ObdReport:
    return evaluate_obd(obd(), "all", "random", "bts")


def test_the_published_arithmetic_comes_out_to_the_printed_digits(report: ObdReport) -> None:
    assert report.ips is not None
    assert report.snips is not None
    assert report.relative_error is not None
    assert f"{report.ips:.6f}" == "0.004553"
    assert f"{report.snips:.6f}" == "0.004776"
    assert f"{report.relative_error:.4f}" == "0.0840"
    assert f"{report.ess:.0f}" == "1640"
    assert report.on_policy == pytest.approx(0.0042)
    assert report.refusals == ()
    assert report.n_items == 80


def test_more_draws_change_the_value_by_no_more_than_the_draws_are_worth(
    report: ObdReport,
) -> None:
    assert report.ips is not None
    assert report.ips_more_draws is not None
    log, pmf = read_log(obd(), "all", "random", 80), ObdFolder(obd()).pmf("all", "bts")
    clicks = np.zeros_like(pmf)
    np.add.at(clicks, (log.item, log.position), log.click)
    # The draws of the one are among those of the other, and are counts in cells.
    variance = (clicks**2 * pmf).sum() * (1.0 / DRAWS - 1.0 / MORE_DRAWS)
    noise = 80 / len(log) * np.sqrt(variance)
    assert 0.0 < abs(report.ips_more_draws - report.ips) < 4.0 * noise


def test_the_default_estimator_is_scored_in_each_setting_and_marked_where_gates_refuse(
    report: ObdReport,
) -> None:
    found = {(s.campaign, s.behaviour): s for s in report.settings}
    there = {(c, b) for c, b, _ in ObdFolder(obd()).settings()}
    assert set(found) == there
    assert found["all", "random"].refusals == ()
    assert found["women", "bts"].refusals != ()
    assert found["all", "random"].truth == 0.005


def test_the_default_estimators_mean_error_is_the_one_that_is_told(report: ObdReport) -> None:
    # The bar set beforehand is .21 at most. It is missed: what is reached is .211, and that is what
    # this holds to. The band lets another release of numpy's arithmetic through, no other estimator
    # (dr is off by more than .3).
    assert len(report.settings) == 4
    assert report.mean_relative_error == pytest.approx(0.211, abs=0.01)


def test_uniform_from_the_womens_log_of_bts_is_refused_by_sample_size_and_weight(
    tmp_path: Path,
) -> None:
    for name in ("bts", "prior_bts.yaml"):  # without click rates there are no errors to compute
        (tmp_path / name).symlink_to((obd() / name).absolute())
    words = ["evaluate", "--obd", str(tmp_path), "--campaign", "women", "--behaviour", "bts"]
    done = CliRunner().invoke(app, [*words, "--target", "random", "--json"])
    told = msgspec.json.decode(done.stdout)
    refusals = {each["gate"]: each for each in told["refusals"]}
    assert refusals["effective sample size"]["got"] == "2 of 10,000"
    assert "21,739.1" in refusals["largest weight"]["got"]
    assert told["estimates"] == []
    assert told["ips"] is told["snips"] is told["default"] is told["relative_error"] is None


def test_what_is_refused_is_shown_by_force_and_marked() -> None:
    report = ask(ObdFolder(obd()), "women", "bts", "random", Gates(), force=True)
    assert report.forced
    assert report.refusals != ()
    assert report.ips == pytest.approx(0.007438, abs=5e-7)
    assert report.snips == pytest.approx(0.002373, abs=5e-7)


def test_what_passes_is_not_marked_though_force_was_asked_for() -> None:
    report = ask(ObdFolder(obd()), "women", "random", "bts", Gates(), force=True)
    assert report.refusals == ()
    assert not report.forced
    assert report.ips is not None


def test_tables_show_estimates_settings_and_what_was_refused(
    report: ObdReport, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(report)
    shown = capsys.readouterr().out
    assert re.search(r"│ ips +│ +0\.004553 │", shown), shown
    assert "the sample of bts itself has 0.004200, so ips is off by 0.0840 of it" in shown
    assert re.search(r"women +│ bts +│ random +│ +0\.\d{3} │ forced: effective", shown), shown
    print_report(ask(ObdFolder(obd()), "women", "bts", "random", Gates()))
    shown = " ".join(capsys.readouterr().out.split())
    assert "refused: effective sample size: expected at least 500 decisions, got 2 of 10" in shown


def test_thompson_sampling_goes_on_where_it_stood() -> None:
    prior = BetaPriors(np.array([5.0, 1.0, 8.0, 2.0]), np.array([50.0, 40.0, 60.0, 30.0]))
    sampling = ThompsonSampling(prior)
    first, more = sampling.pmf(12_000), sampling.pmf(25_000)
    np.testing.assert_array_equal(first, ThompsonSampling(prior).pmf(12_000))
    np.testing.assert_array_equal(more, ThompsonSampling(prior).pmf(25_000))
    np.testing.assert_allclose(more.sum(axis=0), 1.0)
    with pytest.raises(ValueError, match="expected at least 25000 draws, got 100"):
        sampling.pmf(100)


def test_an_item_is_first_as_often_as_its_rate_is_the_largest() -> None:
    prior = BetaPriors(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0]))
    first = ThompsonSampling(prior).pmf(40_000)[:, 0]
    # The largest of two uniforms is below x with x^2, so the first wins with E[x^2] = 1/2.
    error = np.sqrt(0.25 / 40_000)
    assert abs(first[0] - 0.5) < 4.0 * error
    assert abs(first[1] - 0.25) < 4.0 * error


def test_a_row_that_was_drawn_twice_is_one_user() -> None:
    log = read_log(obd(), "women", "bts", 46)
    pmf = np.full((46, 3), 1.0 / 46)
    columns = columns_of(log, pmf, np.array([3, 3, 7]))
    assert columns.user.tolist() == [3, 3, 7]
    assert columns.propensity.tolist() == log.propensity[[3, 3, 7]].tolist()


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (LOG + "0,1,0,0\n", "line 4, column 'propensity_score': expected a propensity in (0, 1]"),
        (LOG + "0,1,0,1.5\n", "line 4, column 'propensity_score': expected a propensity in (0, 1]"),
        (LOG + "0,1,0,\n", "line 4, column 'propensity_score': expected a number, got ''"),
        (LOG + "0,1,0,nan\n", "line 4, column 'propensity_score': expected a propensity in (0, 1]"),
        (LOG + "2,1,0,.5\n", "line 4, column 'item_id': expected one of 2 candidates, got 2"),
        (LOG + "0,4,0,.5\n", "line 4, column 'position': expected 1 to 3, got 4"),
        (LOG + "0,1,nan,.5\n", "line 4, column 'click': expected 0 or 1, got nan"),
        (LOG + "0,1", "line 4: expected 4 cells, got 2"),
        ("item_id,position\n", "line 1, column 'click': expected this column"),
        (LOG.splitlines()[0] + "\n", "expected impressions, found none"),
    ],
)
def test_a_wrong_log_is_refused_with_its_line_and_column(
    log: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFile, match=re.escape(message)):
        read_log(write_obd(tmp_path, log=log), "women", "random", 2)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (PRIOR.replace("2.0", "0"), "line 4: expected a number above 0, got '0'"),
        (PRIOR.replace("2.0", "many"), "line 4: expected a number above 0, got 'many'"),
        (PRIOR.replace("    - 2.0\n", ""), "expected as many alpha as beta, got 2 and 3"),
        ("women:\n alpha:\n - 1\n beta:\n - 9\n", "expected at least 3 items, got 1"),
        (PRIOR.replace("beta", "gamma"), "expected alpha and beta of women, found no"),
        (PRIOR + "what is this\n", "line 10: expected a name or a number of a list, got 'what is"),
    ],
)
def test_wrong_priors_are_refused(prior: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=re.escape(message)):
        read_prior(write_obd(tmp_path, prior=prior), "women")


def test_click_rates_of_the_full_data_may_be_missing_but_not_wrong(tmp_path: Path) -> None:
    assert read_click_rates(tmp_path) == {}
    (tmp_path / "reference.json").write_text('{"full_data_table1": {"women": 3}}')
    with pytest.raises(BadFile, match="expected published click rates, but"):
        read_click_rates(tmp_path)


def test_a_log_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    write_obd(tmp_path)
    with pytest.raises(JobError, match="expected the log of men bts, found women random"):
        evaluate_obd(tmp_path, "men", "bts", "random")
    for option, word in (("--campaign", "children"), ("--target", "best")):
        done = CliRunner().invoke(app, ["evaluate", "--obd", str(tmp_path), option, word])
        assert done.exit_code == 2
        assert f"{option}: expected one of " in done.stderr


def test_without_the_targets_sample_and_rates_there_is_no_error_to_tell(tmp_path: Path) -> None:
    report = evaluate_obd(write_obd(tmp_path), "women", "random", "random", force=True)
    assert report.ips == pytest.approx(1.0 / 3.0)
    assert report.on_policy == 0.5
    assert report.ips_more_draws is None
    other = ask(ObdFolder(tmp_path), "women", "random", "bts", Gates(), force=True)
    assert other.on_policy is other.relative_error is other.mean_relative_error is None
    assert other.settings == ()
