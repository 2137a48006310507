"""File locks between the processes that share a database.

The kernel releases a lock when its holder dies, and a waiter sleeps until it is free. SQLite's own
wait polls, so that under load one process can starve the others. Measurements:
`docs/decisions/sqlite-log.md`.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which is created if missing.

    Args:
        file: stays empty, and must not be deleted while it is in use.
        wait: wait until it is free; else yield False and hold nothing if it is taken.
    """
    with file.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def held(opened: BinaryIO) -> Iterator[None]:
    """Hold the lock of an open file, waiting until it is free.

    It avoids the cost of opening the file, for callers that take the lock often.

    Args:
        opened: used by one thread at a time.
    """
    fcntl.flock(opened, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(opened, fcntl.LOCK_UN)


def write_turn(path: Path) -> Path:
    """Return the lock file by which a database's processes take turns to write."""
    return Path(f"{path}-turn")


def checkpoint_lock(path: Path) -> Path:
    """Return the lock file that admits one checkpoint at a time, and none during opening."""
    return Path(f"{path}-checkpoint")
