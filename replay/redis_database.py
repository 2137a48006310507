"""A log and its tables on one Redis server: shards, a group-commit writer, several processes.

The twin of `replay.database`: whoever writes hands over a piece of work for one shard and gets a
future. One thread takes everything that has queued up meanwhile, runs what is for the same shard
as one transaction, sends one script a shard in one trip, and resolves the futures after the answer.
Where somebody else wrote what a transaction had read, its work runs again on what is true now.

Durable means what Redis means by it: with `appendfsync always` a write is answered after the fsync
of the append-only file, which it shares with all that arrived together. So a server that is set up
otherwise is refused, unless the operator says that acknowledged writes may be lost.

Rejected: a trip for each transaction (one fsync each), and a cluster's client before there is a
cluster to test with (keys and scripts are made for one: a shard is one hash tag).
"""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from env.records import FORMAT_VERSION
from replay.log_format import require_known_format
from replay.redis_client import Client, ResponseError
from replay.redis_shard import Key, Shard
from replay.redis_writer import ITEMS, Job, Work, Writer, raise_marks

T = TypeVar("T")

_MEMORY = ("maxmemory", "maxmemory-policy")
_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class NotDurable(ValueError):  # noqa: N818  # it tells what was found
    """The server answers before a write is on disk."""


class NoLog(ValueError):  # noqa: N818  # it tells what was found
    """There is no installation of this name."""


class RedisDatabase:
    """An open installation on a Redis server; threads share it, processes open their own."""

    def __init__(
        self,
        url: str,
        now_ms: Callable[[], int],
        *,
        name: str,
        n_shards: int,
        durable: bool,
        make: bool = True,
    ) -> None:
        """Connect and start the writer.

        Args:
            url: redis://[user:password@]host[:port][/number]; rediss:// for TLS.
            now_ms: the wall clock, for `LogLine.written_ms`.
            name: of the installation; one server may hold several.
            n_shards: of users, fixed when the installation is made.
            durable: refuse a server that answers before a write is on disk.
            make: the installation, if it is missing; otherwise it is refused, and nothing written.

        Raises:
            NotDurable: it does.
            NoLog: it is missing.
            ValueError: another number of shards, or a newer nextswipe wrote it.
            RedisError: it cannot be reached.
        """
        self.client = Client(url)
        self.n_shards = n_shards
        self.shards = [Shard(self.client, name, number) for number in range(n_shards + 1)]
        try:
            if durable:
                _require_durable(self.client)
            if make:
                _make(self.client, self.shards[ITEMS].key("meta"), n_shards)
            _require_known(self.client, self.shards[ITEMS].key("meta"), name, n_shards)
            raise_marks(self.client, self.shards)
            self._writer = Writer(self.client, self.shards, now_ms)
        except BaseException:
            self.client.close()
            raise

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more writes."""
        return self._writer.is_closed

    def shard_of(self, name: str) -> int:
        """Return the shard of a user, by the caller's id or the pseudonym; from 1."""
        return 1 + zlib.crc32(name.encode()) % self.n_shards

    def write(self, work: Work[T], *, shard: int, reads: Sequence[Key] = ()) -> Future[T]:
        """Queue a piece of work; its future resolves, with what it returned, after the commit.

        Work that raises is undone and fails its own future only; a commit that fails fails all
        that were in it. It may run several times, and the last run counts.

        Args:
            work: called with a transaction.
            shard: that it is about.
            reads: rows that it will probably ask for; those of all that queued up are read in one
                trip.

        Raises:
            RuntimeError: the database is closed.
        """
        return self._writer.write(Job(work, shard, tuple(reads), Future[T]()))

    def close(self) -> None:
        """Commit what is queued, stop the thread and disconnect; again does nothing."""
        self._writer.close()
        self.client.close()


def _require_durable(client: Client) -> None:
    try:
        found = {name: client.setting(name) for name in (*_SETTINGS, *_MEMORY)}
    except ResponseError as error:
        raise NotDurable(
            f"expected to read the server's settings (CONFIG GET), got: {error}; allow it, or say "
            "that acknowledged writes may be lost (store.durable = false)"
        ) from error
    wrong = [f"{name} {found[name]}" for name in _SETTINGS if found[name] != _SETTINGS[name]]
    if wrong:
        expected = ", ".join(f"{name} {value}" for name, value in _SETTINGS.items())
        raise NotDurable(
            f"expected a Redis that has a write on disk before it answers ({expected}), got "
            f"{', '.join(wrong)}: set it (CONFIG SET, and in its file), or say that acknowledged "
            "writes may be lost (store.durable = false)"
        )
    if found["maxmemory"] != "0" and found["maxmemory-policy"] != "noeviction":
        raise NotDurable(
            "expected a Redis that evicts nothing when it is full, got maxmemory-policy "
            f"{found['maxmemory-policy']}: set noeviction"
        )


def _make(client: Client, meta: str, n_shards: int) -> None:
    """Write down what an installation is, where it is not."""
    fields = {"format": FORMAT_VERSION, "shards": n_shards}
    client.ask_all([("HSETNX", meta, field, value) for field, value in fields.items()])


def _require_known(client: Client, meta: str, name: str, n_shards: int) -> None:
    found = {field.decode(): int(value) for field, value in client.fields(meta).items()}
    if not found:
        raise NoLog(f"expected a log of {name}, found none (store.name)")
    require_known_format(found["format"], name)
    if found["shards"] != n_shards:
        raise ValueError(
            f"expected {found['shards']} shards, with which {name} was made, got {n_shards}: where "
            "a person is cannot change (store.shards)"
        )
