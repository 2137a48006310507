"""A kind of store: how it is opened, and what it can do.

The module of a store offers one `StoreKind`, and the scheme of the store's address finds it
(`serve.store.open`). A part that is None is something that the kind cannot do; callers ask for the
part, never which kind it is. How to add a kind: `docs/stores.md`.
"""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple, Protocol

from serve.config import Config
from serve.store.store import Store, View

N_WRITES = 10
WRITE_BYTES = 4096
SLOW_S = 0.02
"""Seconds of a write from which feedback, which waits for one, is slow."""

Verdict = Literal["well", "look", "wrong"]
"""The result of a check: "look" works, but could work better."""


class StoreHealth(NamedTuple):
    """What a store says of itself: the observation, and the remedy where it is not "well"."""

    verdict: Verdict
    says: str


class OpenKind(Protocol):
    """A function that opens a store."""

    def __call__(self, config: Config, now_ms: Callable[[], int], *, make: bool) -> Store:
        """Open the store; the caller closes it; see `serve.store.open.open_store`."""
        ...


class OpenLease(Protocol):
    """A function that holds a store's lease."""

    def __call__(
        self, config: Config, holder: bytes, lost: Callable[[bytes], None]
    ) -> AbstractContextManager[None]:
        """Hold the lease; see `serve.store.lease.held`."""
        ...


class FrozenStore(Protocol):
    """A store as of one moment, to be copied while others write to it."""

    @property
    def view(self) -> View:
        """The lookups as of that moment."""
        ...

    def n_pages(self) -> int:
        """Return the amount to be copied, in the unit of `advance`."""
        ...

    def copy(self, path: Path, advance: Callable[[int], None]) -> None:
        """Write a copy; call `advance` with the amount copied since the last call."""
        ...


@dataclass(frozen=True, slots=True)
class FileCopies:
    """How a store that is one file in the data folder is copied.

    Attributes:
        file: name of the file, in the data folder and in a backup.
        freeze: lends the store as of one moment; raises as `open_store`.
        last_offset: returns the offset of the last line in a copy.
        check: returns the same after checking all of a copy; raises ValueError for a damaged one.
    """

    file: str
    freeze: Callable[[Config], AbstractContextManager[FrozenStore]]
    last_offset: Callable[[Path], int]
    check: Callable[[Path], int]


@dataclass(frozen=True, slots=True)
class StoreMemory:
    """How the memory that a store takes is measured; for one that holds everything in memory.

    Attributes:
        used_bytes: returns the bytes that the whole server takes.
        remove: deletes an installation.
    """

    used_bytes: Callable[[Config], int]
    remove: Callable[[Config], None]


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store.

    Attributes:
        name: the kind in one word, for results and messages.
        open: opens a store of this kind.
        is_searchable: whether `View.search` finds items by words; else it raises `NotKept`.
        is_shared: whether several machines share it; else it lies in the data folder.
        takes_imports: whether one transaction may change items and all users, and keep the world
            that was fitted to them, so that an import is all or nothing.
        keeps_ray_state: whether its address is that of a Redis, where Ray's head may keep its own
            state as well.
        check: looks at it without making anything, for `nextswipe doctor`; None: opening it is the
            only check.
        lease: lends the lease that one server at a time holds; None: the lock of the data folder is
            enough. See `serve.store.lease.held`.
        require_idle: raises ValueError while a process has it open; None: nobody can know.
        copies: None: `nextswipe backup` refuses it.
        memory: None: it keeps its data on disk.
    """

    name: str
    open: OpenKind
    is_searchable: bool = False
    is_shared: bool = False
    takes_imports: bool = False
    keeps_ray_state: bool = False
    check: Callable[[Config], StoreHealth] | None = None
    lease: OpenLease | None = None
    require_idle: Callable[[Config], None] | None = None
    copies: FileCopies | None = None
    memory: StoreMemory | None = None

    @property
    def checks_itself(self) -> bool:
        """Whether it says more of itself than that it can be opened."""
        return self.check is not None

    def describe(self, config: Config) -> str:
        """Return where it is, for a message: without the address, which may hold a password."""
        return "store.url" if self.is_shared else config.data.folder


def median_s(write: Callable[[], object]) -> float:
    """Return the median seconds of a few calls."""
    times_s = []
    for _ in range(N_WRITES):
        began_s = perf_counter()
        write()
        times_s.append(perf_counter() - began_s)
    return statistics.median(times_s)
