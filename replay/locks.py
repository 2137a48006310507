"""Locks between the processes that share a database: files that the kernel watches over.

A lock is gone when its holder dies, and who waits for it sleeps until it is free. SQLite's own
wait polls, up to every 100 ms, so that under load one process can keep the others out: of three
that write all the time, the slowest commit took 1 s; taking turns by such a lock it took 25 ms,
at the same throughput.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is missing.

    Args:
        file: stays empty, and must not be deleted while it is in use.
        wait: until it is free; else yield False, and hold nothing, if it is taken.
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
    """Hold the lock of a file that is open, as `locked` does, waiting until it is free.

    For who takes it often: opening and closing are as dear as the lock.

    Args:
        opened: used by one thread at a time.
    """
    fcntl.flock(opened, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(opened, fcntl.LOCK_UN)


def write_turn(path: Path) -> Path:
    """Return the file by which the processes of a database take turns to write."""
    return Path(f"{path}-turn")


def checkpoint_lock(path: Path) -> Path:
    """Return the file by which one checkpoint runs at a time, and none while a database opens."""
    return Path(f"{path}-checkpoint")
