"""How long a large history takes to import, and how much memory, by the command that users run.

The file has the shape of KuaiRand's log: 40 views a user, items drawn by a power law, a dwell and
rare reactions. Each import is a process of its own, whose peak memory the kernel tells.
"""

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from env.vocabulary import CreatorId, Item, ItemId
from serve.clock import now_ms
from serve.config import Config, DataSettings
from serve.importers import history
from serve.jobs.import_data import import_items
from serve.store.data_folder import open_data
from serve.store.totals import Total
from tests.studies.history.gain import GainResult

VIEWS_A_USER = 40
N_ITEMS = 10_000
DAY_MS = 86_400_000


class SpeedResult(msgspec.Struct, frozen=True):
    """What an import took.

    Attributes:
        rows: of the file.
        file_mb: its size.
        seconds: of the command, from its start to its end.
        rss_mb: its largest memory.
        rows_per_s: rows over seconds.
        views: imported, as the log counts them.
        again_seconds: of a second import of the same file.
        repeated_views: that it left out.
        folder_mb: size of the data folder afterwards.
    """

    rows: int
    file_mb: float
    seconds: float
    rss_mb: float
    rows_per_s: float
    views: int
    again_seconds: float
    repeated_views: int
    folder_mb: float


class HistoryStudy(msgspec.Struct, frozen=True):
    """The parts that were asked for."""

    gain: GainResult | None
    speed: SpeedResult | None


class _Run(NamedTuple):
    seconds: float
    rss_mb: float


def run_speed(rows: int, *, seed: int, config: Config, work: Path) -> SpeedResult:
    """Measure.

    Args:
        rows: of the file.
        seed: of its content.
        config: of the server; the data folder is one in `work`.
        work: a folder that does not exist.
    """
    work.mkdir()
    data = work / "data"
    config = msgspec.structs.replace(config, data=DataSettings(folder=str(data)))
    import_items(config, [_item(k) for k in range(N_ITEMS)], now_ms())
    file = work / "history.csv"
    write_file(file, rows, seed)
    first, views = _import(file, data), _count(config)
    second = _import(file, data)
    return SpeedResult(
        rows=rows,
        file_mb=file.stat().st_size / 1e6,
        seconds=first.seconds,
        rss_mb=first.rss_mb,
        rows_per_s=rows / first.seconds,
        views=views,
        again_seconds=second.seconds,
        repeated_views=rows - (_count(config) - views),
        folder_mb=sum(each.stat().st_size for each in data.rglob("*") if each.is_file()) / 1e6,
    )


def write_file(path: Path, rows: int, seed: int) -> None:
    """Write a history of views whose users and times are all different."""
    rng = np.random.default_rng(seed)
    rank = np.minimum(rng.pareto(0.8, rows) * 20.0, 1e9).astype(np.int64) % N_ITEMS
    user = np.arange(rows) // VIEWS_A_USER
    order = rng.permutation(rows)
    table = pa.table(
        {
            history.USER: pa.array([f"u{k}" for k in user[order].tolist()]),
            history.ITEM: pa.array([f"v{k}" for k in rank[order].tolist()]),
            history.TIME: now_ms() - DAY_MS * 30 + order * 2_000,
            history.DWELL: np.round(rng.lognormal(1.9, 1.2, rows), 1),
            "like": (rng.random(rows) < 0.02).astype(np.int64),
            "follow": (rng.random(rows) < 0.002).astype(np.int64),
        }
    )
    pa_csv.write_csv(table, path)


def _item(k: int) -> Item:
    tags = (f"topic{k % 60}", f"style{k % 7}")
    creator = CreatorId(f"c{k % 2_000}")
    return Item(ItemId(f"v{k}"), creator=creator, title=f"Video {k}", tags=tags, duration_s=30.0)


def _import(file: Path, data: Path) -> _Run:
    command = [sys.executable, "-m", "serve.commands.main", "import", "interactions", str(file)]
    began_s = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        [*command, "--data", str(data)],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(
            f"expected the import to succeed, got {os.waitstatus_to_exitcode(status)}"
        )
    return _Run(time.perf_counter() - began_s, usage.ru_maxrss / 1e3)


def _count(config: Config) -> int:
    with open_data(config) as store, store.view() as view:
        return view.totals().get(Total("imported_views"), 0)
