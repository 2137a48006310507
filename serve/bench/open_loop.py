"""A load generator in its own process, with an open loop (fixed rate) and a closed loop.

At a fixed rate, latency counts from when each request was due, so a stalled server cannot hide its
delay (coordinated omission). The closed loop measures throughput only. Reasons and rejected
designs: `docs/decisions/bench-load.md`.
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

from serve.wire.feed import Event, FeedbackRequest, FeedRequest

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 30.0
DWELL_S = 9.0


class Load(msgspec.Struct, frozen=True):
    """A load to send.

    Attributes:
        seconds: duration of sending.
        rate: requests per second, each sent when it is due; 0: closed loop.
        connections: concurrent connections; at a fixed rate, the maximum.
        users: user ids, which request pages of `size` cards in turn.
        first: index of the first user.
        report_every: one page in this many gets feedback, an impression and a dwell per card, so
            that there is something to learn; 0: none.
    """

    address: str
    seconds: float
    rate: float
    connections: int
    users: tuple[str, ...]
    size: int = 10
    first: int = 0
    report_every: int = 10


class LoadResult(msgspec.Struct, frozen=True):
    """The outcome of a load.

    Attributes:
        seconds: time from the first request to the last answer.
        latencies_s: latency of each page, from when it was due (or sent, in a closed loop).
        errors: failed answers by status or kind; "empty" is a page without cards, "mixed" one with
            cards of more than one version.
        policies: number of pages by policy and version.
        late_s: largest delay between due and sent: the generator's own error.
    """

    seconds: float
    latencies_s: tuple[float, ...]
    errors: dict[str, int]
    policies: dict[str, int]
    late_s: float

    @property
    def per_s(self) -> float:
        """Pages per second."""
        return len(self.latencies_s) / self.seconds


class _Card(msgspec.Struct):
    decision_id: str
    policy: str


class _Page(msgspec.Struct):
    items: tuple[_Card, ...]


class Generator:
    """A process that sends load; a context manager."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def send(self, load: Load) -> LoadResult:
        """Send a load; return once the last answer has arrived."""
        return self._pool.submit(_send, load).result()

    def sending(self, load: Load) -> Callable[[], LoadResult]:
        """Start sending a load; return a function that waits for its end."""
        return self._pool.submit(_send, load).result


def _send(load: Load) -> LoadResult:
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
        self._bodies = [
            msgspec.json.encode(FeedRequest(user_id, size=load.size)) for user_id in load.users
        ]

    async def run(self) -> LoadResult:
        connector = aiohttp.TCPConnector(limit=self._load.connections)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            began_s = perf_counter()
            if self._load.rate:
                await self._send_when_due(session, began_s)
            else:
                await self._send_when_answered(session, began_s)
            ended_s = perf_counter()
        return LoadResult(
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
        number = self._n_sent
        self._n_sent += 1
        body = self._bodies[(self._load.first + number) % len(self._bodies)]
        content = await self._post(session, "/v1/feed", body, HTTPStatus.OK)
        if content is None:
            return
        self._latencies_s.append(perf_counter() - due_s)
        page = self._decoder.decode(content)
        self._count(page)
        if self._load.report_every and number % self._load.report_every == 0:
            await self._post(session, "/v1/feedback", _report(page), HTTPStatus.ACCEPTED)

    async def _post(
        self, session: aiohttp.ClientSession, path: str, body: bytes, status: HTTPStatus
    ) -> bytes | None:
        """Return the answer's body, or None after counting an unexpected answer."""
        try:
            async with session.post(
                f"{self._load.address}{path}", data=body, headers=JSON
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(type(error).__name__)
            return None
        if response.status != status:
            self._fail(str(response.status))
            return None
        return content

    def _count(self, page: _Page) -> None:
        drawn_by = {card.policy for card in page.items}
        if len(drawn_by) != 1:
            self._fail("mixed" if drawn_by else "empty")
        for name in drawn_by:
            self._policies[name] = self._policies.get(name, 0) + 1

    def _fail(self, why: str) -> None:
        self._errors[why] = self._errors.get(why, 0) + 1


def _report(page: _Page) -> bytes:
    """Return the feedback of a user who watched each card for `DWELL_S`."""
    events = [
        event
        for card in page.items
        for event in (
            Event(f"{card.decision_id}-seen", card.decision_id, "impression", 1),
            Event(f"{card.decision_id}-dwell", card.decision_id, "dwell", 1, DWELL_S),
        )
    ]
    return msgspec.json.encode(FeedbackRequest(tuple(events)))
