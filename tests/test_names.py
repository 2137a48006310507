"""The names of the packages: a folder of the same name that is in the way is named."""

import subprocess
import sys
from pathlib import Path

import pytest

import nextswipe

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nextswipe", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_packages_are_those_of_this_checkout() -> None:
    nextswipe.require_own_packages()
    assert set(nextswipe.PACKAGES) == {"env", "policies", "replay", "serve"}


@pytest.mark.parametrize("package", nextswipe.PACKAGES)
def test_a_folder_in_the_way_is_named(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    done = run(tmp_path, "--version")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nextswipe: expected the package {package!r}")
    assert f"got {tmp_path / package}, which is in the way: rename it" in line


def test_a_folder_that_is_no_package_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nextswipe ")
