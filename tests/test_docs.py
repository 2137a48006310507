"""The documents: commands parse, requests are answered as shown, what is named exists."""

import ast
import functools
import importlib
import json
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer
from histories import config_of, make_history
from servers import Answer, Server, ask, serving, stocked

from env.columns.schema import N_DYNAMIC, N_SHARED, N_STATIC, SCHEMA
from env.fair_start.uploads import MAX_REMEMBERED
from env.records import FORMAT_VERSION
from env.users.fold import MAX_AVOIDED, MAX_BLOCKED, MAX_UNWANTED
from env.users.seen import MAX_RECENT
from policies.baselines import UniformPolicy
from replay.estimators.trajectories import logged_return
from replay.evaluate.episodes import read_lives
from replay.evaluate.targets import PolicyTarget
from replay.join.exported import load
from serve.commands.main import app
from serve.config import SHIPPED, Arm, Config, DataSettings, Experiment, parse
from serve.http.endpoints import OPERATIONS
from serve.jobs.export import export_lines, export_parquet
from serve.limits import MAX_BLOCKS
from serve.processes.edge import ALONE, FAST
from tests.studies.commands import app as studies

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
STUDY = re.compile(r"make study ARGS='([^']*)'")
NOT_MODULES = {"env.reset", "serve.yaml"}  # a method of an environment, a file
FOREIGN_OPTIONS = {
    "--cb_adf",
    "--cb_type",
    "--quadratic",
    "--dsjson",
    "--cb_explore_adf",
    "--l",
}  # VW's
PACKAGES = ("env", "policies", "replay", "serve")
ADDRESS = "http://127.0.0.1:8000"


class Block(NamedTuple):
    """A fenced block."""

    document: str
    line: int
    language: str
    text: str


class Request(NamedTuple):
    """What a line of curl asks, and the answer that the document shows after it, if any."""

    where: str
    method: str
    target: str
    body: str
    shown: str


def _blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(document.name, text[: found.start()].count("\n") + 1, found[1], found[2])


BLOCKS = [block for document in DOCUMENTS for block in _blocks(document)]


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def _prose(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    lines = [line for block in _of("sh") for line in block.text.splitlines()]
    inline = [found for d in DOCUMENTS for found in re.findall(r"`(nextswipe [^`]+)`", _prose(d))]
    named = [line for line in lines if line.startswith("nextswipe ")] + inline
    return sorted({line for line in named if line != "nextswipe --help"})


def _requests() -> list[Request]:
    found = []
    for place, block in enumerate(BLOCKS):
        if block.language != "sh" or "curl" not in block.text:
            continue
        after = BLOCKS[place + 1] if place + 1 < len(BLOCKS) else None
        is_shown = after is not None and (after.document, after.language) == (
            block.document,
            "json",
        )
        shown = after.text if after is not None and is_shown else ""
        commands = re.findall(r"curl .*?(?=\ncurl |\ncard=|\n?\Z)", block.text, re.DOTALL)
        for command in commands:
            last = command is commands[-1]
            found.append(_request(f"{block.document}:{block.line}", command, shown * last))
    return found


def _request(where: str, command: str, shown: str) -> Request:
    words = shlex.split(command.replace("\\\n", " ").partition(" |\n")[0])[1:]
    method, body, target = "GET", "", ""
    while words:
        match words.pop(0):
            case "-s":
                pass
            case "-X":
                method = words.pop(0)
            case "-d":
                body = words.pop(0)
                method = "POST" if method == "GET" else method
            case url:
                assert url.startswith(ADDRESS), f"{where}: {url}"
                target = url.removeprefix(ADDRESS)
    return Request(where, method, target, body, shown)


REQUESTS = _requests()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as served:
        yield served


async def _ask_all(server: Server) -> list[tuple[Request, Answer]]:
    """Ask what the documents ask, in their order, with a card of one's own in place of $card."""
    await stocked(server)
    page = await ask(server.app, "POST", "/v1/feed", b'{"user_id": "me"}')
    card = msgspec.json.decode(page.body)["items"][0]["decision_id"]
    return [
        (r, await ask(server.app, r.method, r.target, r.body.replace("$card", card).encode()))
        for r in REQUESTS
    ]


def _shape(value: Any) -> Any:
    """Return a value's names and types; of lists that of the first element."""
    match value:
        case dict():
            return {name: _shape(inside) for name, inside in value.items()}
        case list():
            return [_shape(value[0])] if value else []
        case _:
            return "number" if isinstance(value, int | float) else type(value).__name__


def test_there_are_examples_to_test() -> None:
    assert len(REQUESTS) > 10
    assert len(_commands()) > 15
    assert {request.where.partition(":")[0] for request in REQUESTS} == {"README.md", "http.md"}


@functools.cache
def _command_of(program: typer.Typer) -> Any:
    return typer.main.get_command(program)


def _parse(program: typer.Typer, words: list[str], *, only_named: bool = False) -> None:
    """Parse a command line of the program; raises if a command, option or argument is wrong.

    A command may be `only_named`, without the arguments that it needs.
    """
    found: Any = _command_of(program)
    path: list[str] = []
    while hasattr(found, "commands"):
        if found.invoke_without_command and (not words or words[0].startswith("-")):
            break
        name = words.pop(0)
        assert name in found.commands, f"no command {[*path, name]}"
        path.append(name)
        found = found.commands[name]
    if words == ["--help"] or (only_named and not words):
        return
    found.make_context(" ".join(path), words)


@functools.cache
def _known_options() -> set[str]:
    own = _options(_command_of(app)) | _options(_command_of(studies))
    return own | FOREIGN_OPTIONS | {"--help"}


def _options(command: Any) -> set[str]:
    """Return the options of a command and of all commands under it."""
    own = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return own.union(*(_options(inner) for inner in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("command", _commands())
def test_a_command_of_the_documents_can_be_given(command: str) -> None:
    blocks = {line for block in _of("sh") for line in block.text.splitlines()}
    _parse(app, shlex.split(command)[1:], only_named=command not in blocks)


@pytest.mark.parametrize(
    "words", sorted({found for d in DOCUMENTS for found in STUDY.findall(d.read_text())})
)
def test_a_study_of_the_documents_can_be_given(words: str) -> None:
    _parse(studies, shlex.split(words))


def test_what_is_a_study_is_not_called_a_command() -> None:
    names = "|".join(sorted(typer.main.get_command(studies).commands))  # type: ignore[attr-defined]
    sources = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    for path in [*DOCUMENTS, *sources, *(ROOT / "tests" / "studies").rglob("*.py")]:
        assert not re.search(rf"`(?:nextswipe\s+)?bench\s+({names})\b", path.read_text()), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_options_that_are_named_exist(document: Path) -> None:
    spans = re.findall(r"`(--[^`\n]+)`", _prose(document))
    named = {word for span in spans for word in re.findall(r"--[a-z_-]+", span)}
    assert named <= _known_options()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_modules_and_names_that_are_named_exist(document: Path) -> None:
    dotted = rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\([^`]*\))?`"
    for name in set(re.findall(dotted, document.read_text())) - NOT_MODULES:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_sections_of_the_settings_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`\[(\w+)\]\s+(\w+)", _prose(document))
    sections = tomllib.loads(SHIPPED.read_text()) if named else {}
    for section, key in named:
        assert key in sections.get(section, ()), (section, key)


def test_the_numbers_of_the_format_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    for pattern, number in (
        (r"## The log, format version (\d+)", FORMAT_VERSION),
        (r"`block`: (\d+) float16", N_STATIC),
        (r"`dynamic`: `n` x (\d+) float16", N_DYNAMIC),
        (r"`shared`: (\d+) float16", N_SHARED),
        (r"`feature_schema`: (\d+);", SCHEMA),
    ):
        assert [int(told) for told in re.findall(pattern, text)] == [number], pattern


async def test_requests_of_the_documents_are_answered(server: Server) -> None:
    for request, answer in await _ask_all(server):
        shown = json.loads(request.shown) if request.shown else {}
        expected = shown.get("status", 0) or (202 if "feedback" in request.target else 0)
        good = answer.status == expected if expected else answer.status in (200, 204)
        assert good, f"{request.where}: {answer.status} {answer.body!r}"
        if "feedback" in request.target:
            taken = msgspec.json.decode(answer.body)
            told = {event["event_id"] for event in json.loads(request.body)["events"]}
            assert taken["accepted"] + len(taken["refused"]) == len(told), request.where


async def test_answers_of_the_documents_are_those_of_the_server(server: Server) -> None:
    compared = 0
    for request, answer in await _ask_all(server):
        if not request.shown:
            continue
        shown, got = json.loads(request.shown), msgspec.json.decode(answer.body)
        assert _shape(shown) == _shape(got), request.where
        if "propensity" not in request.shown and "published_ms" not in request.shown:
            assert shown == got, request.where
        compared += 1
    assert compared == 7


def test_every_operation_stands_in_the_document_of_the_api() -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    for operation in OPERATIONS:
        assert operation.path.removeprefix("/v1") in text, operation.path


@pytest.mark.parametrize("block", _of("json"), ids=lambda block: f"{block.document}:{block.line}")
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", _of("toml"), ids=lambda block: f"{block.document}:{block.line}")
def test_settings_of_the_documents_can_be_used(block: Block) -> None:
    assert parse(block.text) != Config()


def test_settings_that_are_named_exist() -> None:
    sections = tomllib.loads(SHIPPED.read_text())
    named = set()
    for document in DOCUMENTS:
        prose = _prose(document)
        pairs = re.findall(rf"`({'|'.join(sections)})\.(\w+)`", prose)
        assert all(name in sections[section] for section, name in pairs), (document, pairs)
        assert set(re.findall(r"`\[(\w+)\]`", prose)) <= set(sections), document
        named |= set(pairs)
    assert ("data", "folder") in named


@pytest.mark.parametrize("block", _of("python"), ids=lambda block: f"{block.document}:{block.line}")
def test_python_of_the_documents_compiles_and_finds_what_it_imports(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


async def test_the_exported_log_can_be_read_as_shown(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await stocked(server)
    page = await ask(server.app, "POST", "/v1/feed", b'{"user_id": "me", "size": 3}')
    export_lines(Config(data=DataSettings(str(tmp_path))), tmp_path / "log.jsonl")
    (example,) = [block for block in _of("python") if "log.jsonl" in block.text]
    monkeypatch.chdir(tmp_path)
    exec(compile(example.text, example.document, "exec"), {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    cards = msgspec.json.decode(page.body)["items"]
    assert [line[2] for line in printed] == [card["item_id"] for card in cards]
    assert [float(line[3]) for line in printed] == [card["propensity"] for card in cards]


@pytest.fixture(scope="module")
def uniform_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an export of a log that was drawn uniformly."""
    folder = tmp_path_factory.mktemp("uniform")
    config = config_of(folder / "data", Experiment("one", (Arm("all", "uniform"),)))
    unspaced = msgspec.structs.replace(config.feed, topic_gap=1, newcomer_topic_gap=1, follow=0.0)
    config = msgspec.structs.replace(config, feed=unspaced)  # else all pages earn the same
    (folder / "data").mkdir()
    (folder / "data" / "secret.key").write_bytes(bytes(range(32)))  # draws the same log each time
    make_history(config, n_users=40, rounds=range(3), publish=False)
    export_parquet(config, folder / "decisions")
    return folder


@pytest.mark.slow
def test_the_features_of_an_export_are_read_as_shown(
    uniform_log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [b for b in _of("python") if "candidates.drop_columns" in b.text]
    monkeypatch.chdir(uniform_log)
    exec(compile(example.text, example.document, "exec"), {})
    n, *columns = capsys.readouterr().out.split()
    assert int(n) == len(load(Path("decisions")))
    assert columns[::2] == ["reward:", "propensity:", "long_match:", "log_duration:"]


@pytest.mark.parametrize("target", ["mixture_policy(0.8)", "mixture_policy(1.0)"])
@pytest.mark.slow
def test_estimators_without_a_command_answer_as_shown(
    target: str,
    uniform_log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mixture of nothing but uniform draws is what made the log: then the answer is known."""
    examples = [b.text for b in _of("python") if 'Path("decisions")' in b.text]
    monkeypatch.chdir(uniform_log)
    for text in examples:
        assert "mixture_policy(0.8)" in text
        exec(compile(text.replace("mixture_policy(0.8)", target), "example", "exec"), {})
    *lines, last = capsys.readouterr().out.splitlines()
    found = {name: numbers for name, *numbers in (_numbered(line) for line in lines)}
    assert list(found) == ["reward-interaction ips", "cascade dr", "fqe", "dr-rl"]
    for value, low, high, ess in found.values():
        assert low < value < high
        assert ess > 1.0
    log = load(Path("decisions"))
    n, low, high = map(float, last.split())
    assert n == len(log)
    if target == "mixture_policy(1.0)":
        assert low < log.reward.mean() < high
        page = log.reward.sum() / len(log.pages)
        life = logged_return(read_lives(log.batches(), PolicyTarget(UniformPolicy()), 0.9))
        assert found["reward-interaction ips"][0] == pytest.approx(page)
        _, low, high, _ = found["reward-interaction ips"]
        for name, expected, width in (
            ("cascade dr", page, high - low),
            ("fqe", life.value, life.high - life.low),
            ("dr-rl", life.value, life.high - life.low),
        ):  # a model can know more than the log's mean: both are off, by 4 standard errors at most
            value, low, high, _ = found[name]
            assert abs(value - expected) < width + high - low, name


def _numbered(line: str) -> tuple[Any, ...]:
    """Return the name that a line begins with, then its numbers."""
    words = line.split()
    return " ".join(words[:-4]), *map(float, words[-4:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    links = [*re.findall(r"\]\(([^)#\s]+)", text), *re.findall(r'src="([^"]+)"', text)]
    for link in links:
        assert link.startswith("https://") or (document.parent / link).exists(), link
    named = re.findall(r"(?<![\w./-])((?:env|policies|replay|serve|tests|docs)/[\w./-]*)", text)
    for name in named:
        path = name.rstrip(".")
        assert (ROOT / path).exists() or (document.parent / path).exists(), path


@pytest.mark.parametrize(
    ("document", "words", "number"),
    [
        ("audit.md", r"log's fold remembers\s+the latest ([\d,]+)\.", MAX_REMEMBERED),
        ("http.md", r"may block ([\d,]+) creators", MAX_BLOCKED),
        ("http.md", r"creators and ([\d,]+) tags\. What", MAX_BLOCKED),
        ("http.md", r"A request names up to ([\d,]+) creators", MAX_BLOCKS),
        ("http.md", r"the last ([\d,]+) creators of two cards", MAX_AVOIDED),
        ("http.md", r"the last ([\d,]+) cards with", MAX_UNWANTED),
        ("fair-start.md", r"up to\s+([\d,]+) of each", MAX_BLOCKED),
        ("fair-start.md", r"the last ([\d,]+) such cards", MAX_UNWANTED),
        ("fair-start.md", r"the last ([\d,]+) such creators", MAX_AVOIDED),
        ("decisions/seen-items.md", r"the latest ([\d,]+) items", MAX_RECENT),
    ],
)
def test_limits_of_the_documents_are_those_of_the_code(
    document: str, words: str, number: int
) -> None:
    (told,) = re.findall(words, (ROOT / "docs" / document).read_text())
    assert int(told.replace(",", "")) == number


def test_what_stays_of_a_forgotten_user_is_told_where_forgetting_is() -> None:
    for document in ("README.md", "docs/data.md", "docs/http.md"):
        text = (ROOT / document).read_text()
        assert all(word in text for word in ("`referrer`", "`cohort`", "keyed hash", "pseudonym"))


def test_targets_of_make_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    made = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"(?:`|^)make (\w+)(?=[`\n ])", document.read_text(), re.MULTILINE)
    }
    assert {"run", "test", "check", "study"} <= named <= made
    assert made <= set(re.findall(r"^(\w+):.*?## ", makefile, re.MULTILINE))  # stands in the help


def test_the_switches_of_the_documents_are_those_that_are_set() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    told = re.findall(r"^\| `([A-Z_a-z]+)` \| `([^`]*)` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    drain = {"{drain_s:g}": f"{Config().server.drain_s:g}"}
    assert told == [
        (switch.name, drain.get(switch.value, switch.value), switch.gives, switch.costs)
        for switch in ALONE + FAST
    ]
