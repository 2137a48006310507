"""`nextswipe train retention`: its mistakes in words, and a small training from end to end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.ranker import Ranker
from serve.commands.main import app

RUN = CliRunner()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "likes"], "Invalid enum value 'likes'"),
        (["--env", "world", "--objective", "likes"], "expected a reward of watch, "),
    ],
)
def test_an_unknown_objective_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = RUN.invoke(app, ["train", "retention", str(tmp_path / "training"), *options])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "training").exists()


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_a_training_leaves_a_ranker_and_is_not_begun_twice(tmp_path: Path) -> None:
    pytest.importorskip("ray.rllib", reason="the extra `train` is not installed")
    command = ["train", "retention", str(tmp_path), "--steps", "20000", "--json"]
    result = RUN.invoke(app, command)
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["n_steps"] >= 20_000
    assert outcome["grade"]["served"] < 1.0
    assert "iteration 2/2: " in result.stderr
    Ranker.from_file(Path(outcome["ranker"]))
    again = RUN.invoke(app, command)
    assert again.exit_code == 2
    assert "holds a training: expected --resume, or another folder" in again.output
