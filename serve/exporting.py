"""Writes the log for other tools: every line as JSON, or its decisions as Parquet.

JSON lines are the whole log, one `{"offset", "written_ms", "record"}` a line, the record as it is
in the log with bytes in base64. Parquet is the dataset that evaluation reads: one row a decision
that was seen and closed (`replay.dataset.save`). Both are there whole or not at all.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from replay.dataset import save
from replay.log import SqliteLog
from serve.config import Config
from serve.data_folder import open_data
from serve.evaluating import read_dataset
from serve.refused import Refused

Advance = Callable[[int], None]
"""Told how many lines were done since it was last told."""


def export_lines(config: Config, file: Path, advance: Advance | None = None) -> int:
    """Write every line that is in the log now; return how many.

    Raises:
        Refused: no log, or the file is there already.
        LogCorruption: a line is not what was written.
    """
    _require_free(file)
    aside = file.with_name(f".{file.name}.unfinished")
    encoder, n = msgspec.json.Encoder(), 0
    try:
        with open_data(config) as database, aside.open("wb") as out:
            for line in SqliteLog(database, now_ms=lambda: 0).read():
                out.write(encoder.encode(line) + b"\n")
                n += 1
                if advance is not None:
                    advance(1)
            out.flush()
            os.fsync(out.fileno())
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)
    return n


def export_parquet(
    config: Config, folder: Path, *, arm: str = "", advance: Advance | None = None
) -> int:
    """Write the seen and closed decisions as a folder of Parquet files; return how many.

    Args:
        config: data folder and reward.
        folder: made; must not be there.
        arm: of the experiment; empty: all pages.
        advance: told of progress; in total, of as many lines as the log has.

    Raises:
        Refused: no log, the folder is there already, or the log cannot be trusted.
        LogCorruption: a line is not what was written.
    """
    _require_free(folder)
    with open_data(config) as database:
        dataset = read_dataset(config, SqliteLog(database, now_ms=lambda: 0), arm, advance)
    aside = folder.with_name(f".{folder.name}.unfinished")
    save(dataset, aside)
    aside.rename(folder)
    return len(dataset)


def _require_free(path: Path) -> None:
    if path.exists():
        raise Refused(f"{path} exists already: choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise Refused(f"{path}: expected its folder to exist")
