"""The command line: what it prints, what it refuses, and that its help can be followed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from histories import config_of, make_history
from kuairands import write_kuairand
from typer.testing import CliRunner

from replay.formats.dsjson_source import DsjsonSource
from replay.join.exported import load as load_dataset
from serve.commands.main import app
from serve.config import SHIPPED, Config, parse

SIMULATED = ["--config", "simulated.toml"]
runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder in which sixteen users swiped, and settings for it beside it."""
    home = tmp_path_factory.mktemp("made")
    make_history(config_of(home / "data"), rounds=range(3))
    settings = _run("config", "show").stdout
    settings = settings.replace("bits = 18", "bits = 12").replace(
        f"learning_rate = {Config().learner.learning_rate}", "learning_rate = 1.0"
    )
    (home / "nextswipe.toml").write_text(settings)
    return home


@pytest.fixture
def at(made: Path, tmp_path: Path) -> list[str]:
    """Return the options that name a copy of it."""
    home = shutil.copytree(made, tmp_path / "home")
    return ["--config", str(home / "nextswipe.toml"), "--data", str(home / "data")]


def _commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        nested = hasattr(command, "commands")
        found += _commands(command, (*path, name)) if nested else [((*path, name), command)]
    return found


COMMANDS = _commands(typer.main.get_command(app))


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_help_has_an_example_that_can_be_read_as_a_command(path: tuple[str, ...]) -> None:
    shown = " ".join(_run(*path, "--help").stdout.split())
    example = re.search(r"Example: nextswipe (.*)", shown)
    assert example is not None, shown
    words = example[1].split(" > ")[0].split()
    assert tuple(words[: len(path)]) == path
    command = dict(COMMANDS)[path]
    command.make_context(" ".join(path), words[len(path) :])  # raises if it cannot be parsed


def test_there_is_a_command_for_each_job() -> None:
    assert {" ".join(path) for path, _ in COMMANDS} >= {
        "import kuairand",
        "import items",
        "train bandit",
        "evaluate",
        "log export",
        "log verify",
        "backup",
        "restore",
        "config show",
        "config check",
    }


def test_help_is_answered_without_loading_what_is_heavy() -> None:
    code = (
        "import sys; from serve.commands.main import app; "
        "sys.exit(', '.join({'ray', 'pyarrow', 'vowpal_wabbit_next', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_mistake_is_one_line_and_code_2_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = "from serve.commands.main import app; app(prog_name='nextswipe')"
    command = [sys.executable, "-c", code, "log", "verify", "--data", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"nextswipe: {tmp_path}/nothing: expected a data folder with nextswipe.db, found none: "
        "`nextswipe up` makes one, or name another (--data)\n"
    )


def test_items_are_imported_once(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title,duration_s\na,First,12\nb,Second,30\n")
    data = ["--data", str(tmp_path / "data")]
    assert _run("import", "items", str(file), *data).stdout == "2 items (new 2, unchanged 0)\n"
    assert _run("import", "items", str(file), *data).stdout == "2 items (new 0, unchanged 2)\n"


def test_a_kuairand_folder_is_imported_once(tmp_path: Path) -> None:
    words = ["import", "kuairand", str(write_kuairand(tmp_path)), "--data", str(tmp_path / "data")]
    first, *rest = _run(*words).stdout.splitlines()
    assert first == "20 items, 15 users, 400 impressions (new 435, unchanged 0)"
    assert re.fullmatch(r"response model: AUC 0\.\d{3} on the last day", rest[0])
    assert rest[1:] == ["plays longer than 60 s: 0% of the impressions, 0% of the watch time"]
    again, *rest_again = _run(*words).stdout.splitlines()
    assert again == "20 items, 15 users, 400 impressions (new 0, unchanged 435)"
    assert rest_again == rest


def test_a_vector_that_does_not_fit_the_catalogue_is_refused_with_its_place(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    (tmp_path / "a.csv").write_text("item_id,vector\na,1|0\n")
    (tmp_path / "b.csv").write_text("item_id,vector\nb,\nc,1|0|1\n")
    _run("import", "items", str(tmp_path / "a.csv"), *data)
    assert _run("import", "items", str(tmp_path / "b.csv"), *data, code=2).stderr == (
        f"nextswipe: {tmp_path / 'b.csv'}, line 3, column 'vector': "
        "expected 2 numbers as in the catalogue's vectors, got 3\n"
    )


def test_a_swarm_without_a_server_is_refused(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    (tmp_path / "a.csv").write_text("item_id\na\n")
    _run("import", "items", str(tmp_path / "a.csv"), *data)
    done = _run("swarm", "--url", "http://127.0.0.1:9", "--present", "2", *data, code=2)
    assert done.stderr.startswith("nextswipe: --url: expected a server at http://127.0.0.1:9, got")
    assert "start it (nextswipe up)" in done.stderr


@pytest.mark.parametrize(
    ("server", "asked"),
    [
        ("port = 9", "127.0.0.1:9"),
        ('host = "0.0.0.0"\nport = 9', "127.0.0.1:9"),
        ('host = "::"\nport = 9', "[::1]:9"),
    ],
)
def test_a_swarm_asks_the_server_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, asked: str
) -> None:
    monkeypatch.setattr("serve.swarm.swarm.MAX_PAUSE_S", 0.0)
    monkeypatch.setattr("serve.wire.client.FIRST_PAUSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("item_id\na\n")
    (tmp_path / "feed.toml").write_text(f"[server]\n{server}\n")
    _run("import", "items", "a.csv")
    done = _run("swarm", "--config", "feed.toml", "--present", "2", code=2)
    assert f"expected a server at http://{asked}, got: Connect call failed" in done.stderr


def test_a_swarm_needs_the_address_of_a_server_that_took_a_free_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feed.toml").write_text("[server]\nport = 0\n")
    done = _run("swarm", "--config", "feed.toml", code=2)
    assert done.stderr.startswith("nextswipe: expected --url: with server.port = 0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--users", "5"], "expected --users and --preset together with --days, got no --days"),
        (["--days", "1", "--cards", "9"], "expected --days without --cards and --present"),
        (["--days", "1"], "days need a simulated clock: expected clock.simulated = true"),
        (["--days", "1", "--users", "9999", *SIMULATED], "expected at most 2,000 users"),
        (["--days", "1", "--preset", "x", *SIMULATED], "expected one of kuairand, daily,"),
        (["--days", "1", "--preset", "kuaisim", *SIMULATED], "expected a preset of our own laws"),
        (["--days", "1", *SIMULATED], "--url: expected a server at http://127.0.0.1:9"),
    ],
)
def test_a_swarm_that_cannot_live_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr("serve.swarm.swarm.MAX_PAUSE_S", 0.0)
    monkeypatch.setattr("serve.wire.client.FIRST_PAUSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("item_id\na\n")
    Path(SIMULATED[1]).write_text("[clock]\nsimulated = true\n")
    _run("import", "items", "a.csv")
    assert message in _run("swarm", "--url", "http://127.0.0.1:9", *words, code=2).stderr


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "item_id,duration_s\nx,long\n", "line 2, column 'duration_s': expected"),
        ("a.csv", "item_id,colour\nx,red\n", "line 1, column 'colour': expected columns of"),
        ("a.csv", "item_id,title\nx,A\nx,B\n", "line 3, column 'item_id': expected each id once"),
        ("a.csv", "item_id,title\nx\n", "line 2: expected 2 cells, got 1"),
        ("a.jsonl", '{"item_id": "x"}\n{"item_id": 3}\n', "line 2, column 'item_id': expected"),
        ("a.jsonl", '{"item_id": "x"\n', "line 1: expected JSON"),
        ("a.parquet", "no parquet", "expected Parquet"),
        ("a.xlsx", "", "expected one of .csv, .jsonl, .ndjson, .parquet"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    data = ["--data", str(tmp_path / "data")]
    done = _run("import", "items", str(tmp_path / name), *data, code=2)
    assert done.stderr.startswith(f"nextswipe: {tmp_path / name}")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "items", "missing.csv"], "missing.csv: cannot be read"),
        (
            ["import", "kuairand", "missing"],
            "missing: expected one video_features_basic*.csv, got 0",
        ),
        (["config", "check", "missing.toml"], "missing.toml: cannot be read"),
        (["config", "show", "--config", "missing.toml"], "missing.toml: cannot be read"),
        (["train", "bandit", "--data", "missing"], "missing: expected a data folder"),
        (["evaluate", "--data", "missing"], "missing: expected a data folder"),
        (["log", "export", "out.jsonl", "--data", "missing"], "missing: expected a data folder"),
        (["backup", "copy", "--data", "missing"], "missing: expected a data folder"),
        (["restore", "copy", "--data", "missing"], "copy: expected a whole backup"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = _run(*words, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nextswipe.db").write_bytes(b"something else " * 1_000)
    for words in (["log", "verify"], ["train", "bandit"], ["evaluate"]):
        assert "file is not a database" in _run(*words, "--data", str(tmp_path), code=2).stderr


def test_the_log_is_verified(at: list[str]) -> None:
    assert _run("log", "verify", *at).stdout == (
        "48 pages, 192 decisions redrawn: 0 mismatches, largest propensity error 0\n"
    )
    (Path(at[-1]) / "secret.key").write_bytes(bytes(32))
    found = msgspec.json.decode(_run("log", "verify", "--json", *at, code=1).stdout)
    assert found["mismatches"] > 0


def test_the_log_is_exported(at: list[str], tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    done = _run("log", "export", str(out), *at)
    lines = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    assert done.stdout == f"{len(lines):,} lines in {out}\n"
    assert [line["offset"] for line in lines] == sorted({line["offset"] for line in lines})
    assert {line["record"]["t"] for line in lines} == {"item", "user", "page", "feedback"}

    table = tmp_path / "table"
    done = _run("log", "export", str(table), "--format", "parquet", *at)
    assert done.stdout == f"{len(load_dataset(table))} decisions in {table}\n"
    assert "exists already" in _run("log", "export", str(out), *at, code=2).stderr


@pytest.mark.parametrize("arm", [[], ["--arm", "control"]])
def test_decisions_are_exported_for_other_tools(
    at: list[str], arm: list[str], tmp_path: Path
) -> None:
    table, lines, arrays = tmp_path / "table", tmp_path / "log.dsjson", tmp_path / "log.npz"
    for path, form in ((table, "parquet"), (lines, "dsjson"), (arrays, "obp")):
        done = _run("log", "export", str(path), "--format", form, *arm, *at)
        assert done.stdout == f"{len(load_dataset(table)):,} decisions in {path}\n"
        assert "exists already" in _run("log", "export", str(path), *at, code=2).stderr
    dataset = load_dataset(table)
    expected = sorted(zip(dataset.propensity, dataset.reward, strict=True))
    batches = list(DsjsonSource(lines).batches())
    assert sorted((p, r) for b in batches for p, r in zip(b.propensity, b.reward, strict=True)) == (
        expected
    )
    with np.load(arrays) as feedback:
        assert sorted(zip(feedback["pscore"], feedback["reward"], strict=True)) == expected
        assert int(feedback["n_rounds"]) == len(dataset)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "table", "log.dsjson", "log.npz"}


def test_a_policy_is_evaluated(at: list[str]) -> None:
    shown = _run("evaluate", "uniform", "--force", *at).stdout
    assert re.search(r"\bdr\b.*\d\.\d{4} to \d\.\d{4}", shown), shown
    words = ["evaluate", "mixture", "vowpal@2", "--force", "--segment", "slot"]
    (mixed, learned) = msgspec.json.decode(_run(*words, "--json", *at).stdout)["reports"]
    assert (mixed["policy"], learned["policy"]) == ("mixture@0", "vowpal@2")
    assert learned["forced"] is True
    assert {part["value"] for part in learned["parts"]} == {"0", "1", "2", "3"}
    refused = _run("evaluate", "best", *at, code=2).stderr
    assert "vowpal@VERSION or MODULE:FUNCTION, got 'best'" in refused
    assert (
        "expected a version that was published (1 to 3) or is kept (1, 2, 3), got 9"
        in _run("evaluate", "vowpal@9", *at, code=2).stderr
    )


def test_a_bandit_is_trained_and_says_whether_it_is_published(at: list[str]) -> None:
    refused = _run("train", "bandit", *at, code=1).stdout.splitlines()
    assert refused[0].startswith("held-out pages: ")
    assert re.fullmatch(r"gate not passed: users: expected at least 20, got \d+", refused[1]), (
        refused
    )
    assert refused[-1] == "not published"
    told = msgspec.json.decode(_run("train", "bandit", "--json", *at, code=1).stdout)
    assert [f"gate not passed: {refusal}" for refusal in told["refusals"]] == refused[1:-1]
    assert told["version"] is None


def test_a_backup_is_restored(at: list[str], tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    assert "policy version 3 in" in _run("backup", copy, *at).stdout
    assert "is not empty; --force replaces it" in _run("restore", copy, *at, code=2).stderr
    assert "policy version 3 restored" in _run("restore", copy, "--force", *at).stdout


def test_shown_settings_can_be_given_back(tmp_path: Path) -> None:
    assert parse(_run("config", "show").stdout) == Config()
    assert _run("config", "show", "--default").stdout == SHIPPED.read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text("[server]\nport = 9000\n")
    shown = _run("config", "show", "--config", str(file), "--data", "elsewhere").stdout
    assert (parse(shown).server.port, parse(shown).data.folder) == (9000, "elsewhere")
    assert _run("config", "check", str(file)).stdout == f"{file} is fine\n"
    file.write_text("[server]\nprot = 9000\n")
    assert "did you mean server.port?" in _run("config", "check", str(file), code=2).stderr


def _run(*words: str, code: int = 0) -> Any:
    done = runner.invoke(app, words)
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done
