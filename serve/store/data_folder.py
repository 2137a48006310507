"""This module opens data folders for command-line jobs and checks that they are idle.

A job may run beside a server or without one. It refuses before it changes anything.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from replay.log.sqlite.checkpoint import locked
from serve.config import Config
from serve.errors import JobError
from serve.store.kind import FileCopies, FrozenStore, StoreKind
from serve.store.open import find_kind, open_store
from serve.store.store import Store, StoreUnavailable

SERVING_LOCK = "serving.lock"
SERVING = "serving.json"


def open_data(
    config: Config, *, must_exist: bool = True, now_ms: Callable[[], int] = lambda: 0
) -> Store:
    """Open the data folder's store.

    Args:
        config: names the data folder.
        must_exist: refuse a missing log instead of making one.
        now_ms: the wall clock, for callers that write log lines.

    Raises:
        JobError: the store is missing or invalid, or a newer nextswipe wrote it.
    """
    with _refusing(config):
        return open_store(config, now_ms, make=not must_exist)


@contextlib.contextmanager
def freeze_data(config: Config) -> Iterator[FrozenStore]:
    """Lend the data folder's store as of one moment; raises as `open_data` and `copies_of`."""
    with contextlib.ExitStack() as stack:
        with _refusing(config):
            frozen = stack.enter_context(copies_of(config).freeze(config))
        yield frozen


def copies_of(config: Config) -> FileCopies:
    """Return how the store is copied.

    Raises:
        JobError: it is no file in the data folder.
    """
    kind = find_kind(config.store)
    if kind.copies is None:
        raise JobError(f"this needs a store that is a file in the data folder: {_told(kind)}")
    return kind.copies


def require_imports(config: Config) -> None:
    """Refuse a store that cannot take an import as a whole.

    Raises:
        JobError: its transactions are about one user, or about items.
    """
    kind = find_kind(config.store)
    if not kind.takes_imports:
        raise JobError(f"this needs a store that takes an import as a whole: {_told(kind)}")


def require_idle(config: Config) -> None:
    """Refuse a store that a process has open; a missing one is idle.

    Raises:
        JobError: a server, or another job, is running on it, or nobody can know.
    """
    kind = find_kind(config.store)
    if kind.require_idle is None:
        raise JobError(
            f"this needs a store of which it can be known that nobody uses it: {_told(kind)}"
        )
    try:
        kind.require_idle(config)
    except ValueError as error:
        raise JobError(str(error)) from error


def count_lines(config: Config) -> int:
    """Return the number of lines in the data folder's log; raises as `open_data`."""
    with open_data(config) as store:
        return store.log.count()


def _told(kind: StoreKind) -> str:
    return f"SQLite is one, this is {kind.name} (store.url)"


@contextlib.contextmanager
def _refusing(config: Config) -> Iterator[None]:
    kind = find_kind(config.store)
    try:
        yield
    except (ValueError, StoreUnavailable) as error:
        raise JobError(f"{kind.describe(config)}: {error}") from error


class Holder(msgspec.Struct, frozen=True):
    """Who serves from a data folder.

    Attributes:
        pid: of the process, on its machine.
        host: name of the machine.
        since_ms: Unix milliseconds.
    """

    pid: int
    host: str
    since_ms: int

    def __str__(self) -> str:
        """Say where it can be found.

        >>> str(Holder(7, "box", 0))
        'process 7 on box, since 1970-01-01 00:00:00 UTC'
        """
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC)
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"


@contextlib.contextmanager
def sole_server(config: Config, now_ms: int) -> Iterator[None]:
    """Be the one server on a data folder, which is made where it is missing.

    A second one would take over the learning of the first. The kernel lets go of the lock when
    this process dies, however it does, and none of its children has it.

    Args:
        config: names the folder.
        now_ms: Unix milliseconds.

    Raises:
        Refused: another server is on it, and which.
    """
    folder = Path(config.data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / SERVING
    with locked(folder / SERVING_LOCK, wait=False) as is_ours:
        if not is_ours:
            raise JobError(
                f"{folder} is served already, by `nextswipe up` as {_read_holder(said)}: "
                "stop that one, or serve another folder (--data)"
            )
        said.write_bytes(msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), now_ms)))
        try:
            yield
        finally:
            said.unlink(missing_ok=True)


def _read_holder(file: Path) -> Holder | str:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return "a process that has just begun or ended"
