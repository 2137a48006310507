"""Two replicas behind one socket, users swiping all the while: what was answered is true on both.

The log is the judge as well as the pages: a page that was under way when a takedown or a block was
written stands in the log after it, and must not show what is gone.
"""

import asyncio
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from live import POLL_S
from prometheus_client.parser import text_string_to_metric_families
from waiting import DEADLINE_S, wait_until

from env.records import BlockRecord, ItemRecord, PageRecord, Record
from env.vocabulary import CreatorId, Item, ItemId
from serve.config import Config, parse
from serve.jobs.import_data import import_items
from serve.store.open import open_store
from serve.wire.client import FeedClient
from serve.wire.feed import Event, FeedbackRequest, FeedRequest, FeedResponse, SceneBody
from serve.wire.items import ItemBody
from serve.wire.users import BlocksRequest, ProfileBody

SOON = 50
"""Pages, of whomever: less than a second's."""
N_SWIPING = 4
PAGES_EACH = 10
"""After so many pages another user comes, so that nobody has seen all there is."""
N_ITEMS, N_CREATORS = 400, 40
HERE = SceneBody(country="GB", language="en")
SETTINGS = """
[server]
port = {port}
replicas = 2
[data]
folder = "{folder}"
"""
"""All else is as shipped."""


@dataclass
class Site:
    """A server that runs."""

    address: str
    config: Config


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("replicas")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "settings.toml"
    settings.write_text(SETTINGS.format(port=port, folder=folder / "data"))
    config = parse(settings.read_text())
    import_items(config, old_items(), now_ms=int(time.time() * 1000))
    command = [sys.executable, "-m", "serve.commands.main", "up", "--no-swarm"]
    process = subprocess.Popen(
        [*command, "--config", str(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        # HAProxy learns of the second replica a little after the first one answers, and then takes
        # them in turn: an even number of requests a round would ask each the same thing for ever.
        wait_until(
            lambda: (
                all(is_ready(address, process) for _ in range(2))
                and n_that_answered(address, "readyz") == 2
            ),
            pause_s=POLL_S,
        )
        yield Site(address, config)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def old_items() -> list[Item]:
    return [
        Item(
            ItemId(f"old{k}"),
            CreatorId(f"creator{k % N_CREATORS}"),
            title=f"Film {k}",
            tags=(f"topic{k % 8}",),
            duration_s=20.0,
            published_ms=1_700_000_000_000 + k,
            language="en",
            country="GB",
        )
        for k in range(N_ITEMS)
    ]


# --- users who swipe ---


@dataclass(frozen=True)
class Asked:
    """A page that was asked for.

    Attributes:
        number: of the question, among all that were asked.
    """

    number: int
    page: FeedResponse

    def item_ids(self) -> set[str]:
        return {card.item_id for card in self.page.items}


@dataclass
class Crowd:
    """Users who swipe all the while, and the pages they got."""

    client: FeedClient
    n_asked: int = 0
    pages: list[Asked] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, user_id: str) -> Asked:
        """Ask for a page and note the answer."""
        self.n_asked += 1
        number = self.n_asked
        page = await self.client.feed(FeedRequest(user_id, size=5, scene=HERE))
        async with self.changed:
            self.pages.append(Asked(number, page))
            self.changed.notify_all()
        return self.pages[-1]

    async def swipe(self, name: str) -> None:
        """Swipe until cancelled, every now and then as another user."""
        for k in itertools.count():
            asked = await self.ask(f"{name}-{k // PAGES_EACH}")
            events = tuple(
                event
                for card in asked.page.items
                for event in (
                    Event(f"{card.slot}-seen", card.decision_id, "impression", 1),
                    Event(f"{card.slot}-dwell", card.decision_id, "dwell", 1, 9.0),
                )
            )
            told = await self.client.feedback(FeedbackRequest(events))
            assert told.accepted == len(events), told

    async def wait_for(self, holds: Callable[[], bool]) -> None:
        """Return once something holds; it is looked at after each page."""
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(holds)

    async def pages_from_now_on(self, n: int) -> list[Asked]:
        """Wait for so many pages that are asked for from now on, and return them."""
        n_before = self.n_asked

        def since() -> list[Asked]:
            return [asked for asked in self.pages if asked.number > n_before]

        await self.wait_for(lambda: len(since()) >= n)
        return since()


@asynccontextmanager
async def swiping(site: Site, name: str) -> AsyncIterator[Crowd]:
    """Let users swipe inside; they must not have failed by the end."""
    async with FeedClient(site.address, timeout_s=DEADLINE_S) as client:
        crowd = Crowd(client)
        tasks = [asyncio.create_task(crowd.swipe(f"{name}{k}")) for k in range(N_SWIPING)]
        try:
            await crowd.wait_for(lambda: len(crowd.pages) >= N_SWIPING)
            yield crowd
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


# --- what is answered is true ---


async def test_what_is_taken_down_is_on_no_page_that_is_drawn_after_the_answer(site: Site) -> None:
    async with swiping(site, "t") as crowd:
        for _ in range(10):
            gone = crowd.pages[-1].page.items[0].item_id
            await crowd.client.delete_item(gone)
            after = await crowd.pages_from_now_on(2 * N_SWIPING)
            assert all(gone not in asked.item_ids() for asked in after)
    wait_until(lambda: n_that_answered(site.address, "feed") == 2)
    taken_down: set[str] = set()
    for record in log_of(site):
        if isinstance(record, ItemRecord) and record.item is None:
            taken_down.add(record.item_id)
        if isinstance(record, PageRecord):
            assert taken_down.isdisjoint(card.item_id for card in record.cards)
    assert len(taken_down) == 10


async def test_who_is_blocked_is_on_no_page_of_theirs_that_is_drawn_after_the_answer(
    site: Site,
) -> None:
    async with swiping(site, "b") as crowd:
        await crowd.client.put_user("ann", ProfileBody())
        blocked: set[str] = set()
        for _ in range(8):
            creator = (await crowd.ask("ann")).page.items[0].item.creator
            under_way = [asyncio.create_task(crowd.ask("ann")) for _ in range(3)]
            answer = await crowd.client.put_blocks("ann", BlocksRequest((creator,)))
            blocked.add(creator)
            assert set(answer.creators) == blocked
            after = await asyncio.gather(*(crowd.ask("ann") for _ in range(3)))
            shown = {card.item.creator for asked in after for card in asked.page.items}
            assert shown
            assert shown.isdisjoint(blocked)
            await asyncio.gather(*under_way)
    blocked_by: dict[str, set[str]] = {}
    for record in log_of(site):
        if isinstance(record, BlockRecord):
            blocked_by.setdefault(record.user, set()).update(record.creators)
        if isinstance(record, PageRecord):
            theirs = blocked_by.get(record.user, set())
            assert theirs.isdisjoint(card.creator for card in record.cards)
    assert list(map(len, blocked_by.values())) == [8]


async def test_an_upload_is_on_one_of_the_pages_of_the_second_after_the_answer(site: Site) -> None:
    """Last, since uploads from now on are owed an audience. Pages are a busy machine's clock."""
    async with swiping(site, "u") as crowd:
        for k in range(3):
            body = ItemBody(title=f"New {k}", tags=("topic1",), language="en", country="GB")
            new = (await crowd.client.put_item(f"new{k}", body)).item_id

            soon = await crowd.pages_from_now_on(SOON)
            assert any(new in asked.item_ids() for asked in soon)


def n_that_answered(address: str, operation: str) -> int:
    """Return how many processes have answered so; each tells the others every second."""
    families = text_string_to_metric_families(get(address + "/metrics").decode())
    return len(
        {
            sample.labels["process"]
            for family in families
            for sample in family.samples
            if sample.name == "nextswipe_requests_total"
            and (sample.labels["operation"], sample.labels["status"]) == (operation, "200")
        }
    )


def log_of(site: Site) -> Iterator[Record]:
    with open_store(site.config, lambda: 0) as store:
        for line in store.log.read():
            yield line.record


def is_ready(address: str, process: subprocess.Popen[str]) -> bool:
    if process.poll() is not None:
        output, _ = process.communicate()
        pytest.fail(f"the server ended with {process.returncode}:\n{output}")
    try:
        return bool(json.loads(get(address + "/readyz"))["ready"])
    except OSError:
        return False


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=DEADLINE_S) as response:
        body: bytes = response.read()
        return body
