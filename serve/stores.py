"""Opens the store that the configuration names."""

from collections.abc import Callable
from pathlib import Path

from serve.config import Config
from serve.sqlite_store import SqliteStore
from serve.store import Store

DATABASE = "nextswipe.db"


def open_store(config: Config, now_ms: Callable[[], int]) -> Store:
    """Open the store, made if it is missing; whoever opens it closes it.

    Args:
        config: names the data folder.
        now_ms: the wall clock, for `LogLine.written_ms`.
    """
    folder = Path(config.data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteStore(folder / DATABASE, now_ms)
