"""The command `nextswipe status`: who serves a folder, and whether it is ready."""

import os
import socket
from pathlib import Path

import msgspec
import pytest
from histories import config_of, make_history
from live import live
from ports import free_port
from servers import START_MS
from typer.testing import CliRunner

from serve.commands.main import app
from serve.commands.status import ServerStatus
from serve.store.data_folder import sole_server

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_history(config_of(tmp_path / "data"), rounds=range(3))
    return tmp_path / "data"


def status_of(data: Path, code: int) -> ServerStatus:
    done = runner.invoke(app, ["status", "--json", "--data", str(data)])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return msgspec.json.decode(done.stdout, type=ServerStatus)


def test_a_folder_that_nobody_serves_says_what_is_in_it(data: Path) -> None:
    found = status_of(data, 1)
    assert (found.served_by, found.is_ready, found.learner) == (None, False, "none")
    assert (found.version, found.behind) == (3, 0)
    assert found.lines > found.items > 0
    shown = runner.invoke(app, ["status", "--data", str(data)])
    assert "served by nobody" in shown.stdout
    assert "ready     no: start it: nextswipe up" in shown.stdout


def test_a_server_that_does_not_answer_is_named_and_not_ready(data: Path) -> None:
    with sole_server(config_of(data), START_MS) as say:
        say(f"http://127.0.0.1:{free_port()}")
        found = status_of(data, 1)
    assert found.served_by is not None
    assert (found.served_by.pid, found.served_by.host) == (os.getpid(), socket.gethostname())
    assert "it does not answer" in found.says


def test_a_server_that_runs_is_ready_and_says_where(tmp_path: Path) -> None:
    with live(tmp_path, "--no-ray", "--no-swarm") as server:
        found = status_of(tmp_path / "data", 0)
        assert found.served_by is not None
        assert found.served_by.pid == server.process.pid
        assert found.served_by.address == server.address
        assert found.is_ready
