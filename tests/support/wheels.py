"""Builds the wheel, installs it into an empty environment and lets it serve: `make wheel`.

It prints the size of the wheel, checks that it holds neither tests nor studies, installs it with
the exact versions of constraints.txt and without extras, starts `nextswipe up --no-ray` on a free
port, and asks for one page. With `--built-only` it stops before the environment is made.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"env", "nextswipe.py", "policies", "replay", "serve"}
START_S = 120.0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def build(source: Path, folder: Path) -> Path:
    """Return the wheel of this checkout, built by the back end that pyproject.toml names."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    words = [*pip, "--no-deps", "--wheel-dir", str(folder), str(source)]
    built = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(built.stderr)
    built.check_returncode()
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> list[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def strangers(names: list[str]) -> list[str]:
    """Return the files that are not of the product: tests, studies and their peers."""
    return [
        name
        for name in names
        if (name.partition("/")[0] not in PACKAGES and ".dist-info/" not in name)
        or any(word in name for word in ("/studies/", "/peers/", "/test_"))
    ]


def report(wheel: Path, names: list[str]) -> None:
    """Print the size of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    python = sum(name.endswith(".py") for name in names)
    _say(f"{wheel.name}: {wheel.stat().st_size / 1e3:,.0f} kB packed, {unpacked / 1e3:,.0f} kB")
    _say(f"{len(names)} files, {python} of them Python")


def install(wheel: Path, folder: Path) -> Path:
    """Return the command `nextswipe` of a new environment that holds this wheel only."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
    pins = str(ROOT / "constraints.txt")
    subprocess.run([*pip, "install", "--quiet", "--constraint", pins, str(wheel)], check=True)
    return folder / "bin" / "nextswipe"


def serve(command: Path, folder: Path) -> None:
    """Start the server in an empty folder, ask it for one page and stop it."""
    port = free_port()
    settings = folder / "port.toml"
    settings.write_text(f"[server]\nport = {port}\n")
    words = [str(command), "up", "--no-ray", "--config", str(settings), "--data", "data"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, env=clean)
        try:
            page = _first_page(f"http://127.0.0.1:{port}/v1/feed", server)
        except BaseException:
            _say((folder / "log").read_text(errors="replace")[-4_000:])
            raise
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    _say(f"served a page of {len(page)} cards; the first has propensity {page[0]['propensity']}")


def _first_page(url: str, server: "subprocess.Popen[bytes]") -> list[dict[str, object]]:
    deadline = time.monotonic() + START_S
    request = urllib.request.Request(url, b'{"user_id": "me"}')
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                items: list[dict[str, object]] = json.load(answer)["items"]
            if items:
                return items
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"no page from {url} within {START_S:g} s; exit code {server.poll()}")


def main() -> None:
    """Build, check, install and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT, help="checkout to build")
    parser.add_argument("--built-only", action="store_true", help="build and list, no environment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nextswipe-wheel-") as place:
        folder = Path(place)
        wheel = build(given.source, folder)
        names = contents(wheel)
        report(wheel, names)
        if found := strangers(names):
            raise SystemExit(f"expected the product only, got {', '.join(found[:5])} ...")
        if not given.built_only:
            serve(install(wheel, folder / "venv"), folder)


if __name__ == "__main__":
    main()
