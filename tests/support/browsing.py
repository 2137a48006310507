"""The real app on a port of its own, what goes over the wire, what a user does there."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from urllib.request import Request, urlopen

import msgspec
import uvicorn
from playwright.sync_api import Locator, Page
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from waiting import DEADLINE_S

from env.vocabulary import CreatorId, Item, ItemId
from serve.config import Config, ContentSettings, DataSettings
from serve.processes.replica import FeedReplica
from serve.wire.feed import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
)

VISIBILITY = """state => {
    Object.defineProperty(document, "visibilityState", {get: () => state, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@dataclass
class Recorder:
    """Serves an app and keeps what was asked and answered."""

    app: ASGIApp
    feeds: list[tuple[FeedRequest, FeedResponse]] = field(default_factory=list)
    posts: list[tuple[tuple[Event, ...], FeedbackResponse]] = field(default_factory=list)
    answers_to_lose: int = 0
    changed: Condition = field(default_factory=Condition)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; an answer to lose is made, but comes as a failure."""
        asked, answered = bytearray(), bytearray()
        is_lost = scope["path"] == "/v1/feedback" and self.answers_to_lose > 0
        self.answers_to_lose -= is_lost

        async def hear() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def tell(message: Message) -> None:
            answered.extend(message.get("body", b""))
            if is_lost and message["type"] == "http.response.start":
                message = {**message, "status": 503}
            if message["type"] == "http.response.body" and not message.get("more_body"):
                with self.changed:
                    self._record(scope["path"], bytes(asked), bytes(answered))
                    self.changed.notify_all()
            await send(message)

        await self.app(scope, hear, tell)

    def events(self, kind: str) -> list[Event]:
        """Return the events of a kind in the order of arrival, those sent again once."""
        arrived = {event.event_id: event for events, _ in self.posts for event in events}
        return [event for event in arrived.values() if event.kind == kind]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; each answer is recorded before it is sent."""
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE_S), (self.feeds, self.posts)

    def card(self, page: int, slot: int) -> CardBody:
        """Return a card that was served."""
        return self.feeds[page][1].items[slot]

    def _record(self, path: str, asked: bytes, answered: bytes) -> None:
        if path == "/v1/feed":
            page = msgspec.json.decode(answered, type=FeedResponse)
            self.feeds.append((msgspec.json.decode(asked, type=FeedRequest), page))
        elif path == "/v1/feedback":
            events = msgspec.json.decode(asked, type=FeedbackRequest).events
            self.posts.append((events, msgspec.json.decode(answered, type=FeedbackResponse)))


@dataclass
class Site:
    """An app at an address; what is inside can be exchanged while it is served."""

    app: ASGIApp
    inside: ASGIApp
    address: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve with what is inside now."""
        await self.inside(scope, receive, send)

    def record(self) -> Recorder:
        """Write down what goes over the wire from now on."""
        recorder = Recorder(self.app)
        self.inside = recorder
        return recorder


@contextmanager
def open_site(folder: Path, items: Sequence[Item]) -> Iterator[Site]:
    """Serve the real app with these items on a free port."""
    config = Config(data=DataSettings(folder=str(folder)), content=ContentSettings(titles=False))
    replica = FeedReplica(config, now_ms=lambda: int(time.time() * 1000))
    site = Site(replica.app, replica.app)
    server = uvicorn.Server(uvicorn.Config(site, log_level="critical", lifespan="off", ws="none"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        site.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        put_items(site.address, items)
        yield site
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        replica.close()


def put_items(address: str, items: Sequence[Item]) -> None:
    """Put items over HTTP."""
    body = msgspec.json.encode({"items": items})
    request = Request(f"{address}/v1/items", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=DEADLINE_S) as answer:
        assert answer.status == 200


def make_items(n: int) -> list[Item]:
    """Return n items, each of a creator of its own, that tell apart on the screen."""
    return [
        Item(
            item_id=ItemId(f"v{i}"),
            creator=CreatorId(f"creator.{i}"),
            title=f"Video number {i}",
            tags=(f"topic{i % 5}",),
            duration_s=20.0,
            country="MY",
        )
        for i in range(n)
    ]


# --- what a user does with the page ---


def open_feed(page: Page, site: Site, user: str) -> None:
    page.goto(f"{site.address}/?user={user}")
    page.locator(".card.is-current").wait_for()


def shown_title(page: Page) -> Locator:
    return page.locator(".card.is-current .title")


def swipe(page: Page, way: str, step: int) -> None:
    back = {"j": "k", "Space": "Shift+Space"}
    if way == "wheel":
        page.mouse.move(200, 300)
        page.mouse.wheel(0, 120 * step)
    elif way == "touch":
        touch(page, [(200, 420 - step * dy) for dy in (-150, -60, 40, 150)])
    elif way == "button":
        page.set_viewport_size({"width": 1280, "height": 800})
        page.locator("#arrows button").nth(int(step > 0)).click()
    else:
        page.keyboard.press(way if step > 0 else back[way])


def touch(page: Page, points: Sequence[tuple[int, int]]) -> None:
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
    for kind, (x, y) in zip(kinds, points, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def hide(page: Page) -> None:
    page.evaluate(VISIBILITY, "hidden")


def show(page: Page) -> None:
    page.evaluate(VISIBILITY, "visible")
