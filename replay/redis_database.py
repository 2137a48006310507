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

import secrets
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from env.records import FORMAT_VERSION
from replay.redis_client import Client, Command, NoScriptError, RedisError, ResponseError
from replay.redis_script import COMMIT, CONFLICT, RAISE
from replay.redis_shard import STAMP_BYTES, Shard, ShardTransaction

T = TypeVar("T")
Work = Callable[[ShardTransaction], T]

ITEMS = 0
"""The shard of items, and of all that is about nobody."""

MAX_RUNS = 100
"""How often a transaction runs, while others write what it has read."""

_MEMORY = ("maxmemory", "maxmemory-policy")
_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class NotDurable(ValueError):  # noqa: N818  # it tells what was found
    """The server answers before a write is on disk."""


class Contended(RuntimeError):  # noqa: N818  # it tells what happened
    """Others wrote what a transaction had read, each time that it ran; nothing was written."""


class RedisDatabase:
    """An open installation on a Redis server; threads share it, processes open their own."""

    def __init__(
        self,
        url: str,
        now_ms: Callable[[], int],
        *,
        name: str = "nextswipe",
        n_shards: int = 8,
        durable: bool = True,
    ) -> None:
        """Connect, make the installation where it is missing, and start the writer.

        Args:
            url: redis://[user:password@]host[:port][/number]; rediss:// for TLS.
            now_ms: the wall clock, for `LogLine.written_ms`.
            name: of the installation; one server may hold several.
            n_shards: of people, fixed when the installation is made.
            durable: refuse a server that answers before a write is on disk.

        Raises:
            NotDurable: it does.
            ValueError: another number of shards, or a newer nextswipe wrote it.
            RedisError: it cannot be reached.
        """
        self.client = Client(url)
        try:
            if durable:
                _require_durable(self.client)
            _prepare(self.client, name, n_shards)
        except BaseException:
            self.client.close()
            raise
        self.n_shards = n_shards
        self.shards = [Shard(self.client, name, number) for number in range(n_shards + 1)]
        raise_marks(self.client, self.shards)
        self._writer = _Writer(self.client, self.shards, now_ms)

    def shard_of(self, name: str) -> int:
        """Return the shard of a person, by the caller's id or the pseudonym; from 1."""
        return 1 + zlib.crc32(name.encode()) % self.n_shards

    def write(self, work: Work[T], *, shard: int) -> Future[T]:
        """Queue a piece of work; its future resolves, with what it returned, after the commit.

        Work that raises is undone and fails its own future only; a commit that fails fails all
        that were in it. It may run several times, and the last run counts.

        Raises:
            RuntimeError: the database is closed.
        """
        return self._writer.write(work, shard)

    def close(self) -> None:
        """Commit what is queued, stop the thread and disconnect; again does nothing."""
        self._writer.close()
        self.client.close()


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Work[T]
    shard: int
    future: Future[T]

    def run(self, transaction: ShardTransaction) -> Callable[[], None]:
        """Do the work and return what settles the future after the commit."""
        try:
            result = self.work(transaction)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            transaction.drop()
            return partial(self.future.set_exception, error)
        transaction.keep()
        return partial(self.future.set_result, result)


@dataclass(frozen=True, slots=True)
class _Run:
    """What was worked out for one shard and is not committed yet."""

    jobs: Sequence[_Job[Any]]
    transaction: ShardTransaction
    settles: Sequence[Callable[[], None]]


class _Writer:
    """The one thread of a process that writes."""

    def __init__(self, client: Client, shards: Sequence[Shard], now_ms: Callable[[], int]) -> None:
        self._client = client
        self._shards = shards
        self._now_ms = now_ms
        self._commit_sha = client.ask("SCRIPT", "LOAD", COMMIT)
        self._queue: list[_Job[Any]] = []
        self._queued = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="redis writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T], shard: int) -> Future[T]:
        job = _Job(work, shard, Future[T]())
        with self._queued:
            if self._closing:
                raise RuntimeError("the database is closed")
            self._queue.append(job)
            self._queued.notify()
        return job.future

    def close(self) -> None:
        with self._queued:
            self._closing = True
            self._queued.notify()
        self._thread.join()

    def _run(self) -> None:
        while queued := self._take():
            jobs = [job for job in queued if job.future.set_running_or_notify_cancel()]
            by_shard: dict[int, list[_Job[Any]]] = {}
            for job in jobs:
                by_shard.setdefault(job.shard, []).append(job)
            self._commit(list(by_shard.values()))

    def _take(self) -> list[_Job[Any]]:
        with self._queued:
            self._queued.wait_for(lambda: self._queue or self._closing)
            jobs, self._queue = self._queue, []
        return jobs

    def _commit(self, groups: list[list[_Job[Any]]]) -> None:
        for n_runs in range(MAX_RUNS):
            if not groups:
                return
            # An event that was sent before is rare: the first run takes all for new.
            groups = self._try(groups, asks=n_runs > 0)
        for job in (job for group in groups for job in group):
            job.future.set_exception(Contended(f"expected to write within {MAX_RUNS} runs"))

    def _try(self, groups: list[list[_Job[Any]]], *, asks: bool) -> list[list[_Job[Any]]]:
        """Run and send one transaction a shard; return the jobs of those that must run again."""
        try:
            runs = [self._work_out(jobs, asks=asks) for jobs in groups]
            replies = self._send([run.transaction for run in runs])
            if any(run.transaction.shard is self._shards[ITEMS] for run in runs):
                raise_marks(self._client, self._shards)
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            for job in (job for jobs in groups for job in jobs):
                job.future.set_exception(error)
            return []
        for run, reply in zip(runs, replies, strict=True):
            if reply != CONFLICT:
                for settle in run.settles:
                    settle()
        done = zip(runs, replies, strict=True)
        return [list(run.jobs) for run, reply in done if reply == CONFLICT]

    def _work_out(self, jobs: Sequence[_Job[Any]], *, asks: bool) -> _Run:
        shard = self._shards[jobs[0].shard]
        transaction = ShardTransaction(shard, self._now_ms(), asks=asks)
        return _Run(jobs, transaction, [job.run(transaction) for job in jobs])

    def _send(self, transactions: Sequence[ShardTransaction]) -> list[int]:
        stamp = secrets.token_bytes(STAMP_BYTES)
        try:
            return self._evaluate(transactions, stamp)
        except NoScriptError:
            # The server was started anew.
            self._commit_sha = self._client.ask("SCRIPT", "LOAD", COMMIT)
            return self._evaluate(transactions, stamp)

    def _evaluate(self, transactions: Sequence[ShardTransaction], stamp: bytes) -> list[int]:
        commands: list[Command] = []
        for transaction in transactions:
            shard, packed = transaction.shard, transaction.change.packed()
            keys = (1, shard.key("head"))
            commands.append(("EVALSHA", self._commit_sha, *keys, shard.prefix, stamp, packed))
        return [int(reply) for reply in self._client.ask_all(commands)]


def raise_marks(client: Client, shards: Sequence[Shard]) -> None:
    """Tell every shard how far the catalogue has come.

    Whoever was told of a change of an item is told after this, and so is whoever opens the
    database: a process that died in between leaves marks behind that the next one raises.
    """
    at = shards[ITEMS].catalogue()
    people = shards[ITEMS + 1 :]
    client.ask_all([("EVAL", RAISE, 1, shard.key("head"), at) for shard in people])


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


def _prepare(client: Client, name: str, n_shards: int) -> None:
    key = f"{{{name}.{ITEMS}}}:meta"
    client.ask_all([("HSETNX", key, "format", FORMAT_VERSION), ("HSETNX", key, "shards", n_shards)])
    found = {field.decode(): int(value) for field, value in client.fields(key).items()}
    if found["format"] > FORMAT_VERSION:
        raise ValueError(
            f"expected log format {FORMAT_VERSION} or older, got {found['format']}; it was written "
            "by a newer nextswipe: upgrade this one"
        )
    if found["shards"] != n_shards:
        raise ValueError(
            f"expected {found['shards']} shards, with which {name} was made, got {n_shards}: where "
            "a person is cannot change (store.shards)"
        )
