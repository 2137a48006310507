"""How many files a warm request enters, and how many parameters the stages of a page take."""

import ast
import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import msgspec
import pytest
from servers import Answer, ask, serving, stocked

from serve.config import Experiment

ROOT = Path(__file__).parents[3]
PACKAGES = ("env", "policies", "replay", "serve")
STAGES = (
    "policies/candidates/retrieval.py",
    "policies/candidates/filters.py",
    "policies/candidates/eligibility.py",
    "policies/candidates/context.py",
    "policies/candidates/query.py",
    "policies/candidates/cells.py",
    "policies/slots/offers.py",
    "policies/slots/rules.py",
    "env/features/encode.py",
)


N_FEED = 56
"""Files that a warm feed request enters at most."""

N_FEEDBACK = 22
"""Files that a warm feedback event enters at most."""


async def entered(request: Callable[[], Awaitable[Answer]]) -> set[str]:
    """Return the product's files that a request enters, in any thread."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, arg: object) -> None:
        found.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        answer = await request()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert answer.status < 300, answer
    inside = (Path(name) for name in found if name.startswith(str(ROOT)))
    names = {path.relative_to(ROOT).as_posix() for path in inside}
    return {name for name in names if name.partition("/")[0] in PACKAGES}


async def test_a_warm_request_enters_few_files(tmp_path: Path) -> None:
    body = msgspec.json.encode({"user_id": "ann"})
    with serving(tmp_path, experiment=Experiment()) as server:
        await stocked(server)

        async def feed() -> Answer:
            return await ask(server.app, "POST", "/v1/feed", body)

        cards = [(await feed()).json() for _ in range(3)]

        async def feedback(k: int = 0) -> Answer:
            decision = msgspec.convert(cards[0], dict[str, object])["items"]
            shown = msgspec.convert(decision, list[dict[str, object]])[k]["decision_id"]
            event = {"event_id": str(k), "decision_id": shown, "kind": "like", "at_ms": 1}
            return await ask(
                server.app, "POST", "/v1/feedback", msgspec.json.encode({"events": [event]})
            )

        await feedback(1)
        await asyncio.sleep(0)
        page, event = await entered(feed), await entered(feedback)
    assert len(page) <= N_FEED, "\n".join(sorted(page))
    assert len(event) <= N_FEEDBACK, "\n".join(sorted(event))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_takes_the_query_and_little_else(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text())
    many = {
        node.name: len(names)
        for top in tree.body
        if not getattr(top, "name", "_").startswith("_")
        for node in ast.walk(top)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        for names in [[a.arg for a in (*node.args.args, *node.args.kwonlyargs)]]
        if len(names) - (names[:1] in (["self"], ["cls"])) > 5
    }
    assert many == {}
