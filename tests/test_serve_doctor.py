"""What the doctor says of a machine that is well, and of what is wrong with one."""

import importlib.metadata
import json
import socket
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import serve.doctor
from serve.commands.main import app
from serve.config import Config, Data, Server
from serve.doctor import Diagnosis, Finding, examine
from serve.haproxy import BINARY


def config(folder: Path, server: Server | None = None) -> Config:
    return msgspec.structs.replace(
        Config(), server=server or Server(port=0), data=Data(str(folder / "data"))
    )


def finding(check: str, diagnosis: Diagnosis) -> Finding:
    return next(found for found in diagnosis.findings if found.check == check)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weigh a small process instead of a replica."""
    monkeypatch.setattr(serve.doctor, "_REPLICA", "print('[0.5, 104857600, []]')")


def test_a_replica_is_weighed_by_importing_one(tmp_path: Path) -> None:
    diagnosis = examine(config(tmp_path))
    assert diagnosis.replica_import_s > 0
    assert 20 < diagnosis.replica_mb < 400
    assert diagnosis.fsync_ms > 0
    assert finding("replica", diagnosis).verdict != "wrong"
    assert {"python", "packages", "haproxy", "port", "secret", "memory", "disk"} < {
        found.check for found in diagnosis.findings
    }


@pytest.mark.usefixtures("light")
def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        diagnosis = examine(config(tmp_path, Server(port=port)))
    found = finding("port", diagnosis)
    assert found.verdict == "wrong"
    assert f"127.0.0.1:{port}" in found.says
    assert not diagnosis.is_well


@pytest.mark.usefixtures("light")
def test_a_key_that_others_can_read_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    key = tmp_path / "data" / "secret.key"
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    assert finding("secret", examine(config(tmp_path))).verdict == "wrong"
    key.chmod(0o600)
    assert finding("secret", examine(config(tmp_path))).verdict == "well"


@pytest.mark.usefixtures("light")
def test_a_host_that_others_reach_is_pointed_out(tmp_path: Path) -> None:
    found = finding("port", examine(config(tmp_path, Server(host="0.0.0.0", port=1))))
    assert found.verdict in ("look", "wrong")
    found = finding("port", examine(config(tmp_path, Server(host="0.0.0.0", port=0))))
    assert found.verdict == "well"


@pytest.mark.usefixtures("light")
def test_a_package_of_another_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["msgspec<0.1", "no-such-package", 'torch; extra == "train"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked)
    found = finding("packages", examine(config(tmp_path)))
    assert found.verdict == "wrong"
    assert "msgspec" in found.says
    assert "no-such-package is missing" in found.says
    assert "torch" not in found.says


@pytest.mark.usefixtures("light")
def test_haproxy_that_is_not_there_is_wrong_unless_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BINARY, str(tmp_path / "nothing"))
    assert finding("haproxy", examine(config(tmp_path))).verdict == "wrong"
    other = config(tmp_path, Server(port=0, edge="proxy"))
    assert finding("haproxy", examine(other)).verdict == "look"


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("refuses", ["-v", "-c"])
def test_haproxy_that_does_not_take_what_it_is_started_with_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    """One that is too old starts, and knows no such rules of the front door."""
    program = tmp_path / "haproxy"
    program.write_text(f'#!/bin/sh\n[ "$1" != {refuses} ] || {{ echo "no such" >&2; exit 1; }}\n')
    program.chmod(0o700)
    monkeypatch.setenv(BINARY, str(program))
    found = finding("haproxy", examine(config(tmp_path)))
    assert (found.verdict, found.says) == ("wrong", f"{program} does not start: no such")


@pytest.mark.parametrize(
    ("program", "says"),
    [("import no_such_module", "No module named 'no_such_module'"), ("1 / 0", "ZeroDivision")],
)
def test_a_replica_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    monkeypatch.setattr(serve.doctor, "_REPLICA", program)
    found = finding("replica", examine(config(tmp_path)))
    assert found.verdict == "wrong"
    assert says in found.says


@pytest.mark.usefixtures("light")
def test_the_command_says_it_in_words_and_by_its_exit_code(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[server]\nport = 0\n[data]\nfolder = "{tmp_path / "data"}"\n')
    done = CliRunner().invoke(app, ["doctor", "--config", str(settings), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["replica_import_s"], told["replica_mb"]) == (0.5, 100.0)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").touch(0o666)
    (tmp_path / "data" / "secret.key").chmod(0o666)
    done = CliRunner().invoke(app, ["doctor", "--config", str(settings)])
    assert done.exit_code == 1
    assert "WRONG  secret" in done.output
