"""The command `nextswipe keys`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve.commands.main import app

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def keys(data: Path, *args: str) -> Result:
    return runner.invoke(app, ["keys", *args, "--data", str(data)])


def test_a_key_is_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    made = keys(tmp_path, "create", "backend", "--scope", "feed", "--scope", "feedback")
    assert made.exit_code == 0, made.stderr
    text = made.stdout.strip()
    prefix, key_id, _ = text.split("_", 2)
    assert prefix == "ns"
    rotated = json.loads(keys(tmp_path, "rotate", "backend", "--json").stdout)
    assert rotated["scopes"] == ["feed", "feedback"]
    assert rotated["key"].startswith(f"ns_{rotated['key_id']}_")
    gone = keys(tmp_path, "revoke", key_id)
    assert gone.stdout == f"{key_id} of backend is revoked\n"
    listed = json.loads(keys(tmp_path, "list", "--json").stdout)
    assert [(line["key_id"], line["state"]) for line in listed] == [
        (key_id, "revoked"),
        (rotated["key_id"], "live"),
    ]
    shown = keys(tmp_path, "list").stdout
    assert "revoked" in shown
    assert text not in shown


def test_nothing_is_listed_without_keys(tmp_path: Path) -> None:
    keys(tmp_path, "create", "a", "--scope", "feed")
    assert "no keys" not in keys(tmp_path, "list").stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["create", "backend", "--scope", "root"], "--scope: expected one of feed, feedback"),
        (["create", "my key", "--scope", "feed"], "expected a name of 1 to 64"),
        (["create", "twice", "--scope", "feed"], "nextswipe keys rotate twice"),
        (["rotate", "nobody"], "expected a name with a live key, got nobody"),
        (["revoke", "nobody"], "expected the id of a key (nextswipe keys list), got 'nobody'"),
        (["token", "a/blocks"], "USER: expected"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, args: list[str], message: str) -> None:
    assert keys(tmp_path, "create", "twice", "--scope", "feed").exit_code == 0
    done = keys(tmp_path, *args)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_token_is_printed_alone(tmp_path: Path) -> None:
    keys(tmp_path, "create", "backend", "--scope", "feed")
    done = keys(tmp_path, "token", "ann", "--seconds", "60")
    assert done.stdout.startswith("nv_")
    assert done.stdout.count("\n") == 1
