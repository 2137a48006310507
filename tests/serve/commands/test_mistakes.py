"""Mistakes of a first hour: each ends in a few lines that say what is wrong, where, and the remedy.

The table runs in this process, where a mistake takes milliseconds; a few run as the real program.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from histories import config_of, make_history
from ports import free_port
from typer.testing import CliRunner
from waiting import DEADLINE_S

from serve.commands.main import EXTRAS, app
from serve.config import ServerSettings
from serve.processes.starting import listen
from serve.store.data_folder import sole_server

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
MOST_LINES = 3
DATA = "--config good.toml"
"""Options that name a data folder in which users have swiped."""

FILES: dict[str, str | bytes] = {
    "good.toml": '[data]\nfolder = "data"\n[learner]\nbits = 12\n',
    "key.toml": "[server]\nprot = 1\n",
    "type.toml": '[server]\nport = "8000"\n',
    "range.toml": "[server]\nport = 70000\n",
    "no.toml": "server\n",
    "table.toml": "[sevrer]\nport = 1\n",
    "weight.toml": "[reward]\nlikes = 1.0\n",
    "pace.toml": "[learner]\npublish_every_s = -1\n",
    "arm.toml": '[experiment]\nname = "a"\n[[experiment.arms]]\nname = "a"\npolicy = "best"\n',
    "own.toml": '[experiment]\nname = "a"\n[[experiment.arms]]\nname = "a"\npolicy = "own:make"\n',
    "own.py": "def make():\n    return 3\n",
    "broken.py": "def make(:\n",
    "raises.py": "def make():\n    raise KeyError('x')\n",
    "seconds.csv": "user_id,item_id,at_ms\na,b,1760000000\n",
    "seen.csv": "user_id,item_id,at_ms,liked\na,b,1760000000000,1\n",
    "yes.csv": "user_id,item_id,at_ms,like\na,b,1760000000000,yes\n",
    "list.csv": 'item_id,tags\na,"[""x"",""y""]"\n',
    "column.csv": "item_id,colour\na,red\n",
    "noid.csv": "id,title\na,b\n",
    "text.csv": "item_id,duration_s\na,long\n",
    "negative.csv": "item_id,duration_s\na,-3\n",
    "twice.csv": "item_id\na\na\n",
    "short.csv": "item_id,title\na\n",
    "semicolon.csv": "item_id;title\na;b\n",
    "empty.csv": "",
    "latin.csv": b"item_id,title\na,caf\xe9\n",
    "country.csv": "item_id,country\na,Britain\n",
    "table.xlsx": "x",
    "quotes.jsonl": "{'item_id': 1}\n",
    "array.jsonl": '[{"item_id": "a"}]\n',
    "bad.parquet": "x",
    "file": "x",
    "bad.dsjson": "nope\n",
    "log.csv": "a,b\n1,2\n",
    "full/x": "x",
    "notdb/nextswipe.db": b"something else " * 1_000,
}


class Mistake(NamedTuple):
    """A command line, and what its message must hold: what was expected or got, and the remedy."""

    words: str
    says: tuple[str, ...]


def wrong(words: str, *says: str) -> Mistake:
    return Mistake(words, says)


MISTAKES = (
    # --- starting a server ---
    wrong("up --port {busy}", "expected a free port, got 127.0.0.1:{busy}", "--port"),
    wrong("up --no-ray --port {busy}", "expected a free port, got 127.0.0.1:{busy}", "--port"),
    wrong("up --data served", "served is served already", "process {pid} on", "--data"),
    wrong("up --data file", "expected a folder, got a file at file", "--data"),
    wrong("up --data file/inside", "expected a folder, got a file at file/inside", "--data"),
    wrong("up --data /proc/nothing", "expected to make the data folder /proc/nothing", "--data"),
    wrong("up --data notdb --port 0", "notdb: expected nextswipe.db to be a database", "restore"),
    wrong("up --host no.such.invalid", "got no.such.invalid", "--host"),
    wrong("up --host 203.0.113.9", "expected an address of this machine", "--host"),
    wrong("up --prot 9000", "No such option: --prot", "--port", "up --help"),
    wrong("up --port many", "--port", "integer", "got 'many'"),
    wrong("up --port 99999", "--port", "65535", "got '99999'"),
    wrong("up --log-level loud", "--log-level", "'loud'", "'warning'"),
    wrong("up extra", "unexpected", "(extra)", "up --help"),
    wrong("upp", "No such command 'upp'", "Did you mean 'up'"),
    wrong("up --store localhost", "expected an address such as redis://HOST, got 'localhost'"),
    wrong("up --store mysql://x", "expected one of sqlite://", "got mysql://"),
    wrong("up --port 0 --store redis://127.0.0.1:{free}", "store.url", "Connection refused"),
    # --- settings ---
    wrong("up --config none.toml", "none.toml: cannot be read", "config show --default"),
    wrong("up --config full", "full: cannot be read: Is a directory"),
    wrong("up --config key.toml", "server.prot: unknown key", "did you mean server.port?"),
    wrong("up --config table.toml", "sevrer: unknown key", "did you mean server?"),
    wrong("up --config type.toml", "type.toml: server.port: Expected `int`, got `str`"),
    wrong("up --config range.toml", "range.toml: server.port: Expected `int` <= 65535"),
    wrong("up --config no.toml", "no.toml: no TOML", "line 1"),
    wrong("up --config weight.toml", "write signals.like.weight"),
    wrong("up --config pace.toml", "learner.publish_every_s: Expected `float` >= 0.1"),
    wrong("up --config arm.toml", "experiment.arms[0]: expected a policy", "got 'best'"),
    wrong("up --port 0 --config own.toml", "own:make: expected a policy", "got int"),
    wrong("config check key.toml", "did you mean server.port?"),
    # --- files of items ---
    wrong("import items none.csv", "none.csv: cannot be read"),
    wrong("import items list.csv", "line 2, column 'tags'", "a|b", "got a JSON list"),
    wrong("import items column.csv", "column 'colour': expected columns of item_id"),
    wrong("import items noid.csv", "column 'item_id': expected this column, got id, title"),
    wrong("import items text.csv", "line 2, column 'duration_s': expected", "'long'"),
    wrong("import items negative.csv", "line 2, column 'duration_s': expected", "got '-3'"),
    wrong("import items twice.csv", "line 3, column 'item_id': expected each id once, got 'a'"),
    wrong("import items short.csv", "line 2: expected 2 cells, got 1"),
    wrong("import items semicolon.csv", "expected this column, got item_id;title"),
    wrong("import items empty.csv", "expected this column, got none"),
    wrong("import items latin.csv", "expected UTF-8, got byte 0xe9"),
    wrong("import items country.csv", "line 2, column 'country': expected", "got 'Britain'"),
    wrong("import items table.xlsx", "expected one of .csv", "got '.xlsx'"),
    wrong("import items quotes.jsonl", "quotes.jsonl, line 1: expected JSON"),
    wrong("import items array.jsonl", "array.jsonl, line 1: expected `object`, got `array`"),
    wrong("import items bad.parquet", "bad.parquet: expected Parquet"),
    wrong("import people noid.csv", "column 'user_id': expected this column, got id, title"),
    wrong("import interactions none.csv", "none.csv: there is no such file"),
    wrong("import interactions noid.csv", "'id': expected columns of user_id, item_id, at_ms"),
    wrong("import interactions seen.csv", "'liked': expected columns of", "like, comment"),
    wrong("import interactions seconds.csv", "line 2, column 'at_ms'", "seconds times 1000"),
    wrong("import interactions yes.csv", "line 2, column 'like': expected 0 or 1, got 'yes'"),
    wrong("import interactions yes.csv --format netflix", "--format", "got 'netflix'"),
    wrong("import items", "Missing argument 'FILE'", "import items --help"),
    wrong("import kuairand full", "expected one video_features_basic*.csv, got 0"),
    # --- evaluation ---
    wrong(f"evaluate best {DATA}", "expected uniform, popularity", "got 'best'"),
    wrong(
        f"evaluate vowpal@9 {DATA}",
        "expected a version that was published (1 to 3) or is kept (1, 2, 3), got 9",
    ),
    wrong(f"evaluate retention {DATA}", "got none that is current", "retention publish"),
    wrong(f"evaluate own:make {DATA}", "own:make: expected a policy", "got int"),
    wrong(f"evaluate broken:make {DATA}", "broken:make", "SyntaxError", "line 1"),
    wrong(f"evaluate raises:make {DATA}", "raises:make: the factory raised KeyError"),
    wrong(f"evaluate absent:make {DATA}", "absent:make: found no module absent"),
    wrong(f"evaluate uniform --segment age {DATA}", "expected segments of", "got ['age']"),
    wrong(f"evaluate uniform --arm nobody {DATA}", "--arm: expected an arm", "got 'nobody'"),
    wrong(f"evaluate uniform --level 95 {DATA}", "--level", "0.999", "got '95'"),
    wrong("evaluate uniform --data full", "expected a data folder", "`nextswipe up` makes one"),
    wrong("evaluate uniform --log bad.dsjson", "bad.dsjson, line 1: expected a JSON object"),
    wrong("evaluate uniform --log log.csv", "column 'action': expected this column, got a, b"),
    # --- the rest ---
    wrong(f"swarm --url http://127.0.0.1:{{free}} {DATA}", "expected a server at", "nextswipe up"),
    wrong(f"swarm --url 127.0.0.1:8000 {DATA}", "expected an address such as http://HOST:PORT"),
    wrong(f"log export out --format parquet --arm nobody {DATA}", "--arm", "got 'nobody'"),
    wrong(f"log export file {DATA}", "file exists already", "choose another name"),
    wrong("log verify --data none", "none: expected a data folder", "--data"),
    wrong(f"backup full {DATA}", "full is not empty", "name another folder"),
    wrong(f"restore none {DATA}", "none: expected a whole backup with backup.json, found none"),
    wrong(f"retention use 7 {DATA}", "expected a ranker that is kept (none), got 7"),
    wrong(f"audit --market Britain {DATA}", "--market: expected a country as GB, got Britain"),
    wrong(f"audit --picture a.gif {DATA}", "a.gif: expected a file that ends in .png"),
    wrong("deploy out", "the store is SQLite in data", "--store URL"),
    wrong("status --data none", "none: expected a data folder", "`nextswipe up` makes one"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files that are wrong, and a data folder in which users swiped."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    make_history(config_of(folder / "data"), rounds=range(3))
    return folder


@pytest.fixture(scope="module")
def names(home: Path) -> Iterator[dict[str, int]]:
    """Hold a port and a data folder, and return the numbers that the table names in braces."""
    with (
        closing(listen(ServerSettings(port=0), is_shared=False)) as busy,
        sole_server(config_of(home / "served"), 0),
    ):
        port = busy.getsockname()[1]
        yield {"busy": port, "free": free_port(), "pid": os.getpid()}


def check(mistake: Mistake, names: dict[str, int], code: int, stdout: str, stderr: str) -> None:
    assert code == 2, (stdout, stderr)
    assert "Traceback" not in stderr
    assert 1 <= len(stderr.splitlines()) <= MOST_LINES, stderr
    for part in mistake.says:
        assert part.format(**names) in stderr


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.words)
def test_a_mistake_is_told_in_a_few_lines(
    mistake: Mistake, home: Path, names: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    done = runner.invoke(app, mistake.words.format(**names).split())
    assert isinstance(done.exception, SystemExit), done.exception
    check(mistake, names, done.exit_code, done.stdout, done.stderr)


SAMPLE = ("up --port {busy}", "up --data served", "up --prot 9000", "import items list.csv", "upp")


@pytest.mark.parametrize("words", SAMPLE)
def test_the_program_tells_it_so_too(words: str, home: Path, names: dict[str, int]) -> None:
    mistake = next(mistake for mistake in MISTAKES if mistake.words == words)
    command = [sys.executable, "-m", "serve.commands.main", *words.format(**names).split()]
    done = subprocess.run(
        command,
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    check(mistake, names, done.returncode, done.stdout, done.stderr)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "serve.audit.picture", raising=False)
    done = runner.invoke(app, ["audit", "--picture", "a.png", *DATA.split()])
    assert done.exit_code == 2, (done.stdout, done.exception)
    assert "matplotlib" in done.stderr
    assert "make install EXTRAS=world" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_extra_that_is_named_exists() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= extras.keys()
