"""Benchmark of durable feedback: events per second of one replica, and acknowledgement latency.

A replica runs behind a real socket in its own process; posters in this one send batches of 50
events, first in a closed loop (throughput), then on timers (latency). The disk's fsync and the
store's memory are measured in the same run. Method: `docs/decisions/bench-log.md`.
"""

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from env.vocabulary import Floats
from env.world import generated
from serve.config import Config, ContentSettings, DataSettings, StoreSettings
from serve.jobs.import_data import import_items
from serve.store.data_folder import open_data
from serve.store.kind import StoreMemory
from serve.store.open import find_kind
from serve.wire.client import FeedClient
from serve.wire.feed import CardBody, Event, FeedbackRequest, FeedRequest

Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total."""

CARDS = 10
EVENTS_A_CARD = 5
EVENTS_A_BATCH = CARDS * EVENTS_A_CARD
PAGES_OPEN = 4
"""Pages drawn per user before the first is answered: as many as stay open."""

N_ITEMS = 1_000
PHASES_SEED = 1
N_PROBES = 200
PROBE_BYTES = 4_096


class LogSize(msgspec.Struct, frozen=True):
    """Size of the benchmark.

    Attributes:
        events: events in each half, closed and paced.
        rate: events per second due in the paced half.
    """

    events: int = 100_000
    posters: int = 64
    rate: float = 10_000.0

    @property
    def batches(self) -> int:
        """Batches in each half."""
        return self.events // EVENTS_A_BATCH


class MemoryUse(msgspec.Struct, frozen=True):
    """Bytes of the store's memory per item, page and event, including all that each one changes."""

    item: float
    page: float
    event: float


class LogResult(msgspec.Struct, frozen=True):
    """Measurements; `nextswipe bench log --help` gives the target of each figure.

    `memory` is None for a store that keeps its data on disk.
    """

    store: str
    size: LogSize
    events_per_s: float
    closed_ack_p50_ms: float
    paced_events_per_s: float
    ack_p50_ms: float
    ack_p99_ms: float
    fsync_p50_ms: float
    ack_p99_ratio: float
    replica_us_per_event: float
    events_acked: int
    events_logged: int
    memory: MemoryUse | None


class _Half(msgspec.Struct, frozen=True):
    """One half: its seconds, and the acknowledgement time of each batch."""

    seconds: float
    acks_s: Floats  # shape (batches,)


def run_log(size: LogSize, *, store: StoreSettings, now_ms: int, advance: Advance) -> LogResult:
    """Run both halves in a temporary data folder.

    Args:
        store: where an installation with a name of its own is made, and removed.
    """
    with tempfile.TemporaryDirectory(prefix="nextswipe-log-") as folder:
        settings = msgspec.structs.replace(store, name=f"bench-{Path(folder).name[-8:]}")
        config = Config(
            data=DataSettings(folder), store=settings, content=ContentSettings(titles=False)
        )
        measured = find_kind(settings).memory
        taken = [_taken_bytes(measured, config)]
        import_items(config, generated.catalogue(1, N_ITEMS, now_ms), now_ms)
        taken.append(_taken_bytes(measured, config))
        with _replica(config) as (address, cpu_s):
            fsyncs = _probe(Path(folder))
            drawn = asyncio.run(_draw(address, 2 * size.batches, advance))
            taken.append(_taken_bytes(measured, config))
            began_s = cpu_s()
            closed = asyncio.run(_post(address, size, drawn[: size.batches], advance, rate=None))
            spent_s = cpu_s() - began_s
            taken.append(_taken_bytes(measured, config))
            paced = asyncio.run(
                _post(address, size, drawn[size.batches :], advance, rate=size.rate)
            )
            fsyncs = np.concatenate([fsyncs, _probe(Path(folder))])
        memory = None if measured is None else _memory(taken, size)
        result = _result(config, size, closed, paced, fsyncs, spent_s, memory)
        if measured is not None:
            measured.remove(config)
        return result


def _taken_bytes(measured: StoreMemory | None, config: Config) -> int:
    return 0 if measured is None else measured.used_bytes(config)


def _memory(taken: Sequence[int], size: LogSize) -> MemoryUse:
    """Return bytes per item, page and event, from the memory before and after each step."""
    items, pages, events = np.diff(taken).tolist()
    n = size.batches
    return MemoryUse(items / N_ITEMS, pages / (2 * n), events / (n * EVENTS_A_BATCH))


def _result(
    config: Config,
    size: LogSize,
    closed: _Half,
    paced: _Half,
    fsyncs: Floats,
    spent_s: float,
    memory: MemoryUse | None,
) -> LogResult:
    n = size.batches * EVENTS_A_BATCH
    fsync_ms, ack_ms = 1e3 * float(np.median(fsyncs)), 1e3 * paced.acks_s
    with open_data(config) as store:
        logged = sum(1 for _ in store.log.read(kinds=["feedback"]))
    return LogResult(
        store=find_kind(config.store).name,
        size=size,
        events_per_s=n / closed.seconds,
        closed_ack_p50_ms=1e3 * float(np.median(closed.acks_s)),
        paced_events_per_s=n / paced.seconds,
        ack_p50_ms=float(np.median(ack_ms)),
        ack_p99_ms=float(np.quantile(ack_ms, 0.99)),
        fsync_p50_ms=fsync_ms,
        ack_p99_ratio=float(np.quantile(ack_ms, 0.99)) / max(fsync_ms, 1.0),
        replica_us_per_event=1e6 * spent_s / n,
        events_acked=2 * n,
        events_logged=logged,
        memory=memory,
    )


async def _draw(address: str, n: int, advance: Advance) -> list[tuple[CardBody, ...]]:
    """Return n pages, in an order in which the pages of a user are far apart."""
    users = -(-n // PAGES_OPEN)
    drawn: list[tuple[CardBody, ...]] = [()] * n

    async def draw(place: int) -> None:
        request = FeedRequest(f"user-{place % users}", size=CARDS)
        drawn[place] = (await client.feed(request)).items
        advance("draw pages", place, n)

    async with FeedClient(address) as client:
        await _share(16, [partial(draw, place) for place in range(n)])
    return drawn


async def _post(
    address: str,
    size: LogSize,
    pages: Sequence[tuple[CardBody, ...]],
    advance: Advance,
    *,
    rate: float | None,
) -> _Half:
    """Send a batch for each page, at a rate of events per second or in a closed loop."""
    acks_s = np.zeros(len(pages))
    batches = [FeedbackRequest(tuple(_events(page))) for page in pages]
    phases = np.sort(np.random.default_rng(PHASES_SEED).random(size.posters))
    turn_s = 0.0 if rate is None else size.posters * EVENTS_A_BATCH / rate

    async def post(place: int, began_s: float) -> None:
        due_s = time.perf_counter()
        if rate is not None:
            turn, poster = divmod(place, size.posters)
            due_s = began_s + (turn + phases[poster]) * turn_s
            await asyncio.sleep(max(due_s - time.perf_counter(), 0.0))
        answer = await client.feedback(batches[place])
        acks_s[place] = time.perf_counter() - due_s
        if answer.accepted != len(batches[place].events):
            raise RuntimeError(f"expected all events to be accepted, got {answer}")
        advance("post closed" if rate is None else "post paced", place, len(pages))

    async with FeedClient(address, connections=size.posters) as client:
        # Connecting is not part of the measurement.
        await asyncio.gather(*(client.ready() for _ in range(size.posters)))
        with _frozen():
            began_s = time.perf_counter()
            works = [partial(post, place, began_s) for place in range(len(pages))]
            await _share(size.posters, works)
            return _Half(time.perf_counter() - began_s, acks_s)


@contextmanager
def _frozen() -> Iterator[None]:
    """Exclude pending batches from garbage collection, whose pauses would stop every poster."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _share(n_workers: int, works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all works in order on a number of workers."""
    left = iter(works)

    async def work() -> None:
        for one in left:
            await one()

    await asyncio.gather(*(work() for _ in range(n_workers)))


def _events(page: Sequence[CardBody]) -> list[Event]:
    """Return a user's events for a page: five per card."""
    events = []
    for card in page:
        token, name = card.decision_id, f"{card.slot}"
        events += [
            Event(f"{name}-shown", token, "impression", 1),
            Event(f"{name}-10", token, "dwell", 2, 10.0),
            Event(f"{name}-20", token, "dwell", 3, 20.0),
            Event(f"{name}-felt", token, "like" if card.slot % 3 == 0 else "share", 4),
            Event(f"{name}-left", token, "leave", 5),
        ]
    return events


def _probe(folder: Path) -> Floats:
    """Return the seconds of repeated small appends with fsync."""
    took = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(N_PROBES):
            began_s = time.perf_counter()
            file.write(bytes(PROBE_BYTES))
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began_s)
    return np.array(took)


@contextmanager
def _replica(config: Config) -> Iterator[tuple[str, Callable[[], float]]]:
    """Run a replica in another process; yield its address and a function for its CPU seconds."""
    settings = msgspec.json.encode(config).decode()
    with subprocess.Popen(  # noqa: S603  # this module's own replica
        [sys.executable, "-m", "serve.bench.log_replica", settings],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None:
            raise RuntimeError("expected a pipe, got none")
        try:
            port = int(process.stdout.readline())
            yield f"http://127.0.0.1:{port}", lambda: _cpu_s(process.pid)
        finally:
            process.terminate()


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
