import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve.commands.main import app

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def run(*words: str) -> Result:
    return runner.invoke(app, ["world", *words])


def test_export_writes_a_dataset_that_loads_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari", reason="the extra `world` is not installed")
    words = ("--preset", "rapid", "--policy", "myopic", "--episodes", "3", "--seed", "5")
    shown = run("export", *words, "--out", str(tmp_path), "--json")
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset(told["dataset_id"])
    assert told["dataset_id"] == "nextswipe/rapid-next-myopic-v0"
    assert (told["episodes"], told["steps"]) == (dataset.total_episodes, dataset.total_steps)
    assert told["episodes"] == 3
    again = run("export", *words, "--out", str(tmp_path))
    assert again.exit_code == 2
    assert "there is such a dataset" in again.output


def test_export_writes_below_a_relative_folder_as_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    monkeypatch.chdir(tmp_path)
    shown = run("export", "--preset", "rapid", "--episodes", "1", "--out", "DIR")
    assert shown.exit_code == 0, shown.output
    assert "nextswipe/rapid-next-uniform-v0 in DIR" in shown.output


def test_export_knows_kuaisims_slates(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="the extra `world` is not installed")
    words = ("--preset", "kuaisim", "--episodes", "2", "--out", str(tmp_path))
    refused = run("export", *words)
    assert refused.exit_code == 2
    assert "slates of 6 cards" in refused.output
    shown = run("export", *words, "--actions", "page", "--reward", "retention")
    assert "2 episodes, 60 steps" in shown.output


def test_story_draws_the_most_average_user_or_the_one_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `world` is not installed")
    words = ("--preset", "rapid", "--days", "5", "--users", "12")
    for name, seed in (("a.png", ()), ("b.png", ("--seed", "500"))):
        shown = run("story", *words, *seed, "--out", str(tmp_path / name))
        assert shown.exit_code == 0, shown.output
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert ("user 500 in" in shown.output) == bool(seed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "nowhere"), "expected one of kuairand"),
        (("--preset", "kuaisim"), "of slates"),
        (("--out", "x.gif"), "x.gif: expected a file that ends in .png, .svg, .pdf"),
        (("--out", "nowhere/x.png"), "nowhere/x.png: there is no folder nowhere"),
    ],
)
def test_story_refuses_with_a_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    shown = run("story", "--out", str(tmp_path / "a.png"), *words)
    assert shown.exit_code == 2
    assert message in shown.output
