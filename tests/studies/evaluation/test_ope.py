import io
import json
import sys
import types
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from policies.explorers import draw, softmax
from replay.estimators.decisions import ESTIMATORS
from replay.estimators.intervals import Estimate
from serve.bench.room import median_seconds, timed
from tests.studies.commands import app
from tests.studies.evaluation import obp_peer
from tests.studies.evaluation.obp import (
    Asked,
    DenseLog,
    ObpMissingError,
    install,
    make_log,
    started,
)
from tests.studies.evaluation.ope import OpeSize, run_ope

SMALL = OpeSize(decisions=4_000, candidates=6, rounds=1, samples=100)

FAKE_OBP = """
import numpy as np


class _Estimator:
    def __init__(self, **arguments):
        self.arguments = arguments

    def estimate_interval(self, *, n_bootstrap_samples, random_state, **log):
        return {"mean": self.estimate_policy_value(**log)}


class InverseProbabilityWeighting(_Estimator):
    def estimate_policy_value(self, *, reward, action, pscore, action_dist, position, **rest):
        chosen = action_dist[np.arange(len(action)), action, position]
        return (reward * chosen / pscore).mean()


class DirectMethod(_Estimator):
    def estimate_policy_value(self, *, action_dist, estimated_rewards_by_reg_model, **rest):
        return (action_dist * estimated_rewards_by_reg_model).sum(axis=1).mean()
"""


class Ticks:
    """A steady clock that moves by itself."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.fixture(scope="module")
def log() -> DenseLog:
    return make_log(20_000, 6, "mixed", seed=1)


@pytest.fixture
def fake_obp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the pipeline's package, which wants another numpy."""
    package, ope = types.ModuleType("obp"), types.ModuleType("obp.ope")
    exec(FAKE_OBP, vars(ope))
    monkeypatch.setitem(sys.modules, "obp", package)
    monkeypatch.setitem(sys.modules, "obp.ope", ope)


def silent(step: str, done: int, total: int) -> None:
    """Take progress."""


def test_a_log_holds_pmfs_and_the_propensity_of_what_was_drawn(log: DenseLog) -> None:
    for pmf in (log.logging, log.target):
        np.testing.assert_allclose(pmf.sum(axis=1), 1.0, rtol=1e-12)
    rows = np.arange(len(log.action))
    np.testing.assert_array_equal(log.propensity, log.logging[rows, log.action])
    np.testing.assert_array_equal(log.columns().target, log.target[rows, log.action])
    np.testing.assert_array_equal(log.predictions().chosen, log.predicted[rows, log.action])
    assert set(np.unique(log.reward)) == {0.0, 1.0}


def test_actions_are_drawn_as_often_as_their_probability_says(log: DenseLog) -> None:
    counts = np.bincount(log.action, minlength=6)
    expected, variance = log.logging.sum(axis=0), (log.logging * (1 - log.logging)).sum(axis=0)
    assert (np.abs(counts - expected) < 4.0 * np.sqrt(variance)).all()


def test_a_certain_log_is_uniform_and_its_target_sure() -> None:
    log = make_log(100, 5, "certain", seed=2)
    assert (log.propensity == 0.2).all()
    assert (log.target.max(axis=1) == 1.0).all()


def test_a_log_hangs_on_its_seed_alone() -> None:
    one, same, other = (make_log(500, 5, "mixed", seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.reward, same.reward)
    assert (one.reward != other.reward).any()


def test_draws_never_take_what_has_no_probability() -> None:
    pmf = np.tile([0.0, 0.5, 0.0, 0.5, 0.0], (1_000, 1))
    assert set(draw(pmf, np.random.default_rng(0)).tolist()) == {1, 3}


def test_a_floor_leaves_everybody_its_share() -> None:
    pmf = softmax(np.array([[0.0, 100.0]]), temperature=1.0, floor=0.2)
    np.testing.assert_allclose(pmf, [[0.1, 0.9]])


def test_seconds_are_those_of_the_call() -> None:
    assert timed(lambda: "said", Ticks(500_000_000)) == ("said", 0.5)
    assert median_seconds(lambda: None, 3, Ticks(2_000_000_000)) == 2.0


def test_all_estimators_are_timed_and_added_up() -> None:
    result = run_ope(SMALL, seed=1, obp=None, clock_ns=Ticks(1_000_000), advance=silent)
    assert {*ESTIMATORS, "mips", "snmips", "columns", "predictions"} < set(result.seconds)
    # Each call takes a tick of 1 ms of this clock.
    assert result.seconds_all == pytest.approx(0.001 * len(result.seconds))
    assert result.seconds_intervals["cressie-read"] == pytest.approx(0.001)
    assert (result.obp_ratio, result.obp) == (None, None)
    assert result.obp_missing == "it was left out"


def test_a_pipeline_that_cannot_be_had_is_said_with_the_reason() -> None:
    def refuse(folder: Path) -> Path:
        raise ObpMissingError(f"no way into {folder.name}")

    result = run_ope(
        SMALL,
        seed=1,
        obp=Path("there"),
        clock_ns=Ticks(1_000),
        advance=silent,
        find_obp=refuse,
    )
    assert result.obp_missing == "no way into there"
    assert result.obp_ratio is None


def test_an_environment_made_by_the_same_list_is_kept(tmp_path: Path) -> None:
    (tmp_path / "installed.txt").write_text("numpy==1\nobp==1", encoding="utf-8")
    (tmp_path / "mine").touch()
    assert install(tmp_path, needs=("numpy==1",), obp="obp==1") == tmp_path / "bin" / "python"
    assert (tmp_path / "mine").exists()


def test_an_environment_of_another_list_is_made_anew_and_a_failure_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "installed.txt").write_text("numpy==1\nobp==1", encoding="utf-8")
    with pytest.raises(ObpMissingError, match=r"no-such==1 cannot be installed for 3.*: ERROR"):
        install(tmp_path, needs=("pip",), obp="no-such==1")
    assert (tmp_path / "bin" / "python").exists()
    assert not (tmp_path / "installed.txt").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ObpMissingError, match="cannot be installed"):
        install(tmp_path / "file" / "below")


def test_an_interpreter_without_the_pipeline_is_told_apart(tmp_path: Path) -> None:
    missing = pytest.raises(ObpMissingError, match="No module named 'obp'")
    with missing, started(Path(sys.executable), tmp_path):
        pass


@pytest.mark.usefixtures("fake_obp")
def test_the_other_side_answers_what_it_is_asked_from_the_saved_arrays(
    log: DenseLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mixed").mkdir()
    log.save(tmp_path / "mixed")
    asked = [Asked("mixed", "ips", {}), Asked("mixed", "dm", {}, samples=100)]
    lines = b"\n".join(msgspec.json.encode(one) for one in asked).decode()
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    monkeypatch.setattr(sys, "argv", ["obp_peer.py", str(tmp_path)])
    monkeypatch.setattr(obp_peer, "version", lambda name: f"{name} of the test")
    obp_peer.main()
    versions, ips, dm = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert versions == {"sb-obp": "sb-obp of the test", "numpy": np.__version__}
    assert ips["value"] == pytest.approx(_value("ips", log).value, abs=1e-9)
    assert dm["value"] == pytest.approx(_value("dm", log).value, abs=1e-9)
    assert ips["seconds"] > 0.0


def test_the_commands_say_what_they_should_show() -> None:
    for command, claim in (("ope", "obp_ratio of 20 or more"), ("selection", "best_picked of .9")):
        printed = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert printed.exit_code == 0
        assert claim in " ".join(printed.output.split())


def _value(name: str, log: DenseLog) -> Estimate:
    return ESTIMATORS[name](log.columns(), log.predictions(), 0.95)
