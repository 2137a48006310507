"""This module opens data folders for command-line jobs and checks that they are idle.

A job may run beside a server or without one. It refuses before it changes anything.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from replay.log.sqlite.checkpoint import locked
from serve.config import Config
from serve.errors import JobError
from serve.store.kind import FileCopies, FrozenStore, StoreKind
from serve.store.lease import LeaseHeld
from serve.store.open import find_kind, open_store
from serve.store.store import Store, StoreUnavailable

SERVING_LOCK = "serving.lock"
SERVING = "serving.json"
NOT_SAID = "a process that has just begun or ended"
TRIES, PAUSE_S = 4, 0.05


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
        address: where its API listens; empty: not known yet.
    """

    pid: int
    host: str
    since_ms: int
    address: str = ""

    def __str__(self) -> str:
        """Say where it can be found.

        >>> str(Holder(7, "box", 0))
        'process 7 on box, since 1970-01-01 00:00:00 UTC'
        >>> str(Holder(7, "box", 0, "http://127.0.0.1:8000"))
        'process 7 on box, since 1970-01-01 00:00:00 UTC, at http://127.0.0.1:8000'
        """
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC)
        said = f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"
        return f"{said}, at {self.address}" if self.address else said


Say = Callable[[str], None]
"""Writes down where the server listens."""


@contextlib.contextmanager
def sole_server(
    config: Config, now_ms: int, *, lost: Callable[[str], None] = lambda reason: None
) -> Iterator[Say]:
    """Be the one server on a data folder, which is made where it is missing, and on its store.

    A second one would take over the learning of the first. The kernel lets go of the lock when
    this process dies, however it does, and none of its children has it. A store that several
    machines share has a lease besides.

    Args:
        config: names the folder.
        now_ms: Unix milliseconds.
        lost: called with the reason where another server has taken the lease meanwhile.

    Yields:
        What writes down the address of the server, once it is known.

    Raises:
        JobError: another server is on it, and which; or the folder cannot be made.
    """
    folder = Path(config.data.folder)
    _make(folder)
    file = folder / SERVING
    with _lock(folder) as is_ours:
        if not is_ours:
            raise JobError(
                f"{folder} is served already, by `nextswipe up` as {_told_holder(folder)}: "
                "stop that one, or serve another folder (--data)"
            )

        me = Holder(os.getpid(), socket.gethostname(), now_ms)

        def say(address: str) -> None:
            holder = msgspec.structs.replace(me, address=address)
            aside = file.with_suffix(".new")
            aside.write_bytes(msgspec.json.encode(holder))
            aside.replace(file)

        say("")
        try:
            with _leased(config, me, lost):
                yield say
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _leased(config: Config, me: Holder, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold the lease of a store that has one."""
    kind = find_kind(config.store)
    if kind.lease is None:
        yield
        return

    def tell(holder: bytes) -> None:
        lost(f"the store is served by {_decode(holder) or 'another server'} since")

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(kind.lease(config, msgspec.json.encode(me), tell))
        except LeaseHeld as error:
            raise JobError(
                f"{kind.describe(config)} is served already, by `nextswipe up` as "
                f"{_decode(error.holder) or NOT_SAID}: stop that one, or take another name for "
                "this installation (store.name)"
            ) from error
        except StoreUnavailable as error:
            raise JobError(f"{kind.describe(config)}: {error}") from error
        yield


def find_server(config: Config) -> Holder | None:
    """Return who serves a data folder; None: nobody does.

    Raises:
        JobError: somebody does, and has not said who.
    """
    folder = Path(config.data.folder)
    if not (folder / SERVING_LOCK).exists():
        return None
    with _lock(folder) as is_free:
        if is_free:
            return None
    holder = _read_holder(folder)
    if holder is None:
        raise JobError(f"{folder} is served by {NOT_SAID}: ask again")
    return holder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise JobError(
            f"expected a folder, got a file at {folder} or above it: name another (--data)"
        ) from error
    except OSError as error:
        raise JobError(
            f"expected to make the data folder {folder}, got: {error.strerror}; "
            "make it, or name another (--data)"
        ) from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Take the lock of a folder if it is free, and yield whether it was.

    Who only asks holds it for a moment, so a taken one is tried a few times.
    """
    for _ in range(TRIES - 1):
        with _locked(folder) as is_ours:
            if is_ours:
                yield True
                return
        time.sleep(PAUSE_S)
    with _locked(folder) as is_ours:
        yield is_ours


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    with contextlib.ExitStack() as stack:
        try:
            is_ours = stack.enter_context(locked(folder / SERVING_LOCK, wait=False))
        except PermissionError as error:
            raise JobError(
                f"expected to write into {folder}, got: {error.strerror}; "
                "chown it, or name another data folder (--data)"
            ) from error
        yield is_ours


def _told_holder(folder: Path) -> Holder | str:
    return _read_holder(folder) or NOT_SAID


def _read_holder(folder: Path) -> Holder | None:
    try:
        return _decode((folder / SERVING).read_bytes())
    except OSError:
        return None


def _decode(holder: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(holder, type=Holder)
    except msgspec.MsgspecError:
        return None
