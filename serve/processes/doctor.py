"""Checks of a machine: each returns a `CheckResult` about one thing that the server needs.

The checks change nothing, except for a file that is written into the data folder and removed, and a
key on a Redis. A process that imports the modules of a replica measures the replica's import time
and memory.
"""

import errno
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

import msgspec
from packaging.requirements import Requirement

from serve.config import Config, ServerSettings
from serve.errors import JobError
from serve.processes.edge import authority
from serve.processes.haproxy import LISTEN, find_binary, install
from serve.processes.starting import REASON
from serve.store.kind import SLOW_S, WRITE_BYTES, Verdict, median_s
from serve.store.open import find_kind


class CheckResult(msgspec.Struct, frozen=True):
    """The result of one check: "well", "look" (works, but could work better) or "wrong"."""

    check: str
    verdict: Verdict
    says: str  # the observation, and the remedy where the verdict is not "well"


LEAST_FREE_BYTES = 1 << 30


LEAST_TO_START_BYTES = 64 << 20
"""Free bytes without which no server starts."""


def look_at_disk(config: Config) -> tuple[CheckResult, float]:
    """Check the data folder, or its nearest existing parent; also return the fsync's seconds."""
    folder = Path(config.data.folder).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        return CheckResult("disk", "wrong", _expected_folder(there)), 0.0
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            fsync_s = median_s(lambda: _append(file.fileno()))
    except OSError as error:
        return CheckResult("disk", "wrong", _unwritable(there, error)), 0.0
    free = shutil.disk_usage(there).free
    said = f"{there}: {free / 2**30:.1f} GB free, fsync {1e3 * fsync_s:.1f} ms"
    is_shared = find_kind(config.store).is_shared
    if free < LEAST_FREE_BYTES:
        grows = "snapshots come to it" if is_shared else "the log only grows"
        verdict: Verdict = "wrong" if free < LEAST_TO_START_BYTES else "look"
        return CheckResult("disk", verdict, f"{said}: less than 1 GB, and {grows}"), fsync_s
    if fsync_s > SLOW_S and not is_shared:
        return CheckResult("disk", "look", f"{said}: each feedback waits for one"), fsync_s
    return CheckResult("disk", "well", said), fsync_s


def _expected_folder(file: Path) -> str:
    return f"expected a folder, got the file {file}: name another data folder (--data)"


def _unwritable(folder: Path, error: OSError) -> str:
    return (
        f"expected to write into {folder}, got: {error.strerror}; "
        "chown it, or name another data folder (--data)"
    )


def look_at_store(config: Config) -> CheckResult:
    """Ask the store how it is, without making one; a file is the disk's check."""
    try:
        kind = find_kind(config.store)
        if kind.check is None:
            return CheckResult("store", "well", f"{kind.name}, in {kind.describe(config)}")
        health = kind.check(config)
    except ValueError as error:
        return CheckResult("store", "wrong", str(error))
    return CheckResult("store", health.verdict, health.says)


def _append(fd: int) -> None:
    os.write(fd, bytes(WRITE_BYTES))
    os.fsync(fd)


ASK_S = 1.0
"""Seconds within which a nextswipe that has the port says so."""

LEAST_MEMORY_BYTES = 1_500 << 20
TIMEOUT_S = 60.0

_REPLICA = """
import json, os, time
began_s = time.perf_counter()
import serve.processes.ray_app
import_s = time.perf_counter() - began_s
import sys
from serve.bench.edges import memory_bytes
heavy = sorted({"torch", "ray.rllib", "matplotlib", "pandas"} & sys.modules.keys())
print(json.dumps([import_s, memory_bytes({os.getpid()}), heavy]))
"""

_FRONT_DOOR = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend http_frontend
    bind *:8000
"""


class Diagnosis(msgspec.Struct, frozen=True):
    """The findings of all checks, and three measurements."""

    findings: tuple[CheckResult, ...]
    replica_import_s: float  # time to import a feed replica's modules
    replica_mb: float  # memory of a process with these modules, without data
    fsync_ms: float  # median for a small file in the data folder

    @property
    def is_well(self) -> bool:
        """Whether no finding is "wrong"."""
        return all(finding.verdict != "wrong" for finding in self.findings)


def examine(config: Config) -> Diagnosis:
    """Check this machine for a server with these settings."""
    replica, import_s, size_bytes = _weigh_replica()
    disk, fsync_s = look_at_disk(config)
    findings = [check(config) for check in _CHECKS]
    return Diagnosis(
        findings=(*findings, disk, replica),
        replica_import_s=round(import_s, 3),
        replica_mb=round(size_bytes / 2**20, 1),
        fsync_ms=round(1e3 * fsync_s, 3),
    )


def require_startable(config: Config, *, with_ray: bool) -> None:
    """Refuse to start a server that would fail later.

    Args:
        config: the settings.
        with_ray: whether Ray Serve and its HAProxy are to run.

    Raises:
        JobError: the port, the folder, the store, the disk or a version is wrong; says all.
    """
    disk, _ = look_at_disk(config)
    checks = [_python, _packages, look_at_store, *([_haproxy] if with_ray else [])]
    wrong = [each.says for each in (check(config) for check in checks) if each.verdict == "wrong"]
    if disk.verdict == "wrong":
        wrong.insert(0, disk.says)
    key = Path(config.data.folder) / "secret.key"
    if key.exists() and not os.access(key, os.R_OK):
        wrong.insert(0, _unreadable(key))
    if config.server.port and (obstacle := _find_port_obstacle(config.server)):
        wrong.insert(0, obstacle)
    if wrong:
        raise JobError("; ".join(wrong))


def _python(config: Config) -> CheckResult:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return CheckResult(
            "python", "wrong", f"{found}: Vowpal Wabbit has wheels for 3.11 and 3.12"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return CheckResult("python", "look", f"{found}: tested on Linux x86_64")
    return CheckResult("python", "well", found)


def _packages(config: Config) -> CheckResult:
    try:
        asked = importlib.metadata.requires("nextswipe") or []
    except importlib.metadata.PackageNotFoundError:
        return CheckResult("packages", "wrong", "nextswipe is not installed: pip install it")
    needed = [each for each in map(Requirement, asked) if each.marker is None]
    misfits = [said for each in needed if (said := _misfit(each))]
    if misfits:
        return CheckResult(
            "packages", "wrong", f"{'; '.join(misfits)}: install constraints.txt again"
        )
    return CheckResult(
        "packages", "well", f"{len(needed)} packages as asked for, Ray {_ray_version()}"
    )


def _misfit(needed: Requirement) -> str:
    try:
        version = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{needed.name} is missing"
    is_fit = needed.specifier.contains(version, prereleases=True)
    return "" if is_fit else f"{needed.name} {version} is not {needed.specifier}"


def _ray_version() -> str:
    return importlib.metadata.version("ray")


def _haproxy(config: Config) -> CheckResult:
    """Start HAProxy through the program that `serve.processes.haproxy` writes for Serve."""
    if config.server.edge != "haproxy":
        return CheckResult(
            "haproxy", "look", f'edge = "{config.server.edge}": pages a fifth as fast'
        )
    try:
        binary = find_binary()
    except FileNotFoundError as error:
        return CheckResult("haproxy", "wrong", str(error))
    try:
        told = _run([binary, "-v"])
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            settings = Path(folder) / "haproxy.cfg"
            settings.write_text(_FRONT_DOOR)
            program = str(install(Path(folder), binary))
            checked = _run([program, "-c", "-f", str(settings)], {LISTEN: "127.0.0.1:8000"})
    except (OSError, subprocess.TimeoutExpired) as error:
        return CheckResult("haproxy", "wrong", f"{binary} does not start: {error}")
    for done in (told, checked):
        if done.returncode:
            return CheckResult(
                "haproxy", "wrong", f"{binary} does not start: {done.stderr.strip()}"
            )
    return CheckResult("haproxy", "well", told.stdout.partition("\n")[0].strip())


def _port(config: Config) -> CheckResult:
    """Bind the server's port for a moment; if that fails, find out which program has it."""
    server = config.server
    address = authority(server)
    if server.port == 0:
        return CheckResult("port", "well", "0: a free one will be taken")
    obstacle = _find_port_obstacle(server)
    if obstacle:
        is_ours = _is_nextswipe(address)
        return CheckResult("port", "look" if is_ours else "wrong", obstacle)
    beyond = server.host not in ("127.0.0.1", "::1", "localhost")
    if beyond:
        return CheckResult(
            "port",
            "look",
            f"{address} is free, and others reach it: the API asks nobody who they are",
        )
    return CheckResult("port", "well", f"{address} is free, on loopback")


def _find_port_obstacle(server: ServerSettings) -> str:
    """Return why the server cannot listen at its address, and the remedy; empty if it can."""
    address = authority(server)
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        socket.create_server((server.host, server.port), family=family).close()
    except PermissionError:
        return f"expected a port of 1024 or more, got {address}: those below are root's (--port)"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            who = "a nextswipe that runs" if _is_nextswipe(address) else "another program"
            return f"expected a free port, got {address}, which {who} has: take another (--port)"
        if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
            return f"expected an address of this machine, got {server.host}: change --host"
        reason = os.strerror(error.errno or 0)
        return f"expected to listen at {address}, got: {reason}; change --host or --port"
    return ""


def _is_nextswipe(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=ASK_S) as answer:
            return "ready" in json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return REASON.encode() in error.read()
    except (OSError, ValueError, HTTPException):
        return False


def _secret(config: Config) -> CheckResult:
    key = Path(config.data.folder) / "secret.key"
    if not key.exists():
        return CheckResult("secret", "well", f"{key} will be made at the start")
    if not os.access(key, os.R_OK):
        return CheckResult("secret", "wrong", _unreadable(key))
    if key.stat().st_mode & 0o077:
        return CheckResult("secret", "wrong", f"{key} can be read by others: chmod 600 it")
    return CheckResult("secret", "well", f"{key} is this user's alone")


def _unreadable(key: Path) -> str:
    return f"expected to read {key}, got: it is another user's; chown it"


def _memory(config: Config) -> CheckResult:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    said = f"{free / 2**30:.1f} GB available"
    if free < LEAST_MEMORY_BYTES:
        return CheckResult("memory", "wrong", f"{said}: the server takes 1.3; try `up --no-ray`")
    return CheckResult("memory", "well", said)


def _weigh_replica() -> tuple[CheckResult, float, int]:
    """Import a replica's modules in a new process; also return the time and the size in bytes."""
    command = [sys.executable, "-W", "ignore", "-c", _REPLICA]
    try:
        done = _run(command)
    except subprocess.TimeoutExpired:
        return (
            CheckResult("replica", "wrong", f"imports take more than {TIMEOUT_S:g} s"),
            TIMEOUT_S,
            0,
        )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return CheckResult("replica", "wrong", f"cannot be imported: {last}"), 0.0, 0
    import_s, size_bytes, heavy = json.loads(done.stdout)
    said = f"imports in {import_s:.1f} s, {size_bytes / 2**20:.0f} MB without data"
    if heavy:
        said += f", {', '.join(heavy)} among it: Serve imports what it finds; serve without extras"
        return CheckResult("replica", "look", said), import_s, size_bytes
    return CheckResult("replica", "well", said), import_s, size_bytes


def _run(
    command: list[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - commands of this project and its dependencies
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **(variables or {})},
    )


_CHECKS: tuple[Callable[[Config], CheckResult], ...] = (
    _python,
    _packages,
    _haproxy,
    _port,
    _secret,
    _memory,
    look_at_store,
)
