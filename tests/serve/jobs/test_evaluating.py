"""A data folder is asked about policies by name: what they are, learned from, and would earn."""

import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from histories import HALVES, config_of, make_history
from typer.testing import CliRunner

from env.interface import Policy
from policies.baselines import mixture_policy
from replay.evaluate.targets import PolicyTarget
from serve.commands.main import app
from serve.config import Arm, Config, Experiment, MixtureSettings
from serve.errors import JobError
from serve.jobs.evaluate import EvaluationJob, open_evaluation
from serve.jobs.export import export_dsjson
from serve.jobs.policies import find_policy
from serve.learn.settings import open_snapshots
from serve.store.data_folder import count_lines
from serve.store.open import open_store

OWN = """
from policies.baselines import UniformPolicy


class Mine(UniformPolicy):
    name = "mine@7"


def make():
    return Mine()


def make_nothing():
    return 3
"""
VOWPAL = ("--reward-model", "vowpal")
runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of two arms and three versions, of which the learner learned from both arms."""
    folder = tmp_path_factory.mktemp("made") / "data"
    make_history(config_of(folder), n_users=60, rounds=range(4))
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return config_of(shutil.copytree(made, tmp_path / "data"))


def ask(config: Config, *names: str, arm: str = "", held_out: bool = False) -> EvaluationJob:
    """Return a question whose log is closed by now: what it is about can be looked at."""
    with open_evaluation(config, names, arm=arm, held_out=held_out) as question:
        return question


def policies(question: EvaluationJob) -> list[Policy]:
    return [target.policy for target in question.targets if isinstance(target, PolicyTarget)]


def test_policies_are_found_by_their_names(config: Config) -> None:
    names = ["uniform", "popularity@0", "mixture", "vowpal", "vowpal@2"]
    question = ask(config, *names)
    newest = max(open_snapshots(config).versions())
    assert [target.name for target in question.targets] == [
        "uniform@0",
        "popularity@0",
        "mixture@0",
        f"vowpal@{newest}",
        "vowpal@2",
    ]


def test_a_mixture_is_that_of_the_settings(config: Config) -> None:
    def mixture(*arms: Arm) -> Policy:
        settings = msgspec.structs.replace(config, experiment=Experiment("first", arms))
        return policies(ask(settings, "mixture@0"))[0]

    half = Arm("a", "mixture", mixture=MixtureSettings(uniform_share=0.5))
    assert mixture(half).explorer == mixture_policy(0.5).explorer
    assert (
        mixture(Arm("a", "uniform")).explorer
        == mixture_policy(MixtureSettings().uniform_share).explorer
    )
    with pytest.raises(JobError, match="one mixture in the experiment's arms, got several"):
        mixture(half, Arm("b", "mixture"))


def test_a_policy_of_ones_own_is_found_where_one_is(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_policies.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    found = policies(ask(config, "own_policies:make"))
    assert [p.name for p in found] == ["own_policies:make@0"], "as pages of an arm would name it"
    assert sys.path[: len(before)] == before, "nothing of ours is shadowed"
    for name, message in (
        ("own_policies:make_nothing", "expected a policy .* got int without name, explorer, score"),
        ("own_policies:missing", r"own_policies\.py has no missing"),
        ("no_such_module:make", "found no module no_such_module, neither in .* nor installed"),
    ):
        with pytest.raises(JobError, match=message):
            ask(config, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "expected uniform, popularity, mixture, vowpal, .* got 'best'"),
        ("vowpal@99", r"expected a version that was published \(1 to 4\) .* got 99"),
        ("vowpal@x", "got 'vowpal@x'"),
    ],
)
def test_a_policy_that_is_not_there_is_refused(config: Config, name: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        ask(config, name)


def test_a_version_says_what_it_learned_from_and_can_be_held_out(config: Config) -> None:
    names = ["uniform", "vowpal@2", "vowpal"]
    with open_evaluation(config, names, as_learned=True) as question:
        none, half, most = (
            t.learned_share for t in question.targets if isinstance(t, PolicyTarget)
        )
        assert none == 0.0 < half < most <= 1.0
        reports = question.answer(force=True).reports
        assert [report.learned_share for report in reports] == [none, half, most]
        n = question.n_decisions
    with open_evaluation(config, names) as question:
        reports = question.answer(force=True).reports
        assert [report.learned_share for report in reports] == [0.0, 0.0, 0.0]
        assert [report.left_out_folds for report in reports] == [0, 5, 5]
    with open_evaluation(config, ["uniform", "vowpal@2"], held_out=True) as rest:
        assert [t.learned_share for t in rest.targets if isinstance(t, PolicyTarget)] == [0.0, 0.0]
        assert rest.n_decisions == pytest.approx((1.0 - half) * n)


def test_the_logs_propensities_are_judged_by_the_versions_that_are_kept(config: Config) -> None:
    with open_evaluation(config, ["uniform"]) as question:
        calibration = question.answer(force=True).health.calibration
    assert calibration is not None
    assert calibration.method == "pit"
    assert calibration.max_error < 1e-9
    assert calibration.p_value > 1e-3


def test_arms_are_compared_with_their_shares(config: Config) -> None:
    arms = ask(config, "uniform", arm="control").arms
    assert arms is not None
    assert sum(arms.users.values()) == 60
    assert arms.p_value > 1e-3
    skewed = Experiment("halves", (HALVES.arms[0], Arm("treated", "vowpal", share=5.0)))
    settings = msgspec.structs.replace(config, experiment=skewed)
    with open_evaluation(settings, ["uniform"]) as question:
        (report,) = question.answer().reports
    assert "sample ratio of the arms" in [refusal.gate for refusal in report.refusals]


def test_progress_is_told_line_by_line_and_decision_by_decision(config: Config) -> None:
    lines: list[int] = []
    decisions: list[int] = []
    with open_evaluation(config, ["uniform", "vowpal"], advance=lines.append) as question:
        question.answer(advance=decisions.append)
    assert sum(lines) == count_lines(config)
    assert sum(decisions) == 2 * question.n_decisions


def test_a_log_without_decisions_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path / "empty")
    open_store(config, lambda: 0).close()
    with pytest.raises(JobError, match="expected pages, found none; let users swipe first"):
        ask(config, "uniform")


def test_an_option_that_leaves_no_page_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"--arm: expected an arm .*control, treated.* got 'nosuch'"):
        ask(config, "uniform", arm="nosuch")
    small = config_of(tmp_path / "small")
    make_history(small, n_users=24, rounds=range(1))  # an arm without anybody: 1 in 10 million
    with pytest.raises(
        JobError, match=r"--held-out: expected pages behind those that the policies"
    ):
        ask(small, "vowpal", held_out=True)
    with pytest.raises(JobError, match=r"--held-out: expected pages of arm control behind those"):
        ask(small, "vowpal", arm="control", held_out=True)


def test_the_current_version_needs_one_that_was_published(tmp_path: Path) -> None:
    config = config_of(tmp_path / "new")
    with (
        open_store(config, lambda: 0) as store,
        pytest.raises(JobError, match="no version of vowpal"),
    ):
        find_policy(config, store, "vowpal")


def test_a_report_is_written_beside_what_is_printed(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    words = ["evaluate", "uniform", "vowpal@2", "--segment", "slot", "--importance"]
    at = ["--data", config.data.folder]
    settings = tmp_path / "settings.toml"
    settings.write_text("[learner]\nbits = 12\nlearning_rate = 1.0\n")
    told = runner.invoke(app, [*words, *at, "--config", str(settings)])
    assert "vowpal@2: learned from these users; each was judged by what it would be" in told.stdout
    words.append("--as-learned")
    done = runner.invoke(app, [*words, "--report", str(file), *at])
    assert done.exit_code == 0, done.output
    assert "vowpal@2 learned from" in done.stdout
    assert "popularity" in done.stdout
    html = file.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "by slot" in html
    assert "Which features matter" in html


def test_a_version_of_other_settings_is_judged_as_it_learned(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    wider = msgspec.structs.replace(config.learner, main_sd=50.0)
    (target,) = ask(msgspec.structs.replace(config, learner=wider), "vowpal@2").targets
    assert isinstance(target, PolicyTarget)
    assert (target.n_folds, target.learned_share > 0.0) == (0, True)
    assert "was learned under other settings than these" in caplog.text
    (own,) = ask(config, "vowpal@2").targets
    assert isinstance(own, PolicyTarget)
    assert own.n_folds == 5


def test_a_plan_refuses_what_it_would_not_look_at(config: Config, tmp_path: Path) -> None:
    words = ["evaluate", "--plan", "--segment", "slot", "--report", str(tmp_path / "r.html")]
    told = runner.invoke(app, [*words, "--data", config.data.folder])
    assert told.exit_code == 2
    assert "--segment, --report: not looked at with --plan; leave it out" in told.stderr


def test_what_is_printed_as_json_is_the_evaluation(config: Config) -> None:
    words = ["evaluate", "uniform", "--importance", "--json", "--data", config.data.folder]
    told = msgspec.json.decode(runner.invoke(app, words).stdout)
    assert told["reports"][0]["policy"] == "uniform@0"
    assert told["importance"]["reward"]
    words.remove("--importance")
    without = msgspec.json.decode(runner.invoke(app, words).stdout)
    assert (without.keys(), without["importance"]) == (told.keys(), None)


def test_rewards_are_predicted_by_the_model_that_was_asked_for(config: Config) -> None:
    def values(*options: str) -> dict[str, float]:
        words = ["evaluate", "uniform", "--force", "--json", "--data", config.data.folder, *options]
        told = msgspec.json.decode(runner.invoke(app, words).stdout)
        return {e["estimator"]: e["value"] for e in told["reports"][0]["estimates"]}

    plain, ridge, vowpal = values(), values("--reward-model", "ridge"), values(*VOWPAL)
    assert plain == ridge
    assert {name for name, value in ridge.items() if vowpal[name] == value} >= {"ips", "snips"}
    assert vowpal["dm"] != ridge["dm"]
    assert vowpal["dr"] != ridge["dr"]


def test_vowpal_as_a_reward_model_needs_our_own_log(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "log.dsjson"
    export_dsjson(config, file)
    words = ["evaluate", "uniform", "--force", "--log", str(file)]
    assert runner.invoke(app, words).exit_code == 0
    done = runner.invoke(app, [*words, *VOWPAL])
    assert done.exit_code != 0
    assert "needs our own log" in done.output
