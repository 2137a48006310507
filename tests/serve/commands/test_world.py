import re
from pathlib import Path

import msgspec
import pytest
from kuairands import write_kuairand
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from env.calibration.checks import check
from env.calibration.recipes import rapid
from env.twin.policies import Grades, grade_policies
from env.world.presets import Preset, load
from serve.commands.main import app
from serve.commands.world import cells
from serve.jobs.fit_world import Fitted

ROOT = Path(__file__).parents[3]
TABLE_ROW = re.compile(
    r"^\| ((?:optimal|random|myopic|session|nourish|bait)[a-z ]*) (\|.*)$", re.MULTILINE
)

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
    """Its users are made up without rare events, so those are all that may be off."""
    folder, file = write_kuairand(tmp_path, n=2_000), tmp_path / "mine.json"
    arguments = ["world", "fit", "--log", str(folder), "--holdout", "0.3", "--cards", "1000"]
    run = runner.invoke(app, [*arguments, "--out", str(file)])
    assert run.exit_code in (0, 1), run.output
    assert ("outside of the band: " in run.stderr) == (run.exit_code == 1)
    assert "logistic regression" in run.output
    assert "Simulated, against the part that was kept out" in run.output
    preset: Preset = load(str(file))
    assert preset.name == "mine"
    assert "world fit --log kuairand-1 --cards 1000" in preset.source
    assert str(tmp_path) not in preset.source


def test_a_fit_that_misses_the_log_itself_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anything kept out; the preset is there all the same."""
    draft, log = rapid(), write_kuairand(tmp_path, n=2_000)
    off = Fitted(draft, [], [check("fit", "watch mean, s", 61.0, 20.0, 23.0)], [])
    monkeypatch.setattr("serve.jobs.fit_world.fit_log", lambda *_, **__: off)
    file = tmp_path / "mine.json"
    run = runner.invoke(app, ["world", "fit", "--log", str(log), "--out", str(file)])
    assert run.exit_code == 1, run.output
    assert "outside of the band: watch mean, s (fit)" in run.stderr
    assert load(str(file)) == draft


@pytest.fixture(scope="module")
def grades() -> Grades:
    with threadpool_limits(1, user_api="blas"):
        return grade_policies()


def test_the_twins_table_is_that_of_the_document(grades: Grades) -> None:
    rows = TABLE_ROW.findall((ROOT / "docs" / "world.md").read_text())
    documented = {name: figures.strip(" |").split(" | ") for name, figures in rows}
    assert len(documented) == len(grades.policies)
    for graded in grades.policies:
        shown = [re.sub(r"^(-?)0\.", r"\1.", cell) for cell in cells(graded)]
        assert shown == documented[graded.policy]


def test_the_twins_table_is_printed_and_is_json(grades: Grades) -> None:
    shown = runner.invoke(app, ["world", "twin"])
    assert shown.exit_code == 0, shown.output
    assert "the optimum is 9,523 s, or 20.60 days" in shown.output
    assert "0.453" in shown.output
    told = msgspec.json.decode(runner.invoke(app, ["world", "twin", "--json"]).stdout, type=Grades)
    assert told == grades


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
