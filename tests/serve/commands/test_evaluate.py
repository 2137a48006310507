"""`nextswipe evaluate` on other logs: what would be ignored is refused, and counts show."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from logs import Batches, Fixed, draw_batch
from typer.testing import CliRunner

from replay.evaluate.evaluate import evaluate_all
from replay.report.terminal import print_evaluation
from serve.commands.main import app

runner = CliRunner()


def write_log(path: Path, n: int = 1_000) -> None:
    """Write decisions without features, two candidates each, of a model with a strange name."""
    rng = np.random.default_rng(9)
    with path.open("w") as file:
        for k in range(n):
            action, reward = int(rng.integers(2)), float(rng.random() < 0.3)
            line = {
                "_label_cost": -reward,
                "_label_probability": 0.5,
                "_label_Action": action + 1,
                "_labelIndex": action,
                "EventId": f"e{k}",
                "a": [action + 1, 2 - action],
                "p": [0.5, 0.5],
                "c": {"_multi": [{}, {}]},
                "VWState": {"m": "model[/x]"},
            }
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.dsjson"
    write_log(path)
    return path


def asked(log: Path, *words: str) -> Sequence[str]:
    return ["evaluate", "--log", str(log), *words]


def test_names_with_brackets_are_printed_as_they_are(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = runner.invoke(app, asked(log))
    assert result.exit_code == 0, result.output
    assert "model[/x]" in result.stdout
    city = np.where(np.arange(3_000) % 2 == 0, "[/red]", "b")
    source = Batches([draw_batch(segments={"[bold]": city})])
    for n in (3_000, 50):  # one that passes, and one that is refused
        source = Batches([draw_batch(n, segments={"[bold]": city[:n]})])
        target = Fixed((0.2,) * 5, "bad[/z]@1")
        print_evaluation(evaluate_all(source, [target], segments=["[bold]"]))
        shown = capsys.readouterr().out
        assert "bad[/z]@1" in shown
        assert "[bold] [/red]" in shown


def test_a_report_that_cannot_be_written_is_refused_before_the_log_is_read(
    log: Path, tmp_path: Path
) -> None:
    log.write_text("not a log")
    for place in (tmp_path / "missing" / "x.html", tmp_path):
        result = runner.invoke(app, asked(log, "--report", str(place)))
        assert result.exit_code != 0
        assert "--report: expected a file in a folder that is there" in str(result.exception) + (
            result.output
        )


def test_importance_that_cannot_be_told_does_not_take_the_answer_along(tmp_path: Path) -> None:
    table, report = tmp_path / "log.csv", tmp_path / "report.html"
    rewards = np.random.default_rng(3).binomial(1, 0.3, 1_000)
    rows = [f"{k % 2},{reward},0.5" for k, reward in enumerate(rewards)]
    table.write_text("\n".join(["action,reward,pscore", *rows]) + "\n")
    words = asked(table, "--importance", "--json", "--report", str(report))
    result = runner.invoke(app, words)
    assert result.exit_code != 0
    told = msgspec.json.decode(result.stdout.splitlines()[0])
    assert told["reports"][0]["estimates"]
    assert told["importance"] is None
    assert report.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("json:loads", "json:loads: expected a factory that takes nothing"),
        ("mine:policy", "mine:policy@0: expected probabilities, its code raised KeyError: 'price'"),
    ],
)
def test_a_policy_of_ones_own_that_fails_is_named(
    function: str, message: str, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from policies.baselines import UniformPolicy\n"
        "class Mine(UniformPolicy):\n"
        "    name = 'mine@1'\n"
        "    def score(self, context):\n"
        "        raise KeyError('price')\n"
        "def policy():\n"
        "    return Mine()\n"
    )
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, [*asked(log), function])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert re.search(message, said), said


@pytest.mark.parametrize("more", [[], ["--force"]])
def test_a_policy_that_never_agrees_with_the_log_is_refused_in_json_too(
    tmp_path: Path, more: list[str]
) -> None:
    rows = "".join(f"u{k % 100},{1 + k % 4},{k % 3 // 2},0.25,5\n" for k in range(1_000))
    log = tmp_path / "log.csv"
    log.write_text(f"user,action,reward,pscore,n_actions\n{rows}")
    result = runner.invoke(app, [*asked(log, "first"), "--json", *more])
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)["reports"]
    assert report["estimates"] == []
    assert report["health"]["max_weight_share"] == report["health"]["max_user_share"] == 0.0
    assert "mean weight" in [refusal["gate"] for refusal in report["refusals"]]


def test_an_estimator_of_ones_own_is_shown_beside_ours(log: Path) -> None:
    command = asked(log, "uniform", "behaviour", "--estimator", "custom_estimators:capped")
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("custom_estimators:capped") == 2
    in_json = runner.invoke(app, [*command, "--json"])
    for report in json.loads(in_json.stdout)["reports"]:
        assert report["estimates"][-1]["estimator"] == "custom_estimators:capped"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("custom_estimators:nothing", "--estimator: custom_estimators:nothing: "),
        ("no_such_module:f", "--estimator: no_such_module:f: found no module no_such_module"),
        ("capped", "--estimator: expected a name like module:function, got 'capped'"),
        ("custom_estimators:fails", "custom_estimators:fails raised ZeroDivisionError: no rows"),
    ],
)
def test_an_estimator_that_cannot_be_used_is_refused_in_words(
    log: Path, name: str, message: str
) -> None:
    result = runner.invoke(app, asked(log, "--estimator", name))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
