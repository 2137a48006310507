"""The one thread of a process that writes to Redis, with one script per shard for all queued jobs.

If another process changed rows that a transaction had read, its jobs run again on the new state.
"""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from replay.commit_queue import CommitQueue
from replay.redis_client import Client, Command, NoScriptError, RedisError
from replay.redis_script import COMMIT, CONFLICT, RAISE
from replay.redis_shard import STAMP_BYTES, Ahead, Key, Shard, read_ahead
from replay.redis_transaction import ShardTransaction

T = TypeVar("T")
Work = Callable[[ShardTransaction], T]

ITEMS = 0
"""The shard of items, and of all records about no user."""

SENT_S = 300
"""Seconds for which a shard remembers a writer's last commit, far longer than any retry."""

MAX_RUNS = 100
"""Most runs of a transaction while other processes change the rows it has read."""


class Contended(RuntimeError):  # noqa: N818  # a state, not a mistake
    """Other processes changed a transaction's rows in every run; nothing was written."""


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """A queued function; see `RedisDatabase.write`."""

    work: Work[T]
    shard: int
    reads: tuple[Key, ...]
    future: Future[T]

    def run(self, transaction: ShardTransaction) -> Callable[[], None]:
        """Do the work and return the callback that settles the future after the commit."""
        try:
            result = self.work(transaction)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001  # the futures carry it
            transaction.drop()
            return partial(self.future.set_exception, error)
        transaction.keep()
        return partial(self.future.set_result, result)


@dataclass(frozen=True, slots=True)
class _Run:
    """A transaction of one shard that is not committed yet."""

    jobs: Sequence[Job[Any]]
    transaction: ShardTransaction
    settles: Sequence[Callable[[], None]]

    def settle(self) -> None:
        for settle in self.settles:
            settle()


class Writer:
    """The one thread of a process that writes."""

    def __init__(self, client: Client, shards: Sequence[Shard], now_ms: Callable[[], int]) -> None:
        self._client = client
        self._shards = shards
        self._now_ms = now_ms
        self._name = secrets.token_hex(8)
        self._commit_sha = client.ask("SCRIPT", "LOAD", COMMIT)
        self._queue = CommitQueue[Job[Any]]("redis writer", self._commit)

    @property
    def is_closed(self) -> bool:
        """Whether the writer refuses new jobs."""
        return self._queue.is_closed

    def write(self, job: Job[T]) -> Future[T]:
        """Queue a job and return its future."""
        self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Commit what is queued and stop."""
        self._queue.close()

    def _commit(self, jobs: list[Job[Any]]) -> None:
        by_shard: dict[int, list[Job[Any]]] = {}
        for job in jobs:
            by_shard.setdefault(job.shard, []).append(job)
        groups = list(by_shard.values())
        for n_runs in range(MAX_RUNS):
            if not groups:
                return
            # Repeated sends are rare, so the first run takes all records as new.
            groups = self._try(groups, asks=n_runs > 0)
        for job in (job for group in groups for job in group):
            job.future.set_exception(Contended(f"expected to write within {MAX_RUNS} runs"))

    def _try(self, groups: list[list[Job[Any]]], *, asks: bool) -> list[list[Job[Any]]]:
        """Run and send one transaction per shard; return the jobs that must run again.

        A failure on one shard fails only that shard's jobs: others may have been committed.
        """
        try:
            aheads = self._read_ahead(groups)
        except Exception as error:  # noqa: BLE001  # the futures carry it
            _fail([job for jobs in groups for job in jobs], error)
            return []
        read = zip(groups, aheads, strict=True)
        worked_out = (self._work_out(jobs, ahead, asks=asks) for jobs, ahead in read)
        runs = [run for run in worked_out if run is not None]
        again: list[list[Job[Any]]] = []
        for run, reply in zip(runs, self._send([run.transaction for run in runs]), strict=True):
            if isinstance(reply, Exception):
                _fail(run.jobs, reply)
            elif reply == CONFLICT:
                again.append(list(run.jobs))
            else:
                self._settle(run)
        return again

    def _settle(self, run: _Run) -> None:
        """Resolve the futures of a commit; on the shard of items only once all shards know of it.

        This also holds if no item changed: a caller that lost the reply repeats its commit, finds
        it done, and must find it known.
        """
        if run.jobs[0].shard == ITEMS:
            try:
                raise_marks(self._client, self._shards)
            except Exception as error:  # noqa: BLE001  # the futures carry it
                _fail(run.jobs, error)
                return
        run.settle()

    def _read_ahead(self, groups: Sequence[Sequence[Job[Any]]]) -> list[Ahead | Exception]:
        """Return each shard's expected reads, or its error, in one round trip."""
        reads = [list(dict.fromkeys(key for job in jobs for key in job.reads)) for jobs in groups]
        asked = [
            self._shards[jobs[0].shard].ask_ahead(self._shards[ITEMS], keys)
            for jobs, keys in zip(groups, reads, strict=True)
        ]
        answers = iter(self._client.ask_each([each for commands in asked for each in commands]))
        return [
            _ahead_or_error(keys, list(islice(answers, len(commands))))
            for keys, commands in zip(reads, asked, strict=True)
        ]

    def _work_out(
        self, jobs: Sequence[Job[Any]], ahead: Ahead | Exception, *, asks: bool
    ) -> _Run | None:
        """Do the work for one shard; None if it could not be read and the jobs have failed."""
        if isinstance(ahead, Exception):
            _fail(jobs, ahead)
            return None
        number = jobs[0].shard
        transaction = ShardTransaction(self._shards[number], self._now_ms(), ahead, asks=asks)
        try:
            return _Run(jobs, transaction, [job.run(transaction) for job in jobs])
        except Exception as error:  # noqa: BLE001  # the futures carry it
            _fail(jobs, error)
            return None

    def _send(self, transactions: Sequence[ShardTransaction]) -> Sequence[int | Exception]:
        """Commit, and return each script's reply or the error that leaves its outcome unknown."""
        stamp = secrets.token_bytes(STAMP_BYTES)
        try:
            replies = self._evaluate(transactions, stamp)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                # The server was restarted and lost its scripts.
                self._commit_sha = self._client.ask("SCRIPT", "LOAD", COMMIT)
                replies = self._evaluate(transactions, stamp)
        except Exception as error:  # noqa: BLE001  # the futures carry it
            return [error] * len(transactions)
        return replies

    def _evaluate(
        self, transactions: Sequence[ShardTransaction], stamp: bytes
    ) -> list[int | Exception]:
        commands: list[Command] = []
        for transaction in transactions:
            shard, packed = transaction.shard, transaction.change.packed()
            begin = ("EVALSHA", self._commit_sha, 1, shard.key("head"))
            commands.append((*begin, shard.prefix, stamp, packed, self._name, SENT_S))
        return self._client.ask_each(commands)


def _ahead_or_error(keys: Sequence[Key], answers: Sequence[Any]) -> Ahead | Exception:
    errors = (answer for answer in answers if isinstance(answer, Exception))
    return next(errors, None) or read_ahead(keys, answers)


def _fail(jobs: Sequence[Job[Any]], error: Exception) -> None:
    for job in jobs:
        job.future.set_exception(error)


def raise_marks(client: Client, shards: Sequence[Shard]) -> None:
    """Tell every shard the catalogue's current mark.

    This runs before a change of an item is acknowledged and when a database opens, so marks left
    behind by a process that died in between are raised by the next one.
    """
    at = shards[ITEMS].catalogue()
    people = shards[ITEMS + 1 :]
    client.ask_all([("EVAL", RAISE, 1, shard.key("head"), at) for shard in people])
