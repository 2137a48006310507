"""A sharded log and its tables on one Redis server, with group commits, for several processes.

A writer queues a function for one shard and gets a future. One thread runs the queued functions as
one transaction per shard and sends all scripts in one round trip. A server that may lose
acknowledged writes is refused unless the operator allows it. Reasons and rejected alternatives:
`docs/decisions/redis-log.md`.
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


class NotDurable(ValueError):  # noqa: N818  # a state, not a mistake
    """The server answers before a write is on disk."""


class NoLog(ValueError):  # noqa: N818  # a state, not a mistake
    """There is no installation with this name."""


class RedisDatabase:
    """An open installation on a Redis server; threads share it, and each process opens its own."""

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
            now_ms: wall clock, for `LogLine.written_ms`.
            name: installation; one server may hold several.
            n_shards: shards of users, fixed when the installation is created.
            durable: raise NotDurable if the server replies before a write is on disk.
            make: create a missing installation; otherwise raise NoLog and write nothing.

        Raises:
            ValueError: another number of shards, or a newer nextswipe wrote it.
            RedisError: the server cannot be reached.
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
        """Whether writes are refused."""
        return self._writer.is_closed

    def shard_of(self, name: str) -> int:
        """Return the shard, from 1, of a user given by the caller's id or the pseudonym."""
        return 1 + zlib.crc32(name.encode()) % self.n_shards

    def write(self, work: Work[T], *, shard: int, reads: Sequence[Key] = ()) -> Future[T]:
        """Queue a function; its future resolves with the function's result after the commit.

        A function that raises is rolled back and fails only its own future; a failed commit fails
        all that were in it. It may run several times, and the last run counts.

        Args:
            work: called with a transaction.
            shard: shard that it reads and writes.
            reads: rows that it will probably read; those of all queued functions are fetched in one
                round trip.

        Raises:
            RuntimeError: the database is closed.
        """
        return self._writer.write(Job(work, shard, tuple(reads), Future[T]()))

    def close(self) -> None:
        """Commit queued work, stop the thread and disconnect; a second call does nothing."""
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
