from pathlib import Path

import msgspec
import pytest
from kuairands import write_kuairand
from typer.testing import CliRunner

from env.presets import Preset, load
from env.recipes import rapid
from serve.commands.main import app

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_a_shipped_preset_is_made_again_and_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    run = runner.invoke(app, ["world", "fit", "--named", "rapid", "--out", str(file), "--json"])
    assert run.exit_code == 0, run.output
    assert load(str(file)) == rapid()
    assert msgspec.json.decode(run.stdout, type=dict[str, msgspec.Raw]).keys() == {
        "preset",
        "findings",
        "checks",
        "holdout",
    }


def test_a_log_is_fitted_and_what_was_kept_out_is_predicted(tmp_path: Path) -> None:
    """Its people are made up without rare events, so those are all that may be off."""
    folder, file = write_kuairand(tmp_path, n=2_000), tmp_path / "mine.json"
    arguments = ["world", "fit", "--log", str(folder), "--holdout", "0.3", "--cards", "1000"]
    run = runner.invoke(app, [*arguments, "--out", str(file)])
    assert run.exit_code in (0, 1), run.output
    assert "logistic regression" in run.output
    assert "Simulated, against the part that was kept out" in run.output
    preset: Preset = load(str(file))
    assert preset.name == "mine"
    assert "world fit --log kuairand-1 --cards 1000" in preset.source
    assert str(tmp_path) not in preset.source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "expected --log FILE, or --named NAME"),
        (["fit", "--named", "tiktok"], "expected kuairand, daily, kuaisim or rapid"),
        (["fit", "--named", "kuairand"], "needs KuaiRand's log"),
        (["fit", "--log", "nowhere.parquet"], "nowhere.parquet"),
        (["check", "--preset", "nobody"], "expected one of kuairand"),
        (["check", "--preset", "rapid"], "made from no moments"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    run = runner.invoke(app, ["world", *arguments])
    assert run.exit_code == 2, run.output
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
