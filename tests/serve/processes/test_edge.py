"""The edge as it is by default: HAProxy and Ray Serve in front of the app, over real sockets."""

import asyncio
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import msgspec
import pytest
from live import Live, listeners_of, live
from waiting import DEADLINE_S

from serve.bench.edges import family
from serve.config import Config, ServerSettings
from serve.processes.edge import ALONE, FAST, feed_options, learner_options, switched
from serve.processes.haproxy import BINARY, HEADER_TIMEOUT_S, LISTEN

QUEUE = 4
FEED = b'{"user_id": "me", "size": 2}'
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("edge")
    with live(folder, "--no-swarm", settings=f"queue = {QUEUE}\ndrain_s = 0.0") as server:
        yield server


def test_nothing_listens_beyond_loopback_and_on_the_feeds_port_only_haproxy(server: Live) -> None:
    listeners = listeners_of(family(server.process.pid))
    assert len({owner for _, _, owner in listeners}) > 3, "expected to see Ray's processes too"
    assert [each for each in listeners if not ip_address(each[0]).is_loopback] == []
    _, port = server.host_and_port
    assert [owner for _, at, owner in listeners if at == port] == ["haproxy"]
    assert [at for _, at, owner in listeners if owner == "haproxy"] == [port]


async def test_more_than_is_taken_in_hand_is_told_to_come_again(server: Live) -> None:
    n_asked = 40 * QUEUE
    connector = aiohttp.TCPConnector(limit=n_asked)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask() -> tuple[int, str | None, str, bytes]:
            async with session.post(server.address + "/v1/feed", data=FEED, headers=JSON) as got:
                return (
                    got.status,
                    got.headers.get("Retry-After"),
                    got.content_type,
                    await got.read(),
                )

        answers = await asyncio.gather(*(ask() for _ in range(n_asked)))
        assert (await ask())[0] == 200, "the line is empty again"
    assert {status for status, *_ in answers} == {200, 429}
    for status, again, media, body in answers:
        if status == 429:
            assert (again, media) == ("1", "application/problem+json")
            assert msgspec.json.decode(body, type=dict[str, object])["status"] == 429


async def test_a_client_does_not_say_how_long_serve_waits(server: Live) -> None:
    for name in ("X-Request-Timeout-Seconds", "x_request_timeout_seconds"):
        headers = {**JSON, name: "0.000001"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.address + "/v1/feed", data=FEED, headers=headers) as got,
        ):
            assert got.status == 200, await got.text()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_is_not_read_beyond_its_limit(server: Live, *, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    data = io.BytesIO(b" " * (4 << 20)) if announced else chunks()
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.address + "/v1/feed", data=data, headers=JSON) as got,
    ):
        assert (got.status, got.content_type) == (413, "application/problem+json")


def test_a_header_that_does_not_come_is_not_waited_for(server: Live) -> None:
    began_s = time.monotonic()
    with socket.create_connection(server.host_and_port, timeout=DEADLINE_S) as slow:
        slow.sendall(b"POST /v1/feed HTTP/1.1\r\nHost: x\r\n")
        answer = slow.recv(100)
        assert time.monotonic() - began_s >= HEADER_TIMEOUT_S - 1
    assert answer.startswith(b"HTTP/1.1 408") or answer == b""


def test_the_switches_are_set_for_ray_and_taken_back() -> None:
    before = dict(os.environ)
    with switched(ServerSettings(port=0)) as server:
        assert server.port != 0
        assert os.environ[LISTEN] == f"127.0.0.1:{server.port}"
        program = Path(os.environ[BINARY])
        assert os.access(program, os.X_OK)
        home = program.parent
        assert home.stat().st_mode & 0o077 == 0
        for switch in ALONE + FAST:
            assert "{" not in os.environ[switch.name]
    assert dict(os.environ) == before
    assert not home.exists()


def test_what_was_set_before_stays_but_haproxy_is_narrowed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "my-haproxy"
    mine.touch(0o700)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "7")
    monkeypatch.setenv(BINARY, str(mine))
    with switched(ServerSettings(port=0)):
        assert os.environ["RAY_SERVE_HAPROXY_NBTHREAD"] == "7"
        program = Path(os.environ[BINARY])
        assert program != mine
        assert str(mine) in program.read_text()


def test_serves_own_proxy_is_served_without_haproxy() -> None:
    with switched(ServerSettings(port=0, edge="proxy")):
        assert BINARY not in os.environ
        assert "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ


def test_serve_takes_the_options() -> None:
    code = (
        "from ray import serve; from serve.config import Config;"
        "from serve.processes.edge import feed_options, learner_options;"
        "d = serve.deployment(**feed_options(Config()))(type('A', (), {}));"
        "serve.deployment(**learner_options())(type('B', (), {}));"
        "print(d.max_queued_requests, d._deployment_config.backpressure_config.status_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4096", "429"]


def test_a_replica_more_is_there_before_one_goes_but_never_a_second_learner() -> None:
    assert feed_options(Config())["max_surge_percent"] == 100
    assert learner_options()["max_surge_percent"] == 0
    assert learner_options()["num_replicas"] == 1
