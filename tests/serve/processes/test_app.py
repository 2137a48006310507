"""The whole server as `nextswipe up` runs it: Ray Serve, over a real socket, until Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import POLL_S
from redises import new_name, shared_url
from waiting import DEADLINE_S, wait_until


@contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `nextswipe up` on a free port; it is stopped by its own Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "settings.toml"
    settings.write_text(
        f'[server]\nport = {port}\n[data]\nfolder = "{folder / "data"}"\n'
        f'[store]\nname = "{new_name()}"\n'
    )
    command = [sys.executable, "-m", "serve.commands.main", "up", "--config", str(settings)]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(address, process), pause_s=POLL_S)
        yield address, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_newcomer_is_served_heard_and_learned_from_and_ctrl_c_leaves_nothing(
    tmp_path: Path, store: str
) -> None:
    chosen = ("--store", shared_url()) if store == "redis" else ()
    with server(tmp_path, "--swarm", *chosen) as (address, process):
        assert b"<html" in get(address + "/")
        page = post(address + "/v1/feed", {"user_id": "me", "size": 5})
        assert len(page["items"]) == 5
        told = post(address + "/v1/feedback", {"events": liked(page["items"][0]["decision_id"])})
        assert told == {"accepted": 3, "duplicates": 0, "refused": []}
        wait_until(lambda: version_of(address) > 0)
        raylets = children_of(process.pid)
        assert raylets
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, output
        assert "Traceback" not in output
        wait_until(lambda: not any(is_alive(pid) for pid in raylets))


def liked(decision_id: str) -> list[dict[str, object]]:
    said: list[tuple[str, dict[str, object]]] = [
        ("impression", {}),
        ("dwell", {"value": 20.0}),
        ("like", {}),
    ]
    return [
        {"event_id": kind, "decision_id": decision_id, "kind": kind, "at_ms": 1, **more}
        for kind, more in said
    ]


def version_of(address: str) -> int:
    page = post(address + "/v1/feed", {"user_id": "me", "size": 1})
    name, _, version = page["items"][0]["policy"].partition("@")
    assert name == "vowpal"
    return int(version)


def is_ready(address: str, process: subprocess.Popen[str]) -> bool:
    if process.poll() is not None:
        output, _ = process.communicate()
        pytest.fail(f"the server ended with {process.returncode}:\n{output}")
    try:
        return bool(json.loads(get(address + "/readyz"))["ready"])
    except OSError:
        return False


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=DEADLINE_S) as response:
        body: bytes = response.read()
        return body


def post(address: str, body: object) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        answer: dict[str, list[dict[str, str]]] = json.load(response)
        return answer


def children_of(pid: int) -> set[int]:
    """Return all processes that descend from this one."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(path.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
