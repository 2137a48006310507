"""A load generator in a process of its own: at a fixed rate, or as fast as it is answered.

At a fixed rate each request has a time at which it is due, whatever became of the others, and its
latency counts from then on. A server that stalls for a second therefore shows a second's worth of
late answers; a generator that waited for each answer before it sent the next would have asked less
during the stall, and called that "coordinated omission" a good percentile (Gil Tene, "How NOT to
measure latency"). As fast as it is answered is a closed loop of some connections: it says how many
pages a second there are, and nothing about latency.

Rejected: a generator in the server's process (it would be timed with it), and threads (their
scheduling is the error that is to be avoided).
"""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from http import HTTPStatus
from time import perf_counter
from typing import Self

import aiohttp
import msgspec

from serve.wire import FeedRequest, SceneBody

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 30.0


class Load(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes:
        address: of the server.
        seconds: for which requests are sent.
        rate: requests a second, each sent when it is due; 0: as fast as they are answered.
        connections: at a time; at a fixed rate, the most that there may be.
        people: who ask in turn; each asks for a page of `size` cards.
        first: the number of the first one.
    """

    address: str
    seconds: float
    rate: float
    connections: int
    people: int
    size: int = 10
    first: int = 0


class Answered(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        seconds: from the first request to the last answer.
        latencies_s: of the pages, from when each was due (or sent, in a closed loop).
        errors: answers that were no page, by status or kind.
        policies: how many pages were drawn by each policy and version; a page whose cards name more
            than one counts under "mixed".
        late_s: how much later than due the latest request was sent: the generator's own doing.
    """

    seconds: float
    latencies_s: tuple[float, ...]
    errors: dict[str, int]
    policies: dict[str, int]
    late_s: float

    @property
    def per_s(self) -> float:
        """Pages a second."""
        return len(self.latencies_s) / self.seconds


class _Card(msgspec.Struct):
    policy: str


class _Page(msgspec.Struct):
    items: tuple[_Card, ...]


class Generator:
    """A process that sends load; use it as a context manager."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def send(self, load: Load) -> Answered:
        """Send a load; return when the last answer is there."""
        return self._pool.submit(_send, load).result()

    def sending(self, load: Load) -> Callable[[], Answered]:
        """Begin to send a load; return what waits for its end."""
        return self._pool.submit(_send, load).result


def _send(load: Load) -> Answered:
    return asyncio.run(_Sender(load).run())


class _Sender:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._latencies_s: list[float] = []
        self._errors: dict[str, int] = {}
        self._policies: dict[str, int] = {}
        self._late_s = 0.0
        self._n_sent = 0
        self._decoder = msgspec.json.Decoder(_Page)
        scene = SceneBody(country="GB", language="en")
        self._bodies = [
            msgspec.json.encode(FeedRequest(f"person-{k}", size=load.size, scene=scene))
            for k in range(load.people)
        ]

    async def run(self) -> Answered:
        connector = aiohttp.TCPConnector(limit=self._load.connections)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            began_s = perf_counter()
            if self._load.rate:
                await self._send_when_due(session, began_s)
            else:
                await self._send_when_answered(session, began_s)
            ended_s = perf_counter()
        return Answered(
            ended_s - began_s,
            tuple(self._latencies_s),
            self._errors,
            self._policies,
            self._late_s,
        )

    async def _send_when_due(self, session: aiohttp.ClientSession, began_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            for k in range(round(self._load.rate * self._load.seconds)):
                due_s = began_s + k / self._load.rate
                if (pause_s := due_s - perf_counter()) > 0:
                    await asyncio.sleep(pause_s)
                self._late_s = max(self._late_s, perf_counter() - due_s)
                group.create_task(self._ask(session, due_s))

    async def _send_when_answered(self, session: aiohttp.ClientSession, began_s: float) -> None:
        async def go_on() -> None:
            while (now_s := perf_counter()) < began_s + self._load.seconds:
                await self._ask(session, now_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.connections):
                group.create_task(go_on())

    async def _ask(self, session: aiohttp.ClientSession, due_s: float) -> None:
        body = self._bodies[(self._load.first + self._n_sent) % len(self._bodies)]
        self._n_sent += 1
        try:
            address = f"{self._load.address}/v1/feed"
            async with session.post(address, data=body, headers=JSON) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(type(error).__name__)
            return
        if response.status == HTTPStatus.OK:
            self._latencies_s.append(perf_counter() - due_s)
            self._count(content)
        else:
            self._fail(str(response.status))

    def _count(self, content: bytes) -> None:
        drawn_by = {card.policy for card in self._decoder.decode(content).items}
        name = drawn_by.pop() if len(drawn_by) == 1 else "mixed" if drawn_by else "empty"
        self._policies[name] = self._policies.get(name, 0) + 1

    def _fail(self, why: str) -> None:
        self._errors[why] = self._errors.get(why, 0) + 1
