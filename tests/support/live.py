"""A server as `nextswipe up` runs it, in processes of its own, and what can be asked about them."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from ports import free_port
from waiting import DEADLINE_S, wait_until

POLL_S = 0.2
"""A server is asked so seldom whether it is ready, as it has other work."""
ASK_S = 30.0
"""After which it is asked anew: what took the request may have gone meanwhile."""
RAY_GAVE_UP = "The current node timed out during startup"
LISTENS = "0A"
"""State of a listening socket in /proc/net/tcp."""


@dataclass
class Live:
    """A server that runs."""

    address: str
    process: subprocess.Popen[str]

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return host, int(port)


@contextmanager
def live(folder: Path, *options: str, settings: str = "", program: str = "") -> Iterator[Live]:
    """Run `nextswipe up` on a free port, or a program of Python's; end it if nobody has.

    Args:
        folder: for settings and data.
        options: of the command.
        settings: further lines of the table [server].
        program: Python to run instead of the command; its argument is the settings' file.
    """
    port = free_port()
    file = folder / "settings.toml"
    file.write_text(f'[server]\nport = {port}\n{settings}\n[data]\nfolder = "{folder / "data"}"\n')
    command = [sys.executable, "-m", "serve.commands.main", "up", "--config", str(file)]
    if program:
        command = [sys.executable, "-c", program, str(file)]
    server = start([*command, *options], f"http://127.0.0.1:{port}")
    try:
        yield server
    finally:
        end(server.process)


def start(command: list[str], address: str) -> Live:
    """Return a server that a command has started, once it is ready.

    Ray's node has 30 s to start, which is no setting; a busy machine that takes longer tries again.
    """
    end_s = time.monotonic() + DEADLINE_S
    while True:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_until(partial(is_over_or_ready, process, address), pause_s=POLL_S)
        except BaseException:
            end(process)
            raise
        if process.poll() is None:
            return Live(address, process)
        output, _ = process.communicate()
        if RAY_GAVE_UP not in output or time.monotonic() > end_s:
            pytest.fail(f"the server ended with {process.returncode}:\n{output}")


def is_over_or_ready(process: subprocess.Popen[str], address: str) -> bool:
    return process.poll() is not None or is_ready(address)


def end(process: subprocess.Popen[str]) -> None:
    """End a server, by force where it does not end by itself."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.communicate()


def is_ready(address: str) -> bool:
    try:
        return bool(json.loads(get(address + "/readyz", timeout_s=ASK_S))["ready"])
    except OSError:
        return False


def get(address: str, *, timeout_s: float = DEADLINE_S) -> bytes:
    with urllib.request.urlopen(address, timeout=timeout_s) as response:
        body: bytes = response.read()
        return body


def listeners_of(pids: set[int]) -> list[tuple[str, int, str]]:
    """Return address, port and process name of each socket on which they listen."""
    owners: dict[str, str] = {}
    for pid in pids:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        owners |= {link: name for link in links if link.startswith("socket:[")}
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            owner = owners.get(f"socket:[{fields[9]}]")
            if fields[3] == LISTENS and owner is not None:
                host, _, port = fields[1].partition(":")
                found.append((_readable(host), int(port, 16), owner))
    return sorted(found)


def _readable(host: str) -> str:
    """Return an address of /proc/net/tcp, whose words are in the machine's byte order."""
    words = [bytes.fromhex(host[k : k + 8])[::-1] for k in range(0, len(host), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    return socket.inet_ntop(socket.AF_INET6, raw).removeprefix("::ffff:")
