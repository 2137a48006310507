"""A server without Ray: engine and app over a folder, and a way to ask an ASGI app directly."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from redises import shared_url
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message
from waiting import DEADLINE_S

from env.records import Record
from env.users.fold import fold
from env.users.state import UserState
from env.vocabulary import UserKey
from policies.bandit.settings import HybridBanditArgs
from serve.access.callers import KeyRing
from serve.config import (
    Arm,
    ClockSettings,
    Config,
    ContentSettings,
    DataSettings,
    Experiment,
    StoreSettings,
)
from serve.feed.engine import Engine
from serve.feed.pipeline import Pipeline
from serve.http.api import make_app
from serve.learn.served import initial_serving_model
from serve.store.data_folder import open_data
from serve.store.open import open_store
from serve.store.sqlite import SqliteStore
from serve.store.store import Store, Transaction
from serve.tokens import load_secret
from serve.wire.items import ItemBody, ItemsRequest

R = TypeVar("R", bound=Record)
START_MS = 1_800_000_000_000
JSON = (("content-type", "application/json"),)
NO_TITLES = ContentSettings(titles=False)
ONE_ARM = Experiment("test", (Arm("all", "uniform"),))


class Watch:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Server:
    """One replica over a data folder."""

    engine: Engine
    app: Starlette
    store: Store
    watch: Watch
    keys: KeyRing

    def records(self) -> list[Record]:
        return [line.record for line in self.store.log.read()]

    def of(self, kind: type[R]) -> list[R]:
        return [record for record in self.records() if isinstance(record, kind)]

    def live_states(self) -> dict[UserKey, UserState]:
        with self.store.view() as view:
            return view.user_states(list(view.users()))

    def folded_states(self) -> dict[UserKey, UserState]:
        states: dict[UserKey, UserState | None] = {}
        for record in self.records():
            user = getattr(record, "user", None)
            if user is not None:
                states[user] = fold(states.get(user), record)
        return {user: state for user, state in states.items() if state is not None}


_kinds = ["sqlite"]
"""The last one is the one that the test runs with."""


def open_kind(folder: Path, now_ms: Callable[[], int]) -> Store:
    """Open the store of a folder, of the kind that the test runs with."""
    name = f"test-{hashlib.blake2b(str(folder).encode(), digest_size=6).hexdigest()}"
    return open_store(Config(data=DataSettings(str(folder)), store=_settings(name)), now_ms)


def _settings(name: str) -> StoreSettings:
    match _kinds[-1]:
        case "redis":
            return StoreSettings(shared_url(), name, shards=3)
        case "toy":
            return StoreSettings(f"toy://{name}", kinds={"toy": "toy_store:TOY"})
        case _:
            return StoreSettings()


def open_file(config: Config) -> SqliteStore:
    """Open a data folder's database, whose tables a test looks into."""
    store = open_data(config)
    assert isinstance(store, SqliteStore)
    return store


@contextmanager
def kept_in(kind: str) -> Iterator[None]:
    """Open stores of a kind, sqlite, redis or toy, until the end of the block."""
    _kinds.append(kind)
    try:
        yield
    finally:
        _kinds.pop()


@contextmanager
def at_once(store: Store) -> Iterator[None]:
    """Keep the writer busy meanwhile, so that what is written is committed as one."""
    begun, may_end = threading.Event(), threading.Event()

    def wait(transaction: Transaction) -> None:
        begun.set()
        may_end.wait(DEADLINE_S)

    store.write(wait, durable=False)
    assert begun.wait(DEADLINE_S)
    try:
        yield
    finally:
        may_end.set()


@contextmanager
def serving(
    folder: Path,
    *,
    watch: Watch | None = None,
    simulated: bool = False,
    experiment: Experiment = ONE_ARM,
    content: ContentSettings = NO_TITLES,
) -> Iterator[Server]:
    """Open a replica over a folder; several may be open over the same one."""
    watch = watch or Watch()
    config = Config(
        data=DataSettings(str(folder)),
        clock=ClockSettings(simulated),
        content=content,
        experiment=experiment,
    )
    with open_kind(folder, watch) as store:
        pipeline = Pipeline(
            config, draw_key=bytes(32), served=initial_serving_model(HybridBanditArgs(bits=12))
        )
        engine = Engine(config, store, pipeline, now_ms=watch)
        keys = KeyRing(store, load_secret(folder), now_ms=watch)
        yield Server(engine, make_app(engine, keys), store, watch, keys)


def items(n: int, first: int = 0) -> ItemsRequest:
    """Return n items by ten creators, from everywhere."""
    return ItemsRequest(
        tuple(
            ItemBody(
                item_id=f"i{k}",
                creator=f"c{k}",
                title=f"Film number {k}",
                tags=(f"tag{k % 7}",),
                duration_s=10.0 + k % 50,
                published_ms=START_MS - 1000 * k,
            )
            for k in range(first, first + n)
        )
    )


@dataclass
class Answer:
    """What an app answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        return msgspec.json.decode(self.body)

    def problem(self) -> tuple[int, str]:
        """Return status and field, after checking that it is a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        told = msgspec.json.decode(self.body, type=dict[str, object])
        assert told["status"] == self.status
        assert {"type", "title", "status"} <= told.keys()
        return self.status, str(told.get("field", ""))


Samples = dict[str, list[tuple[dict[str, str], float]]]


async def measured(app: ASGIApp) -> Samples:
    """Return what an app's metrics say: by name, labels and values."""
    text = (await ask(app, "GET", "/metrics")).body.decode()
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def sample(samples: Samples, name: str, **labels: str) -> float:
    """Return the value of a metric under these labels, over all processes; 0: there is none."""
    return sum(v for of, v in samples.get(name, []) if labels.items() <= of.items())


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = JSON,
    *,
    raises: tuple[type[Exception], ...] = (),
) -> Answer:
    """Send one request to an ASGI app, the body in one chunk or several.

    What the app raises after it answered, for the server to log, is passed over if expected.
    """
    path, _, query = target.partition("?")
    chunks = [body] if isinstance(body, bytes) else list(body)
    arriving: Iterator[Message] = iter(
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1}
        for i, chunk in enumerate(chunks)
    )
    sent: list[Message] = []

    async def receive() -> Message:
        message = next(arriving, None)
        return message or await asyncio.Future[Message]()  # the client waits

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
    }
    with suppress(*raises):
        await app(scope, receive, send)
    start = sent[0]
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], told, b"".join(m.get("body", b"") for m in sent[1:]))


async def stocked(server: Server, n: int = 60) -> Server:
    """Return the server with n items put."""
    await server.engine.shelf.put_many(items(n))
    return server
