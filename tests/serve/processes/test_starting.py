"""The port of a server that starts: it is taken first, and says so until the server answers."""

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from live import end
from ports import free_port
from waiting import wait_until

from serve.config import ServerSettings
from serve.limits import RETRY_AFTER_S
from serve.processes.starting import answering


class Answer(NamedTuple):
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(port: int, method: str = "GET", body: bytes | None = None) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, "/readyz", body)
        with connection.getresponse() as response:
            return Answer(response.status, dict(response.headers), response.read())


def check_starting(answer: Answer, *, has_body: bool = True) -> None:
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == str(RETRY_AFTER_S)
    if has_body:
        assert json.loads(answer.body)["detail"] == "the server is starting; ask again"


@pytest.mark.parametrize("is_shared", [False, True])
def test_every_request_is_told_to_come_again(is_shared: bool) -> None:
    with answering(ServerSettings(port=0), is_shared=is_shared) as door:
        port = door.settings.port
        assert door.address == f"http://127.0.0.1:{port}"
        for method, body in (("GET", None), ("POST", b"x" * 100_000), ("DELETE", None)):
            check_starting(ask(port, method, body))
        check_starting(ask(port, "HEAD"), has_body=False)
    with pytest.raises(ConnectionRefusedError):
        ask(port)


def test_a_port_that_is_taken_is_refused() -> None:
    with (
        answering(ServerSettings(port=0), is_shared=False) as door,
        pytest.raises(OSError, match="Address already in use"),
        answering(door.settings, is_shared=False),
    ):
        pytest.fail("expected to be refused")


def test_a_server_that_was_handed_the_port_has_it_alone() -> None:
    with answering(ServerSettings(port=0), is_shared=False) as door:
        door.hand_over()
        door.hand_over()
        asking = http.client.HTTPConnection("127.0.0.1", door.settings.port, timeout=60)
        asking.request("GET", "/")
        door.listener.setblocking(True)
        accepted, _ = door.listener.accept()
        with accepted:
            assert accepted.recv(1_000).startswith(b"GET / ")
        asking.close()


@pytest.mark.parametrize("mode", ["--ray", "--no-ray"])
def test_from_the_first_answer_on_no_request_finds_the_port_closed(
    tmp_path: Path, mode: str
) -> None:
    port = free_port()
    words = ["up", mode, "--no-swarm", "--data", str(tmp_path / "data"), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "serve.commands.main", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        n_starting = 0
        while (answer := ask(port)).status != 200:
            assert process.poll() is None
            told = json.loads(answer.body)
            assert told["status"] == 503, told
            n_starting += "starting" in told["detail"]
        assert n_starting > 0
    finally:
        end(process)


def answers(port: int) -> bool:
    try:
        ask(port)
    except ConnectionRefusedError:
        return False
    return True
