"""The same server without Ray: plain uvicorn and the learner, a process each."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from live import Live, get, is_ready, listeners_of, live
from waiting import DEADLINE_S, wait_until

from serve.bench.edges import family
from serve.processes.edge import LEARNER_NICENESS

LEAST_PRIORITY = 19
"""There is no niceness above."""


def test_the_same_app_is_served_and_learned_from_without_ray(tmp_path: Path) -> None:
    with live(tmp_path, "--no-ray", "--swarm", settings="replicas = 2") as server:
        processes = family(server.process.pid)
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
        assert not [command for command in commands if b"ray" in command.split(b"\0")[0]]
        assert [at for _, at, _ in listeners_of(processes)] == [server.host_and_port[1]]
        assert b"<html" in get(server.address + "/")
        wait_until(lambda: version_of(server) > 0)
        server.process.send_signal(signal.SIGINT)
        output, _ = server.process.communicate(timeout=DEADLINE_S)
        assert server.process.returncode == 0, output
        assert "Traceback" not in output
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_a_learner_that_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    with live(tmp_path, "--no-ray", "--no-swarm") as server:
        (learner,) = learners_of(server)
        wanted = min(niceness_of(server.process.pid) + LEARNER_NICENESS, LEAST_PRIORITY)
        wait_until(lambda: niceness_of(learner) == wanted)
        os.kill(learner, signal.SIGKILL)
        wait_until(lambda: learners_of(server) not in ([learner], []))
        wait_until(lambda: is_ready(server.address))
        server.process.send_signal(signal.SIGINT)
        output, _ = server.process.communicate(timeout=DEADLINE_S)
        assert server.process.returncode == 0, output
        assert "the learner ended with -9 and is started again" in output


def test_a_feed_process_that_dies_takes_the_server_down_and_is_named(tmp_path: Path) -> None:
    with live(tmp_path, "--no-ray", "--no-swarm") as server:
        listening = {pid for pid in family(server.process.pid) if listeners_of({pid})}
        (feed,) = listening - {server.process.pid}
        os.kill(feed, signal.SIGKILL)
        output, _ = server.process.communicate(timeout=DEADLINE_S)
        assert server.process.returncode != 0
        assert "'feed 0'" in output


def test_serving_without_ray_imports_none_of_it() -> None:
    modules = "serve.processes.uvicorn_app, serve.processes.start"
    code = f"import sys, {modules}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def learners_of(server: Live) -> list[int]:
    """Return the processes that the server started for its work and that listen to nobody."""
    spawned = [
        pid
        for pid in family(server.process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return [pid for pid in spawned if not listeners_of({pid})]


def niceness_of(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def version_of(server: Live) -> int:
    body = json.dumps({"user_id": "me", "size": 1}).encode()
    request = urllib.request.Request(server.address + "/v1/feed", data=body)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        page = json.load(response)
    return int(page["items"][0]["policy"].partition("@")[2])
