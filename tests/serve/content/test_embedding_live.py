"""A hook in a server that runs: uploads are answered at once, and a bad hook refuses the start."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from hooks import answer_to, asked, write_hook
from live import get, live
from waiting import wait_until

SETTINGS = '[content]\nembed = "hooks:embed"\nmedia_folder = "media"\n'


def put(address: str, name: str, media: str) -> dict[str, object]:
    body = json.dumps({"media": media}).encode()
    request = urllib.request.Request(f"{address}/v1/items/{name}", body, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


def item(address: str, name: str) -> dict[str, object]:
    return dict(json.loads(get(f"{address}/v1/items/{name}")))


@pytest.mark.parametrize("options", [("--no-ray",), ()], ids=["bare", "Ray"])
def test_an_upload_gets_its_vector_from_a_process_beside_the_learner(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    write_hook(tmp_path)
    with live(tmp_path, "--no-swarm", *options, settings=SETTINGS) as server:
        assert "vector" not in put(server.address, "ends", "exit")
        assert "vector" not in put(server.address, "clip", "a.jpg")
        wait_until(lambda: "vector" in item(server.address, "clip"))
        assert item(server.address, "clip")["vector"] == list(answer_to("a.jpg"))
        assert "embedder" not in item(server.address, "ends")
        wait_until(lambda: b'outcome="failed"' in get(f"{server.address}/metrics"))
    before = asked(tmp_path)
    with live(tmp_path, "--no-swarm", *options, settings=SETTINGS) as server:
        wait_until(lambda: len(asked(tmp_path)) > len(before))
    assert set(asked(tmp_path)[len(before) :]) == {"ends"}


def test_a_hook_that_cannot_be_loaded_refuses_the_start_in_one_line(tmp_path: Path) -> None:
    write_hook(tmp_path, "import absent_library")
    (tmp_path / "settings.toml").write_text(f"[server]\nport = 0\n{SETTINGS}")
    command = [sys.executable, "-m", "serve.commands.main", "up", "--no-ray", "--config"]
    command += [str(tmp_path / "settings.toml"), "--data", str(tmp_path / "data")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "content.embed: hooks:embed: importing it raised ModuleNotFoundError" in line
