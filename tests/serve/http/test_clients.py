"""Clients that others' generators make from the OpenAPI document; `make clients` installs these."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Site, make_items, open_site
from live import get

PROGRAMS = Path(__file__).with_name("clients")
PROGRAM = """
import sys

from nextswipe_client.api.feed import feed
from nextswipe_client.api.feedback import feedback
from nextswipe_client.api.items import put_item
from nextswipe_client.client import Client
from nextswipe_client.models import (
    Event,
    EventKind,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
    Item,
    ItemBody,
    Problem,
    SceneBody,
)

client = Client(base_url=sys.argv[1])
item = put_item.sync(client=client, item_id="clip-1", body=ItemBody(title="One pan pasta"))
assert isinstance(item, Item), item
asked = FeedRequest(user_id="me", size=2, scene=SceneBody(country="MY"))
page = feed.sync(client=client, body=asked)
assert isinstance(page, FeedResponse), page
card = page.items[0]
seen = Event(event_id="e-1", decision_id=card.decision_id, kind=EventKind.IMPRESSION, at_ms=1)
told = feedback.sync(client=client, body=FeedbackRequest(events=[seen]))
assert isinstance(told, FeedbackResponse), told
problem = feed.sync(client=client, body=FeedRequest(user_id="me", size=51))
assert isinstance(problem, Problem), problem
print(item.title, len(page.items), told.accepted, problem.field)
"""
"""Asks for a page and reports on a card, by the client of openapi-python-client."""

TOOLS = Path(__file__).parents[3] / ".venv" / "clients"
NODE = TOOLS / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("clients"), make_items(5)) as opened:
        yield opened


@pytest.fixture
def document(site: Site, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_bytes(get(f"{site.address}/openapi.json"))
    return path


def test_openapi_python_client_makes_a_client_that_works(site: Site, document: Path) -> None:
    python = TOOLS / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no openapi-python-client in {TOOLS}; make clients installs it")
    made = document.with_name("client")
    generator = [str(TOOLS / "bin" / "openapi-python-client"), "generate", "--meta", "none"]
    _run([*generator, "--path", str(document), "--output-path", str(made), "--fail-on-warning"])
    made.rename(document.with_name("nextswipe_client"))
    program = document.with_name("feed.py")
    program.write_text(PROGRAM)
    said = _run([str(python), str(program), site.address])
    assert said == "One pan pasta 2 1 size\n"


def test_openapi_typescript_makes_types_that_are_strict(document: Path) -> None:
    if not (NODE / "openapi-typescript").exists():
        pytest.skip(f"no openapi-typescript in {NODE}; with node and npm, make clients installs it")
    schema, program = document.with_name("schema.ts"), document.with_name("feed.ts")
    _run([str(NODE / "openapi-typescript"), str(document), "--output", str(schema)])
    shutil.copy(PROGRAMS / "feed.ts", program)
    assert (
        _run([str(NODE / "tsc"), "--strict", "--noEmit", "--target", "es2022", str(program)]) == ""
    )


def _run(command: list[str]) -> str:
    path = {"PATH": f"{TOOLS / 'bin'}:{NODE}:/usr/local/bin:/usr/bin:/bin"}
    ended = subprocess.run(command, capture_output=True, text=True, env=path, check=False)
    assert ended.returncode == 0, f"{command[0]}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
