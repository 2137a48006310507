"""What Serve writes for HAProxy, narrowed: with Serve's own template and the real program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import DEADLINE_S, wait_until

from serve.processes.haproxy import LISTEN, end_leftovers, find_binary, install, narrow

TEMPLATE = """
import os, sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
home = sys.argv[1]
config = HAProxyConfig(
    http_options=HTTPOptions(host="127.0.0.1", port=8000),
    is_head=True,
    socket_path=home + "/admin.sock",
    server_state_base=home,
    server_state_file=home + "/state",
    metrics_socket_path=home + "/metrics.sock",
    timeout_server_s=60,
)
replica = ServerConfig("replica", "127.0.0.1", 30000)
backend = BackendConfig("feed", "/", app_name="nextswipe", servers=[replica])
HAProxyApi(config, {"feed": backend}, home + "/haproxy.cfg")._generate_config_file_internal()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what the installed Serve writes."""
    home = tmp_path_factory.mktemp("template")
    command = [sys.executable, "-W", "ignore", "-c", TEMPLATE, str(home)]
    subprocess.run(command, check=True, capture_output=True)
    return (home / "haproxy.cfg").read_text()


def binds(config: str) -> list[str]:
    return [line.strip() for line in config.splitlines() if line.split()[:1] == ["bind"]]


def test_serve_would_listen_on_every_interface(written: str) -> None:
    """Else there were nothing left to narrow."""
    assert binds(written) == ["bind :9101", "bind 127.0.0.1:8000", "bind *:8404"]


def test_one_listener_is_left_and_it_is_ours(written: str) -> None:
    narrowed = narrow(written, "192.0.2.1:80", Path("/home"))
    assert binds(narrowed) == ["bind 192.0.2.1:80"]
    assert not [line for line in narrowed.splitlines() if line.split()[:1] == ["log"]]
    assert "errorfile 503 /home/503.http" in narrowed


def test_the_program_becomes_haproxy_with_what_it_has_narrowed(
    written: str, tmp_path: Path
) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(written)
    program = install(tmp_path, find_binary())
    done = subprocess.run(
        [str(program), "-c", "-f", str(config)],
        env={**os.environ, LISTEN: "127.0.0.1:8000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Configuration file is valid" in done.stdout
    assert binds(config.read_text()) == ["bind 127.0.0.1:8000"]
    assert f"return status 503 errorfile {tmp_path / 'starting.http'}" in config.read_text()
    for status in ("502", "503", "504", "starting"):
        head, _, body = (tmp_path / f"{status}.http").read_bytes().partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("global\nfrontend other\n  bind *:80\n", "expected one section 'frontend http_frontend'"),
        (
            "frontend http_frontend\n  bind *:80\nfrontend new\n  bind *:81\n",
            "expected no listener in 'frontend new'",
        ),
    ],
)
def test_a_template_that_is_not_known_is_refused(config: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        narrow(config, "127.0.0.1:80", Path("/home"))


CONFIG = """
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
frontend nobody
    bind unix@{socket}
"""


def test_what_a_reload_has_left_in_a_folder_is_ended_and_no_other(tmp_path: Path) -> None:
    started = {}
    for name in ("ours", "other"):
        home = tmp_path / name
        home.mkdir()
        (home / "haproxy.cfg").write_text(CONFIG.format(socket=home / "s"))
        command = [find_binary(), "-db", "-f", str(home / "haproxy.cfg")]
        started[name] = subprocess.Popen(command)
    try:
        wait_until(lambda: all((tmp_path / name / "s").exists() for name in started))
        end_leftovers(tmp_path / "ours")
        assert started["ours"].wait(DEADLINE_S) != 0
        assert started["other"].poll() is None
    finally:
        for process in started.values():
            process.kill()
            process.wait()
