"""README's commands, in their order, in a copy of the tracked files.

They succeed and print what README shows, but for numbers. `make run` is stood for by what its
recipe executes. A block that installs from the package index is skipped, as is one that needs
something that is not here; both say so.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import live
import pytest
from kuairands import write_kuairand
from ports import free_port
from waiting import DEADLINE_S

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = "8000"
RECIPE = "nextswipe up"
"""What the recipe of `make run` executes after the install."""
SERVERS = ("make run", "nextswipe up")
INSTALLS = ("make test", "make install")
NEEDS = ("KuaiRand-Pure",)
HOLDS_PORT = ("README.md", "serve/config.py", "serve/nextswipe.toml", "docs/examples/client.py")

pytestmark = pytest.mark.slow


class Block(NamedTuple):
    """A shell block of README, and what README shows that it prints, if it does."""

    line: int
    text: str
    shown: str
    is_json: bool

    @property
    def name(self) -> str:
        return f"README.md:{self.line}"


@dataclass
class Run:
    """What became of a block."""

    code: int = 0
    printed: str = ""
    skipped: str = ""


def _blocks() -> list[Block]:
    fences = list(re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    found = []
    for place, fence in enumerate(fences):
        if fence[1] != "sh":
            continue
        after = fences[place + 1] if place + 1 < len(fences) else None
        if after is None or README[fence.end() : after.start()].strip() or after[1] == "sh":
            after = None
        shown, is_json = ("", False) if after is None else (after[2], after[1] == "json")
        line = README[: fence.start()].count("\n") + 1
        found.append(Block(line, fence[2], shown, is_json))
    return found


BLOCKS = _blocks()


@dataclass
class Terminals:
    """Two terminals in the folder: one has the server, the other runs everything else."""

    home: Path
    port: int
    runs: dict[str, Run] = field(default_factory=dict)
    server: live.Live | None = None
    served: str = ""

    def run(self, block: Block) -> None:
        """Run a block; a server that it starts takes the place of the one before."""
        run = self.runs[block.name] = Run()
        text = self._prepared(block.text, run)
        if run.skipped:
            return
        *lines, last = text.strip().splitlines()
        is_server = last.startswith(SERVERS)
        command = "\n".join(lines) if is_server else text
        if command:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE_S,
            )
            run.code, run.printed = done.returncode, done.stdout
        if is_server:
            self.stop()
            command = "exec " + last.replace("make run", RECIPE)
            try:
                self.server = live.start(["bash", "-c", command], f"http://127.0.0.1:{self.port}")
            except pytest.fail.Exception as failure:
                run.code, run.printed = 1, run.printed + str(failure)
            self.served = block.name

    def stop(self) -> None:
        """Stop the server as Ctrl-C does."""
        if self.server is None:
            return
        process, self.server = self.server.process, None
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=DEADLINE_S)
        run = self.runs[self.served]
        run.code, run.printed = run.code or process.returncode, run.printed + printed

    def _prepared(self, text: str, run: Run) -> str:
        """Return the commands with what they need at hand, or say what is missing."""
        need = re.match(r"# needs (.*)", text)
        if text.startswith(INSTALLS):
            run.skipped = "it installs from the package index"
        elif need and need[1].startswith("KuaiRand-Pure"):
            (self.home / "KuaiRand-Pure").mkdir()
            write_kuairand(self.home).rename(self.home / "KuaiRand-Pure" / "data")
        elif "curl " in text and shutil.which("curl") is None:
            run.skipped = "it needs curl"
        return text.replace(PORT, str(self.port))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Run all blocks in their order; return what became of each."""
    home, port = tmp_path_factory.mktemp("clone") / "nextswipe", free_port()
    _copy(home, port)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PYTHONPATH", str(home))
        patch.setenv("PATH", f"{home / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
        for name, value in (("COLUMNS", "100"), ("NO_COLOR", "1"), ("TERM", "dumb")):
            patch.setenv(name, value)
        terminals = Terminals(home, port)
        try:
            for block in BLOCKS:
                terminals.run(block)
            terminals.stop()
        finally:
            if terminals.server is not None:
                live.end(terminals.server.process)
        yield terminals.runs


def _copy(home: Path, port: int) -> None:
    """Copy the tracked files, a free port in place of the default one, and lend a .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, home / name)
    for name in HOLDS_PORT:
        text = (home / name).read_text(encoding="utf-8")
        assert PORT in text, name
        (home / name).write_text(text.replace(PORT, str(port)), encoding="utf-8")
    (home / ".venv").symlink_to(sys.prefix)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_the_commands_succeed_and_print_what_is_shown(block: Block, runs: dict[str, Run]) -> None:
    run = runs[block.name]
    if run.skipped:
        pytest.skip(run.skipped)
    assert run.code == 0, run.printed
    if block.is_json:
        answer = next(line for line in run.printed.splitlines()[::-1] if "{" in line)
        told = json.loads(answer[answer.index("{") :])
        assert _without_numbers(json.loads(block.shown)) == _without_numbers(told)
        return
    lines = iter([_masked(line) for line in run.printed.splitlines()])
    for shown in map(_masked, block.shown.splitlines()):
        if shown == "...":
            continue
        start, cut, _ = shown.partition(" ...")
        assert any(line.startswith(start) if cut else line == shown for line in lines), (
            f"expected a line {shown!r}, in this order, got:\n{run.printed}"
        )


def _masked(line: str) -> str:
    """Return a line without what differs from run to run and from machine to machine."""
    line = line.replace(socket.gethostname(), "your-machine")
    line = re.sub(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?", "#", line)
    return re.sub(r"[━─]+", "─", re.sub(r" +", " ", line)).strip()


def _without_numbers(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_numbers(inside) for name, inside in value.items()}
        case list():
            return [_without_numbers(inside) for inside in value]
        case int() | float():
            return "a number"
        case _:
            return value


def test_make_run_installs_and_then_executes_what_stands_for_it_here() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(
        rf"^run: install .*\n\texec \$\(BIN\)/{RECIPE} \$\(ARGS\)\n\n", makefile, re.MULTILINE
    )


def test_servers_are_the_last_commands_of_their_blocks() -> None:
    for block in BLOCKS:
        *before, _ = block.text.strip().splitlines()
        assert not any(line.startswith(SERVERS) for line in before), block.name


def test_marks_are_those_that_this_test_knows() -> None:
    marks = [need for block in BLOCKS for need in re.findall(r"^# needs (.*)$", block.text)]
    marks += re.findall(r"^# needs (.*)$", README, re.MULTILINE)
    assert marks
    assert all(mark.startswith(NEEDS) for mark in marks)


@pytest.mark.parametrize("name", ["halves.toml", "mine.py", "mine.toml"])
def test_an_example_that_readme_shows_is_the_file(name: str) -> None:
    text = (ROOT / "docs" / "examples" / name).read_text(encoding="utf-8")
    assert f"```{'python' if name.endswith('.py') else 'toml'}\n{text}```\n" in README


def test_readme_names_every_example() -> None:
    for path in (ROOT / "docs" / "examples").iterdir():
        assert f"docs/examples/{path.name}" in README
