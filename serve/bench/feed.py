"""Benchmark of Ray Serve's cost per page: plain uvicorn, the fast edge and Serve's default.

The three servers run side by side over copies of one data folder and are loaded in turn, so the
ratio of a round compares neighbouring windows. Latency is then measured at a fixed rate, from when
each page was due. Method: `docs/decisions/bench-load.md`.
"""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import msgspec
import numpy as np

from serve.bench.decide import run_decide
from serve.bench.edges import Edge, ServerProcess, fill_generated, running
from serve.bench.open_loop import Generator, Load, LoadResult

Advance = Callable[[str, int, int], None]
EDGES: tuple[Edge, ...] = ("bare", "haproxy", "proxy")


class FeedSize(msgspec.Struct, frozen=True):
    """Size of the benchmark.

    Attributes:
        rounds: rounds, each with one window per edge.
        window_s: length of a window.
        rate: pages per second of the open loop.
        open_s: length of the open loop.
    """

    items: int = 10_000
    users: int = 2_000
    connections: int = 8
    rounds: int = 7
    window_s: float = 3.0
    rate: float = 100.0
    open_s: float = 30.0


class FeedResult(msgspec.Struct, frozen=True):
    """Cost of a page.

    Attributes:
        page_ms: median time to draw 10 cards out of 100 candidates, without HTTP and commit.
        bare_per_s, pages_per_s, default_per_s: pages per second under uvicorn, nextswipe's default
            configuration and Serve's default; medians of the rounds.
        ratio_to_bare: pages_per_s / bare_per_s, median of the rounds; also its minimum and maximum.
        ratio_to_default: pages_per_s / default_per_s, median of the rounds.
        p50_ms, p99_ms: latency at `rate` pages per second, from when each was due.
        sent_late_ms: largest delay of the generator itself.
        idle_mb: memory of the whole server before the load, learner included.
        errors: failed answers, over all windows of all edges.
    """

    items: int
    users: int
    connections: int
    seed: int
    page_ms: float
    bare_per_s: float
    pages_per_s: float
    default_per_s: float
    ratio_to_bare: float
    ratio_to_bare_range: tuple[float, float]
    ratio_to_default: float
    rate: float
    p50_ms: float
    p99_ms: float
    sent_late_ms: float
    idle_mb: float
    errors: dict[str, int]


def run_feed(
    size: FeedSize,
    *,
    seed: int,
    now_ms: int,
    clock_ns: Callable[[], int],
    advance: Advance,
) -> FeedResult:
    """Start the servers, load them in turn, then one of them at a fixed rate.

    Args:
        seed: seed of the catalogue and the users.
    """
    page_ms = run_decide(
        n_items=size.items,
        n_pages=300,
        seed=seed,
        now_ms=now_ms,
        clock_ns=clock_ns,
        advance=lambda *_: None,
        n_warm_pages=100,
    ).page_p50_ms
    with tempfile.TemporaryDirectory() as folder, ExitStack() as others, ExitStack() as stack:
        home = Path(folder)
        users = fill_generated(
            home / "filled", items=size.items, users=size.users, seed=seed, now_ms=now_ms
        )
        generator = stack.enter_context(Generator())
        servers = {}
        for k, edge in enumerate(EDGES):
            advance("start", k, len(EDGES))
            keeper = stack if edge == "haproxy" else others
            servers[edge] = keeper.enter_context(running(edge, home / "filled", home / edge))
        loads = _Loads(generator, size, users)
        idle_mb = servers["haproxy"].memory_bytes() / 2**20
        loads.warm(servers)
        windows = loads.in_turn(servers, advance)
        others.close()
        advance("open loop", 0, 1)
        steady = loads.steady(servers["haproxy"])
    per_s = {edge: np.array([window.per_s for window in windows[edge]]) for edge in EDGES}
    to_bare = per_s["haproxy"] / per_s["bare"]
    latencies_ms = 1e3 * np.array(steady.latencies_s)
    return FeedResult(
        items=size.items,
        users=size.users,
        connections=size.connections,
        seed=seed,
        page_ms=page_ms,
        bare_per_s=float(np.median(per_s["bare"])),
        pages_per_s=float(np.median(per_s["haproxy"])),
        default_per_s=float(np.median(per_s["proxy"])),
        ratio_to_bare=float(np.median(to_bare)),
        ratio_to_bare_range=(float(to_bare.min()), float(to_bare.max())),
        ratio_to_default=float(np.median(per_s["haproxy"] / per_s["proxy"])),
        rate=size.rate,
        p50_ms=float(np.percentile(latencies_ms, 50)),
        p99_ms=float(np.percentile(latencies_ms, 99)),
        sent_late_ms=1e3 * steady.late_s,
        idle_mb=idle_mb,
        errors=add_up([steady, *(window for edge in EDGES for window in windows[edge])]),
    )


def add_up(windows: list[LoadResult]) -> dict[str, int]:
    """Return the errors of all windows, by kind."""
    total: dict[str, int] = {}
    for window in windows:
        for kind, n in window.errors.items():
            total[kind] = total.get(kind, 0) + n
    return total


class _Loads:
    """The loads of one run; users take turns across all of them."""

    def __init__(self, generator: Generator, size: FeedSize, users: tuple[str, ...]) -> None:
        self._generator = generator
        self._size = size
        self._users = users
        self._numbers = count()

    def warm(self, servers: dict[Edge, ServerProcess]) -> None:
        """Load each server briefly, so that no window includes a cold start."""
        for edge in EDGES:
            self._generator.send(self._load(servers[edge], 0.0, 1.0))

    def in_turn(
        self, servers: dict[Edge, ServerProcess], advance: Advance
    ) -> dict[Edge, list[LoadResult]]:
        """Load one server after the other, round by round."""
        windows: dict[Edge, list[LoadResult]] = {edge: [] for edge in EDGES}
        for k in range(self._size.rounds):
            advance("rounds", k, self._size.rounds)
            for edge in EDGES:
                load = self._load(servers[edge], 0.0, self._size.window_s)
                windows[edge].append(self._generator.send(load))
        return windows

    def steady(self, server: ServerProcess) -> LoadResult:
        return self._generator.send(self._load(server, self._size.rate, self._size.open_s))

    def _load(self, server: ServerProcess, rate: float, seconds: float) -> Load:
        size = self._size
        return Load(
            server.address,
            seconds,
            rate,
            1_000 if rate else size.connections,
            self._users,
            first=997 * next(self._numbers),
        )
