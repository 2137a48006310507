"""Exports the log for other tools: every line as JSON, or the decisions that can be evaluated.

A JSON line is one `{"offset", "written_ms", "record"}`, with bytes in base64. The other formats
hold seen and closed decisions: Parquet (`replay.join.exported.save`), Vowpal Wabbit's dsjson
(`replay.formats.dsjson_write`), or the arrays of the Open Bandit Pipeline as `.npz`
(`replay.formats.obp_write`). A file appears only once it is complete.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from replay.formats.dsjson_write import page_decisions, write_dsjson
from replay.formats.obp_write import bandit_feedback
from replay.join.exported import save
from replay.join.our_log import LogSource
from serve.config import Config
from serve.errors import JobError
from serve.jobs.evaluate import read_dataset
from serve.jobs.policies import behaviour
from serve.store.data_folder import open_data
from serve.store.store import StorePast

Advance = Callable[[int], None]
"""Called with the number of lines processed since the last call."""


def export_lines(config: Config, file: Path, advance: Advance | None = None) -> int:
    """Write every line that is in the log now; return their number.

    Raises:
        JobError: there is no log, or the file exists.
        LogCorruption: a line differs from the written one.
    """
    encoder, n = msgspec.json.Encoder(), 0
    with whole_file(file) as out, open_data(config) as store:
        for line in store.log.read():
            out.write(encoder.encode(line) + b"\n")
            n += 1
            if advance is not None:
                advance(1)
    return n


def export_parquet(
    config: Config, folder: Path, *, arm: str = "", advance: Advance | None = None
) -> int:
    """Write the seen and closed decisions as a folder of Parquet files; return their number.

    Args:
        config: data folder and reward.
        folder: must not exist.
        arm: arm of the experiment; empty: all pages.
        advance: progress callback; the total is the number of log lines.

    Raises:
        JobError: there is no log, the folder exists, or the log cannot be trusted.
        LogCorruption: a line differs from the written one.
    """
    _require_free(folder)
    with open_data(config) as store:
        dataset = read_dataset(config, store, arm, advance)
        _require_some(len(dataset), arm)
        aside = folder.with_name(f".{folder.name}.unfinished")
        save(dataset, aside, behaviour(config, store))
    aside.rename(folder)
    return len(dataset)


def export_dsjson(
    config: Config, file: Path, *, arm: str = "", advance: Advance | None = None
) -> int:
    """Write the decisions as dsjson, one per line, with cost = -reward; return their number.

    Args and errors are those of `export_parquet`, with a file for the folder.
    """
    with whole_file(file) as out, _source(config, arm, advance) as source:
        n = sum(write_dsjson(page_decisions(batch), out) for batch in source.batches())
        _require_some(n, arm)
        return n


def export_obp(config: Config, file: Path, *, arm: str = "", advance: Advance | None = None) -> int:
    """Write the decisions as the arrays of obp's `bandit_feedback` (`.npz`); return their number.

    Args and errors are those of `export_parquet`, with a file for the folder.
    """
    with whole_file(file) as out, _source(config, arm, advance) as source:
        feedback = {name: np.asarray(value) for name, value in bandit_feedback(source).items()}
        _require_some(len(feedback["reward"]), arm)
        np.savez(out, allow_pickle=False, **feedback)
        return len(feedback["reward"])


@contextmanager
def _source(config: Config, arm: str, advance: Advance | None) -> Iterator[LogSource]:
    """Yield the decisions of a log, which stays open until the end."""
    with open_data(config) as store:
        log = store.log
        try:
            yield LogSource(
                log.read,
                config.reward,
                arm=arm,
                behaviour=behaviour(config, store),
                advance=advance or (lambda n: None),
                default_reward=config.join.default_reward,
                past=StorePast(store),
            )
        except ValueError as error:
            raise JobError(f"the log cannot be exported: {error}") from error


@contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """Yield a file that gets its name only once it is complete."""
    _require_free(file)
    aside = file.with_name(f".{file.name}.unfinished")
    try:
        with aside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)


def _require_some(n: int, arm: str) -> None:
    """Refuse an arm without decisions: its name is most likely misspelt."""
    if arm and not n:
        raise JobError(f"--arm: expected an arm with decisions in the log, got {arm!r}")


def _require_free(path: Path) -> None:
    if path.exists():
        raise JobError(f"{path} exists already: choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise JobError(f"{path}: expected its folder to exist")
