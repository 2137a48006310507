"""Two servers on one data folder, in every order of start, kill and stop, with and without Ray.

Each case ends with one server that lives. It must learn: what is swiped there ends up in a new
version. Meanwhile `/readyz` is asked all the time. It lies if it says ready though no learner has
spoken for longer than `SILENT_S` and some slack, or never says it again. The lock of the folder
keeps the second server away; `met` servers are started without it, as on a disk that two machines
share without locks.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from env.world import generated
from serve.bench.edges import family
from serve.clock import now_ms
from serve.config import Config, DataSettings
from serve.jobs.import_data import import_items
from serve.monitoring.heartbeats import Heartbeats, LearnerHeartbeat
from serve.monitoring.status import SILENT_S
from serve.store.generations import current_version
from serve.store.open import open_store

DEADLINE_S = 300.0
POLL_S = 0.1
N_ITEMS = 300
SAID = 2_000
"""Characters of a server's output that an error shows."""
SLACK_S = 5.0
"""Seconds that a busy machine may take to notice, on top of `SILENT_S`."""

MET = """
import signal, sys
from pathlib import Path
from serve.config import load
from serve.processes.start import serving

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stop)
try:
    with serving(load(Path(sys.argv[1])), with_ray=sys.argv[2] == "--ray"):
        signal.signal(signal.SIGTERM, stop)
        while True:
            signal.pause()
except KeyboardInterrupt:
    pass
"""
"""Serves without the lock of the folder."""


class CaseResult(msgspec.Struct, frozen=True):
    """The result of one case."""

    case: str
    ray: bool
    learns: bool  # the survivor turned what was swiped at the end into a version
    lies: int  # answers of /readyz that were not true
    took_s: float


class TwoServersResult(msgspec.Struct, frozen=True):
    """All cases."""

    learns: int
    of: int
    lies: int
    cases: tuple[CaseResult, ...]


@dataclass
class Server:
    """A server that was started; it may have ended."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Kill it and what it started, as a machine that loses its power does."""
        if self.process.poll() is None:
            for pid in family(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        self.process.wait(DEADLINE_S)


@dataclass
class Stage:
    """A data folder with a catalogue, and the servers on it."""

    folder: Path
    ray: bool
    servers: list[Server] = field(default_factory=list)
    lies: int = 0

    @property
    def config(self) -> Config:
        return Config(data=DataSettings(str(self.folder / "data")))

    def start(self, *, met: bool = False) -> Server:
        """Start a server without waiting."""
        port = _free_port()
        file = self.folder / f"{port}.toml"
        file.write_text(
            f"[server]\nport = {port}\ndrain_s = 0.5\n"
            f'[data]\nfolder = "{self.config.data.folder}"\n'
            "[join]\nsettle_ms = 100\n[learner]\nbits = 12\n"
        )
        mode = "--ray" if self.ray else "--no-ray"
        up = ["-m", "serve.commands.main", "up", "--no-swarm", mode, "--config", str(file)]
        command = [sys.executable, *(["-c", MET, str(file), mode] if met else up)]
        file = self.folder / f"{port}.log"
        with file.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.servers.append(Server(port, process, file))
        return self.servers[-1]

    def up(self, *, met: bool = False) -> Server:
        """Start a server and wait until it is ready and learns."""
        server = self.start(met=met)
        epoch = self.beat()[0]
        _wait(lambda: _readiness(server) == "learning" and self.beat()[0] > epoch, server)
        return server

    def beat(self) -> tuple[int, float]:
        """Return epoch and age in seconds of the newest learner's heartbeat."""
        beats = Heartbeats(Path(self.config.data.folder)).read().values()
        learners = [beat for beat in beats if isinstance(beat, LearnerHeartbeat)]
        newest = max(learners, key=lambda beat: beat.epoch, default=None)
        if newest is None:
            return 0, float("inf")
        age_s = (now_ms() - newest.at_ms) / 1000
        return newest.epoch, float("inf") if newest.state == "stopped" else age_s

    def watch(self, server: Server, stop: threading.Event) -> None:
        """Count the answers that are not true."""
        while not stop.wait(POLL_S):
            silent_s = self.beat()[1]
            if _readiness(server) == "learning" and SILENT_S + SLACK_S < silent_s < float("inf"):
                self.lies += 1

    def learns(self, server: Server) -> bool:
        """Swipe until a new version is there; return whether one came, and /readyz says so."""
        with open_store(self.config, now_ms) as store:
            before = current_version(store)
            end_s = time.monotonic() + DEADLINE_S
            while current_version(store) == before:
                if time.monotonic() > end_s:
                    return False
                with suppress(OSError):
                    _swipe(server)
                time.sleep(POLL_S)
        _wait(lambda: _readiness(server) == "learning", server)
        return True


Case = Callable[[Stage], Server]
"""Plays one order of start, kill and stop, and returns the server that lives."""


def refused(stage: Stage) -> Server:
    """The second is refused."""
    first, second = stage.up(), stage.start()
    if second.process.wait(DEADLINE_S) != 2:
        raise RuntimeError("expected the second server to be refused")
    return first


def killed_then_next(stage: Stage) -> Server:
    """The first is killed, and another is started."""
    stage.up().kill()
    return stage.up()


def stopped_then_next(stage: Stage) -> Server:
    """The first is stopped, and another is started."""
    stage.up().stop()
    return stage.up()


def both_at_once(stage: Stage) -> Server:
    """Two are started at once: one of them serves."""
    both = stage.start(), stage.start()
    _wait(lambda: sum(each.process.poll() is not None for each in both) == 1)
    (alive,) = (each for each in both if each.process.poll() is None)
    _wait(lambda: _readiness(alive) == "learning", alive)
    return alive


def learner_killed(stage: Stage) -> Server:
    """Only the learner of a server is killed."""
    server = stage.up()
    epoch = stage.beat()[0]
    os.kill(_learner_of(server), signal.SIGKILL)
    _wait(lambda: stage.beat()[0] > epoch)
    return server


def met(stage: Stage, *, ends: int, how: str) -> Server:
    """Two learners have met, and one of the servers ends."""
    servers = [stage.up(met=True), stage.up(met=True)]
    ending, alive = servers[ends], servers[1 - ends]
    stop = threading.Event()
    watching = threading.Thread(target=stage.watch, args=(alive, stop))
    watching.start()
    epoch = stage.beat()[0]
    getattr(ending, how)()
    if ends == 1:
        _wait(lambda: stage.beat()[0] > epoch, alive)
    stop.set()
    watching.join()
    return alive


def met_again(stage: Stage) -> Server:
    """The newer of two dies and comes back, then the older one dies."""
    first, second = stage.up(met=True), stage.up(met=True)
    second.kill()
    third = stage.up(met=True)
    first.kill()
    return third


CASES: dict[str, Case] = {
    "second is refused": refused,
    "killed, then another": killed_then_next,
    "stopped, then another": stopped_then_next,
    "both at once": both_at_once,
    "learner killed": learner_killed,
    "met, older killed": partial(met, ends=0, how="kill"),
    "met, newer killed": partial(met, ends=1, how="kill"),
    "met, older stopped": partial(met, ends=0, how="stop"),
    "met, newer stopped": partial(met, ends=1, how="stop"),
    "met, newer killed and back, older killed": met_again,
}


def run_two_servers(
    cases: dict[str, Case], modes: tuple[bool, ...], advance: Callable[[int], None]
) -> TwoServersResult:
    """Play cases in modes (with Ray or not), and judge them."""
    results = []
    for ray in modes:
        for name, case in cases.items():
            results.append(_play(name, case, ray))
            advance(1)
    return TwoServersResult(
        learns=sum(result.learns for result in results),
        of=len(results),
        lies=sum(result.lies for result in results),
        cases=tuple(results),
    )


def _play(name: str, case: Case, ray: bool) -> CaseResult:
    began_s = time.monotonic()
    with _staged(ray) as stage:
        alive = case(stage)
        learns = stage.learns(alive)
        return CaseResult(name, ray, learns, stage.lies, round(time.monotonic() - began_s, 1))


@contextmanager
def _staged(ray: bool) -> Iterator[Stage]:
    with TemporaryDirectory(prefix="two-servers-") as folder:
        stage = Stage(Path(folder), ray)
        began_ms = now_ms()
        import_items(stage.config, generated.catalogue(1, N_ITEMS, began_ms), began_ms)
        try:
            yield stage
        finally:
            for server in stage.servers:
                server.kill()


def _learner_of(server: Server) -> int:
    """Return the process of a server's learner: of those that it may be, the nicest."""
    found = []
    for pid in family(server.process.pid):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"Learner" in command or b"spawn_main" in command:
                found.append((os.getpriority(os.PRIO_PROCESS, pid), pid))
    return max(found)[1]


def _readiness(server: Server) -> str:
    """Return the learner's state as a ready server tells it; empty: it is not ready."""
    try:
        with urllib.request.urlopen(f"{server.address}/readyz", timeout=POLL_S * 50) as answer:
            return str(json.load(answer)["learner"]["state"])
    except (OSError, ValueError):
        return ""


def _swipe(server: Server) -> None:
    """See a card and leave."""
    user = f"u{time.monotonic_ns()}"
    page = _post(f"{server.address}/v1/feed", {"user_id": user, "size": 1})
    card = page["items"][0]["decision_id"]
    told: list[tuple[str, dict[str, float]]] = [
        ("impression", {}),
        ("dwell", {"value": 9.0}),
        ("leave", {}),
    ]
    events = [
        {"event_id": kind, "decision_id": card, "kind": kind, "at_ms": now_ms(), **more}
        for kind, more in told
    ]
    _post(f"{server.address}/v1/feedback", {"events": events})


def _post(url: str, body: object) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, list[dict[str, str]]] = json.load(response)
        return answer


def _wait(holds: Callable[[], bool], server: Server | None = None) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        if server is not None and server.process.poll() is not None:
            said = server.log.read_text(errors="replace")[-SAID:]
            raise RuntimeError(f"a server ended with {server.process.returncode}: {said}")
        if time.monotonic() > end_s:
            raise RuntimeError(f"expected it within {DEADLINE_S:g} s")
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
