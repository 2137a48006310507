"""Checks, before the server starts, of the disk or Redis that an acknowledgement waits for.

They write a file on the disk and a key on the Redis repeatedly, and remove both.
"""

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from serve.config import Config, StoreSettings
from serve.finding import Finding
from serve.store import StoreUnavailable, unavailable
from serve.stores import open_store

LEAST_FREE_BYTES = 1 << 30
SLOW_S = 0.02
NEARLY_FULL = 0.9
N_WRITES = 10
WRITE_BYTES = 4096
KEPT_S = 60


def look_at_disk(config: Config) -> tuple[Finding, float]:
    """Check the data folder, or its nearest existing parent; also return the fsync's seconds."""
    folder = Path(config.data.folder).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            fsync_s = _median_s(lambda: _append(file.fileno()))
    except OSError as error:
        return Finding("disk", "wrong", f"{there} cannot be written: {error.strerror}"), 0.0
    free = shutil.disk_usage(there).free
    said = f"{there}: {free / 2**30:.1f} GB free, fsync {1e3 * fsync_s:.1f} ms"
    if free < LEAST_FREE_BYTES:
        grows = "snapshots come to it" if config.store.url else "the log only grows"
        return Finding("disk", "wrong", f"{said}: less than 1 GB, and {grows}"), fsync_s
    if fsync_s > SLOW_S and not config.store.url:
        return Finding("disk", "look", f"{said}: each feedback waits for one"), fsync_s
    return Finding("disk", "well", said), fsync_s


def look_at_store(config: Config) -> Finding:
    """Check a Redis without making a log there; a file is the disk's check."""
    settings = config.store
    if not settings.url:
        return Finding("store", "well", "a database in the data folder")
    from replay.redis_client import RedisError
    from replay.redis_database import NoLog

    try:
        open_store(config, lambda: 0, make=False).close()
        said = f"a log of {settings.name}"
    except NoLog:
        said = f"a log of {settings.name} will be made at the start"
    except (ValueError, StoreUnavailable) as error:
        return Finding("store", "wrong", f"store.url: {error}")
    try:
        return _look_at_redis(settings, said)
    except RedisError as error:
        return Finding("store", "wrong", f"store.url: {unavailable(error)}")


def _look_at_redis(settings: StoreSettings, said: str) -> Finding:
    from replay.redis_client import Client

    client, key = Client(settings.url), f"{{{settings.name}.0}}:doctor"
    try:
        used_bytes, most_bytes = client.memory()
        write_s = _median_s(lambda: client.ask("SET", key, bytes(WRITE_BYTES), "EX", KEPT_S))
        client.ask("UNLINK", key)
    finally:
        client.close()
    said += f", {used_bytes / 2**30:.1f} GB taken, a write {1e3 * write_s:.1f} ms"
    if not settings.durable:
        return Finding("store", "look", f"{said}: acknowledged ones may be lost (store.durable)")
    if not most_bytes:
        return Finding("store", "look", f"{said}; no maxmemory: when full it is killed, set one")
    said += f", full at {most_bytes / 2**30:.1f} GB"
    if used_bytes > NEARLY_FULL * most_bytes:
        return Finding("store", "look", f"{said}: it will refuse writes, and the log only grows")
    if write_s > SLOW_S:
        return Finding("store", "look", f"{said}: each feedback waits for one")
    return Finding("store", "well", said)


def _append(fd: int) -> None:
    os.write(fd, bytes(WRITE_BYTES))
    os.fsync(fd)


def _median_s(write: Callable[[], object]) -> float:
    times_s = []
    for _ in range(N_WRITES):
        began_s = perf_counter()
        write()
        times_s.append(perf_counter() - began_s)
    return statistics.median(times_s)
