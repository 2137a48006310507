"""Benchmark of model swaps: a thousand versions go live while pages are served at full load.

The benchmark acts as the learner of a newer epoch. Windows with and without swaps alternate;
afterwards logged pages are redrawn by the version that each names, which must match exactly.
Method: `docs/decisions/bench-swaps.md`.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from env.interface import page_pmfs
from env.pages.records import Blocks
from env.records import PageRecord
from env.vocabulary import Page
from policies.bandit.scorer import HybridBanditScorer
from policies.snapshots import SnapshotStore
from serve.bench.edges import Edge, fill_generated, running
from serve.bench.feed import add_up
from serve.bench.open_loop import Generator, Load, LoadResult
from serve.clock import now_ms as wall_ms
from serve.config import Config
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args, open_snapshots
from serve.store.open import open_store

Advance = Callable[[str, int, int], None]
KEPT = 1_000
SETTINGS = f"[learner]\nsnapshots_kept = {KEPT}\n[join]\nsettle_ms = 0\n"
"""Keeps the snapshots needed to redraw pages, and learns from feedback at once."""

REPORT_EVERY = 4


class SwapsSize(msgspec.Struct, frozen=True):
    """Size of the benchmark.

    Attributes:
        swaps: versions to publish.
        windows: windows of each kind; versions are spread over those with swaps.
        per_s: versions per second; a learner publishes one, and a replica polls ten times.
        redrawn: pages to redraw.
    """

    swaps: int = 1_000
    windows: int = 20
    per_s: float = 3.0
    items: int = 10_000
    users: int = 2_000
    connections: int = 8
    redrawn: int = 500
    edge: Edge = "haproxy"


class SwapsResult(msgspec.Struct, frozen=True):
    """Cost of swaps.

    Attributes:
        served: versions that drew pages.
        pages: pages answered in windows with swaps.
        still_per_s, swapping_per_s: pages per second without and with swaps, median of the windows.
        still_p99_ms, swapping_p99_ms: answer time at full load, median of the windows.
        p99_ratio: swapping_p99_ms / still_p99_ms.
        errors: answers that were no page of one version, by kind.
        mismatches: pages that the named version does not reproduce; should be 0.
        told_apart: pages that the version before does not reproduce either: the check's power.
    """

    published: int
    served: int
    pages: int
    still_per_s: float
    swapping_per_s: float
    still_p99_ms: float
    swapping_p99_ms: float
    p99_ratio: float
    errors: dict[str, int]
    redrawn: int
    mismatches: int
    told_apart: int


def run_swaps(size: SwapsSize, *, seed: int, now_ms: int, advance: Advance) -> SwapsResult:
    """Serve pages at full load, with and without swaps in turn."""
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        home = Path(folder)
        users = fill_generated(
            home / "filled", items=size.items, users=size.users, seed=seed, now_ms=now_ms
        )
        with running(size.edge, home / "filled", home / "served", more=SETTINGS) as server:
            config = server.config
            load = Load(
                server.address,
                size.swaps / size.windows / size.per_s,
                0.0,
                size.connections,
                users,
                report_every=REPORT_EVERY,
            )
            generator.send(load)
            with closing(_Learner(config)) as learner:
                still, swapping = _alternate(size, generator, load, learner, advance)
        advance("draw again", 0, 1)
        redrawn, mismatches, told_apart = _redraw(config, size.redrawn, seed)
    still_p99, swapping_p99 = _p99_ms(still), _p99_ms(swapping)
    return SwapsResult(
        published=size.swaps,
        served=len({name for window in swapping for name in window.policies}),
        pages=sum(len(window.latencies_s) for window in swapping),
        still_per_s=float(np.median([window.per_s for window in still])),
        swapping_per_s=float(np.median([window.per_s for window in swapping])),
        still_p99_ms=still_p99,
        swapping_p99_ms=swapping_p99,
        p99_ratio=swapping_p99 / still_p99,
        errors=add_up([*still, *swapping]),
        redrawn=redrawn,
        mismatches=mismatches,
        told_apart=told_apart,
    )


def _alternate(
    size: SwapsSize, generator: Generator, load: Load, learner: "_Learner", advance: Advance
) -> tuple[list[LoadResult], list[LoadResult]]:
    still: list[LoadResult] = []
    swapping: list[LoadResult] = []
    for k in range(size.windows):
        advance("windows", k, size.windows)
        n_versions = size.swaps * (k + 1) // size.windows - size.swaps * k // size.windows
        for windows, publishes in ((still, False), (swapping, True)):
            first = (2 * k + publishes) * 499
            answered = generator.sending(msgspec.structs.replace(load, first=first))
            learner.learn(n_versions, size.per_s, publishes=publishes)
            windows.append(answered())
    return still, swapping


def _p99_ms(windows: list[LoadResult]) -> float:
    """Return the median p99 over windows, in which one stalled window counts once."""
    return float(np.median([1e3 * np.percentile(window.latencies_s, 99) for window in windows]))


class _Learner:
    """The learner of a newer epoch, which learns and publishes on demand."""

    def __init__(self, config: Config) -> None:
        self._store = open_store(config, wall_ms)
        self._learner = OnlineLearner(
            self._store,
            open_snapshots(config),
            learning_args(config),
            now_ms=wall_ms,
            monotonic_s=time.monotonic,
            publish_every_s=float("inf"),
            tick_after_s=1.0,
        )

    def learn(self, n: int, per_s: float, *, publishes: bool) -> None:
        """Learn n times at a rate per second; publish a version each time if asked to."""
        began_s = time.monotonic()
        for k in range(n):
            time.sleep(max(0.0, began_s + k / per_s - time.monotonic()))
            self._learner.step()
            if publishes:
                self._learner.publish()

    def close(self) -> None:
        self._store.close()


def _redraw(config: Config, n: int, seed: int) -> tuple[int, int, int]:
    """Return counts of redrawn pages, and of mismatches of the named and the previous version."""
    store = open_snapshots(config)
    known = set(store.versions())
    versions = [
        (page, version) for page, version in _pages(config) if {version, version - 1} <= known
    ]
    chosen = np.random.default_rng(seed).permutation(len(versions))[:n]
    pairs = [versions[k] for k in chosen]
    mismatches = sum(not _explains(config, store, page, version) for page, version in pairs)
    told_apart = sum(not _explains(config, store, page, version - 1) for page, version in pairs)
    return len(pairs), mismatches, told_apart


def _pages(config: Config) -> Iterator[tuple[Page, int]]:
    blocks = Blocks()
    with open_store(config, wall_ms) as store:
        for line in store.log.read():
            blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                yield blocks.page(line.record), int(line.record.policy.partition("@")[2])


def _explains(config: Config, store: SnapshotStore, page: Page, version: int) -> bool:
    """Return whether a version gives each card of a page its logged probability."""
    data = store.load_part(version, "scorer")
    policy = HybridBanditScorer.from_bytes(data, config.feed.explorer, version)
    pmfs = page_pmfs(page, policy)
    return all(pmf[decision.action] == decision.propensity for decision, pmf in pmfs)
