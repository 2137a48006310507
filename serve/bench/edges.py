"""Servers for benchmarks: each runs `nextswipe up` in its own processes over a copy of one folder.

The data is the same for all of them, so a difference is due to the edge alone.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from env.world import generated
from serve.config import Config, ContentSettings, DataSettings, parse
from serve.jobs.import_data import import_items, import_users
from serve.processes.edge import LOOPBACK, free_port

PROC = Path("/proc")


def family(pid: int) -> set[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit() and (parent := _parent(path)) is not None:
            children.setdefault(parent, []).append(int(path.name))
    found, new = {pid}, [pid]
    while new:
        new = [child for one in new for child in children.get(one, [])]
        found.update(new)
    return found


def memory_bytes(pids: set[int]) -> int:
    """Return the proportional set size of processes; an ended one counts 0.

    Raises:
        PermissionError: a process belongs to another system user.
    """
    return sum(map(_memory, pids))


def _parent(path: Path) -> int | None:
    try:
        stat = (path / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _memory(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


Edge = Literal["haproxy", "proxy", "bare"]
START_S = 180.0
STOP_S = 90.0
POLL_S = 0.2
SAID = 2_000


class ServerProcess:
    """A running server."""

    def __init__(
        self, address: str, config: Config, log: Path, process: subprocess.Popen[bytes]
    ) -> None:
        self.address = address
        self.config = config
        self._log = log
        self._process = process

    def memory_bytes(self) -> int:
        """Return the memory of all its processes."""
        return memory_bytes(family(self._process.pid))

    def is_ready(self) -> bool:
        """Return whether the server answers pages.

        Raises:
            RuntimeError: the server has ended.
        """
        if self._process.poll() is not None:
            said = self._log.read_text(errors="replace")[-SAID:]
            raise RuntimeError(
                f"expected a server, it ended with {self._process.returncode}: {said}"
            )
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5) as answer:  # noqa: S310
                return bool(json.load(answer)["ready"])
        except (urllib.error.URLError, OSError):
            return False


def fill_generated(
    folder: Path, *, items: int, users: int, seed: int, now_ms: int
) -> tuple[str, ...]:
    """Generate a catalogue and registered users in a data folder; return the users' ids."""
    config = Config(data=DataSettings(str(folder)), content=ContentSettings(titles=False))
    crowd = generated.users(seed, users, now_ms)
    import_items(config, generated.catalogue(seed, items, now_ms), now_ms)
    import_users(config, crowd, now_ms)
    return tuple(user_id for user_id, _ in crowd)


@contextmanager
def running(edge: Edge, filled: Path, home: Path, *, more: str = "") -> Iterator[ServerProcess]:
    """Run a server over a copy of a data folder.

    Args:
        filled: the folder to copy.
        home: folder for the copy and the settings.
        more: further settings as TOML.
    """
    shutil.copytree(filled, home / "data")
    port = free_port(LOOPBACK)
    front = "haproxy" if edge == "bare" else edge
    settings = (
        f'[server]\nport = {port}\nedge = "{front}"\n'
        "[content]\ntitles = false\n"  # whatever extras are installed
        f"[data]\nfolder = {json.dumps(str(home / 'data'))}\n{more}"
    )
    file, log = home / "settings.toml", home / "up.log"
    file.write_text(settings)
    command = [sys.executable, "-m", "serve.commands.main", "up", "--no-swarm"]
    command += ["--config", str(file), *(["--no-ray"] if edge == "bare" else [])]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
    server = ServerProcess(f"http://{LOOPBACK}:{port}", parse(settings), log, process)
    try:
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        process.wait(STOP_S)


def _wait_for(server: ServerProcess) -> None:
    end_s = time.monotonic() + START_S
    while not server.is_ready():
        if time.monotonic() > end_s:
            raise RuntimeError(f"expected a server within {START_S:g} s")
        time.sleep(POLL_S)
