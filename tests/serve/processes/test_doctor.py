"""What the doctor says of a machine that is well, and of what is wrong with one."""

import importlib.metadata
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from redises import Server, running
from typer.testing import CliRunner

import serve.processes.doctor
from replay.log.redis.client import RedisClient
from serve.commands.main import app
from serve.config import Config, DataSettings, ServerSettings, StoreSettings
from serve.processes.doctor import CheckResult, Diagnosis, examine
from serve.processes.haproxy import BINARY
from serve.store.open import open_store


def config(folder: Path, server: ServerSettings | None = None) -> Config:
    return msgspec.structs.replace(
        Config(), server=server or ServerSettings(port=0), data=DataSettings(str(folder / "data"))
    )


def finding(check: str, diagnosis: Diagnosis) -> CheckResult:
    return next(found for found in diagnosis.findings if found.check == check)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weigh a small process instead of a replica."""
    monkeypatch.setattr(serve.processes.doctor, "_REPLICA", "print('[0.5, 104857600, []]')")


def test_a_replica_is_weighed_by_importing_one(tmp_path: Path) -> None:
    diagnosis = examine(config(tmp_path))
    assert diagnosis.replica_import_s > 0
    assert 20 < diagnosis.replica_mb < 400
    assert diagnosis.fsync_ms > 0
    assert finding("replica", diagnosis).verdict != "wrong"
    assert {"python", "packages", "haproxy", "port", "secret", "memory", "disk", "store"} < {
        found.check for found in diagnosis.findings
    }


@pytest.mark.usefixtures("light")
def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        diagnosis = examine(config(tmp_path, ServerSettings(port=port)))
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
    found = finding("port", examine(config(tmp_path, ServerSettings(host="0.0.0.0", port=1))))
    assert found.verdict in ("look", "wrong")
    found = finding("port", examine(config(tmp_path, ServerSettings(host="0.0.0.0", port=0))))
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
    other = config(tmp_path, ServerSettings(port=0, edge="proxy"))
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
    monkeypatch.setattr(serve.processes.doctor, "_REPLICA", program)
    found = finding("replica", examine(config(tmp_path)))
    assert found.verdict == "wrong"
    assert says in found.says


@pytest.mark.parametrize(
    ("set_up", "settings", "verdict", "says"),
    [
        ({"maxmemory": "1gb"}, StoreSettings(), "well", "will be made at the start, .* full at 1"),
        ({"maxmemory": "1gb"}, StoreSettings(name="made"), "well", "a log of made, .* GB taken"),
        ({"maxmemory": "1gb"}, StoreSettings(name="made", shards=4), "wrong", "expected 8 shards"),
        ({"maxmemory": "1mb"}, StoreSettings(name="made"), "wrong", "used memory > 'maxmemory'"),
        ({}, StoreSettings(), "look", "no maxmemory: when full it is killed"),
        ({"appendfsync": "everysec"}, StoreSettings(), "wrong", "got appendfsync everysec"),
        ({"appendfsync": "no"}, StoreSettings(durable=False), "look", "ones may be lost"),
    ],
)
@pytest.mark.usefixtures("light")
def test_a_redis_that_would_lose_what_is_acknowledged_is_pointed_out(
    tmp_path: Path,
    redis_server: Server,
    set_up: dict[str, str],
    settings: StoreSettings,
    verdict: str,
    says: str,
) -> None:
    client = RedisClient(redis_server.url)
    for name, value in set_up.items():
        client.ask("CONFIG", "SET", name, value)
    keys = client.ask("DBSIZE")
    settings = msgspec.structs.replace(settings, url=redis_server.url)
    found = finding("store", examine(msgspec.structs.replace(config(tmp_path), store=settings)))
    assert found.verdict == verdict, found
    assert re.search(says, found.says), found
    assert client.ask("DBSIZE") == keys, "nothing is left behind"
    client.close()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Server]:
    """Run a server that holds the installation `made`, with 8 shards."""
    (tmp_path / "redis").mkdir()
    with running(tmp_path / "redis") as server:
        settings = StoreSettings(url=server.url, name="made", shards=8)
        open_store(msgspec.structs.replace(Config(), store=settings), lambda: 0).close()
        yield server


@pytest.mark.usefixtures("light")
def test_a_redis_that_is_away_is_wrong_and_the_disk_is_not_what_feedback_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.processes.doctor, "SLOW_S", 0.0)
    assert finding("disk", examine(config(tmp_path))).verdict == "look"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = StoreSettings(url=f"redis://:sesame@{address}/0")
    diagnosis = examine(msgspec.structs.replace(config(tmp_path), store=settings))
    found = finding("store", diagnosis)
    assert (found.verdict, "sesame" in found.says) == ("wrong", False)
    assert re.search(f"away or its disk failed: .* connecting to {address}", found.says)
    assert finding("disk", diagnosis).verdict == "well"


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
