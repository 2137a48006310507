"""`nextswipe train retention`: its mistakes in words, and a small training from end to end."""

import json
from pathlib import Path

import pytest
from small_worlds import PRESET
from typer.testing import CliRunner

from policies.ranker.ranker import Ranker
from policies.ranker.tensors import manifest_path
from serve.commands.main import app

RUN = CliRunner()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["twin", "--objective", "likes"], "Invalid enum value 'likes'"),
        (["ppo", "--objective", "likes"], "expected a reward of watch, "),
        (["ppo", "--night", "-1"], "expected night of at least 0"),
        (["ppo", "--least-exposure", "1"], "expected least_exposure in (0, 1), got 1"),
        (["ppo", "--env", "no_such_world:make"], "found no module no_such_world"),
        (["ppo", "--env", "a world"], "expected a name like module:function"),
        (
            ["ppo", "--env", "custom_worlds:tastes", "--night", "1"],
            "--env without --night",
        ),
        (["ppo", "--env", "custom_worlds:tastes", "--most-hate", "0.1"], "expected no limits in"),
        (["ppo", "--env", "custom_worlds:one_alone"], "expected a gymnasium.vector.VectorEnv"),
        (["search", "--preset", "nowhere"], "expected one of "),
        (["search", "--steps", "9"], "No such option"),
        (["twin", "--night", "1"], "No such option"),
    ],
)
def test_what_cannot_be_trained_for_is_refused(
    tmp_path: Path, options: list[str], message: str
) -> None:
    method, *more = options
    result = RUN.invoke(app, ["train", "retention", method, str(tmp_path / "training"), *more])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "training").exists()


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_a_training_leaves_a_ranker_and_is_not_begun_twice(tmp_path: Path) -> None:
    pytest.importorskip("ray.rllib", reason="the extra `train` is not installed")
    command = ["train", "retention", "twin", str(tmp_path), "--steps", "20000", "--json"]
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


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_fines_and_limits_come_from_the_command_to_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.rllib", reason="the extra `train` is not installed")
    monkeypatch.setattr("serve.jobs.train_ppo.N_PEOPLE", 40)
    (tmp_path / "small.json").write_bytes(PRESET.to_json())
    command = ["train", "retention", "ppo", str(tmp_path / "training")]
    world = ["--preset", str(tmp_path / "small.json"), "--candidates", "6", "--horizon", "3"]
    fines = ["--wellbeing", "2", "--visit-limit", "30", "--night", "1"]
    limits = ["--least-exposure", "0.9", "--most-hate", "0.5"]
    done = RUN.invoke(app, [*command, *world, *fines, *limits, "--steps", "1000"])
    assert done.exit_code == 0, done.output
    assert "least_exposure 0.9: not met, 0." in done.stdout
    assert "most_hate 0.5: met, 0.0" in done.stdout
    assert ", least_exposure 0.5" in done.stderr
    path = tmp_path / "training" / "ranker.safetensors"
    Ranker.from_file(path)
    made = json.loads(manifest_path(path).read_bytes())["made"]
    counted = made["training"]["world"]["objective"]
    assert [counted[name] for name in ("wellbeing", "visit_limit_min", "night")] == [2.0, 30.0, 1.0]
    assert made["training"]["limits"] == {"most_hate": 0.5, "least_exposure": 0.9}
    hate, exposure = made["limits"]
    assert (hate["is_met"], hate["multiplier"]) == (True, 0.0)
    assert not exposure["is_met"]
    assert exposure["multiplier"] > 0.0
