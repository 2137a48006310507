"""The wheel holds the product and nothing else; `make wheel` installs and serves it."""

import subprocess
from pathlib import Path

import pytest
from wheels import ROOT, build, contents, strangers


@pytest.mark.slow
def test_the_wheel_holds_the_product_without_tests_studies_and_peers(tmp_path: Path) -> None:
    try:
        names = contents(build(ROOT, tmp_path))
    except subprocess.CalledProcessError as error:
        if "requirement hatchling" not in error.stderr:
            raise
        pytest.skip("the package index, from which pip fetches hatchling, is out of reach")
    assert strangers(names) == []
    assert {"serve/nextswipe.toml", "serve/http/web/index.html", "serve/deploy/Dockerfile"} <= set(
        names
    )
    shipped = {name for name in names if ".dist-info/" not in name}
    held = {
        path.relative_to(ROOT).as_posix()
        for package in ("env", "policies", "replay", "serve")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == held | {"nextswipe.py"}


def test_tests_studies_and_peers_in_a_wheel_are_told() -> None:
    bad = ["tests/test_docs.py", "serve/studies/a.py", "serve/peers/b.py", "conftest.py"]
    good = ["serve/config.py", "nextswipe-0.1.0.dist-info/METADATA"]
    assert strangers(bad + good) == bad
