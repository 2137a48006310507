"""One server a data folder: the second is refused before it has taken anything from the first."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from histories import config_of
from live import get, live
from servers import START_MS
from waiting import DEADLINE_S, wait_until

from serve.errors import JobError
from serve.store.data_folder import SERVING, SERVING_LOCK, Holder, sole_server
from serve.store.open import open_store

UP = [sys.executable, "-m", "serve.commands.main", "up"]


@pytest.mark.parametrize("mode", ["--ray", "--no-ray"])
def test_a_second_server_is_refused_and_the_first_learns_on_until_it_dies(
    tmp_path: Path, mode: str
) -> None:
    settings, data = tmp_path / "settings.toml", tmp_path / "data"
    with live(tmp_path, mode, "--no-swarm") as server:
        wait_until(lambda: learner_of(server.address) == "learning")
        epoch = epoch_of(data)
        command = [*UP, mode, "--config", str(settings)]
        second = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert (second.returncode, second.stdout) == (2, "")
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"nextswipe: {data} is served already, by `nextswipe up` as process")
        assert f" {server.process.pid} on {socket.gethostname()}, since 20" in line
        assert epoch_of(data) == epoch
        wait_until(lambda: learner_of(server.address) == "learning")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(DEADLINE_S)
    with live(tmp_path, mode, "--no-swarm") as again:
        wait_until(lambda: learner_of(again.address) == "learning")
        assert epoch_of(data) > epoch


def test_a_folder_is_free_when_its_server_has_ended(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    for _ in range(2):
        with sole_server(config, START_MS):
            holder = Holder(os.getpid(), socket.gethostname(), START_MS)
            with (
                pytest.raises(JobError, match=f"as {holder}: stop that one"),
                sole_server(config, START_MS + 1),
            ):
                pytest.fail("expected to be refused")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [SERVING_LOCK]


@pytest.mark.parametrize("said", [None, b"", b"{", b'{"pid": "x"}'])
def test_a_server_that_did_not_say_who_it_is_is_served_already_all_the_same(
    tmp_path: Path, said: bytes | None
) -> None:
    config = config_of(tmp_path)
    with sole_server(config, START_MS):
        if said is None:
            (tmp_path / SERVING).unlink()
        else:
            (tmp_path / SERVING).write_bytes(said)
        with (
            pytest.raises(JobError, match="as a process that has just begun or ended: stop"),
            sole_server(config, START_MS),
        ):
            pytest.fail("expected to be refused")


def learner_of(address: str) -> str:
    return str(json.loads(get(address + "/readyz"))["learner"]["state"])


def epoch_of(data: Path) -> int:
    with open_store(config_of(data), lambda: 0) as store, store.view() as view:
        return view.newest_epoch()
