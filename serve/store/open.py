"""This module opens the store that the configuration names."""

from collections.abc import Callable
from pathlib import Path

from serve.config import Config
from serve.store.sqlite import SqliteStore
from serve.store.store import Store

DATABASE = "nextswipe.db"


def open_store(config: Config, now_ms: Callable[[], int], *, make: bool = True) -> Store:
    """Open the store; the caller closes it.

    The data folder exists with either store: it holds the secret, snapshots and rankers.

    Args:
        config: names the data folder or the Redis server.
        now_ms: the wall clock, for `LogLine.written_ms`.
        make: make a missing store and data folder; otherwise refuse and write nothing.

    Raises:
        ValueError: the store is missing, was written by a newer nextswipe, has another number of
            shards, or lacks the configured durability.
        StoreUnavailable: the server cannot be reached.
        sqlite3.DatabaseError: the file is no database or cannot be opened.
    """
    folder = Path(config.data.folder)
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    if config.store.url:
        from serve.store.redis import RedisStore

        return RedisStore(
            config.store.url,
            now_ms,
            name=config.store.name,
            n_shards=config.store.shards,
            durable=config.store.durable,
            make=make,
        )
    path = folder / DATABASE
    if not make and not path.is_file():
        raise ValueError(f"expected a data folder with {DATABASE}, found none")
    return SqliteStore(path, now_ms)
