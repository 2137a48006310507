"""The one thread of a process that writes to Redis, with one script per shard for all queued jobs.

If another process changed rows that a transaction had read, its jobs run again on the new state.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from env.records import BlockRecord, FeedbackRecord, PageRecord, Record, UserRecord
from env.vocabulary import UserKey
from replay.log.redis.client import (
    COMMIT,
    CONFLICT,
    RAISE,
    ChangeLine,
    Command,
    NoScriptError,
    RedisClient,
    RedisError,
    ShardChange,
)
from replay.log.redis.shard import (
    STAMP_BYTES,
    Key,
    Prefetched,
    Shard,
    ShardLine,
    pack,
    read_ahead,
    unnamed,
)
from replay.log.sqlite.database import CommitQueue


class ShardTransaction:
    """Reads one shard and gathers writes for the script of `replay.log.redis.client`.

    Several jobs run in one transaction in turn: each sees the writes of those before it, and one
    that fails is rolled back alone.
    """

    def __init__(self, shard: Shard, written_ms: int, ahead: Prefetched, *, asks: bool) -> None:
        """Begin without reads or writes.

        Args:
            shard: shard to read and write.
            written_ms: wall clock, for `LogLine.written_ms`.
            ahead: data already read from the shard.
            asks: look up existing lines and pages, at one round trip each; otherwise assume that
                none exists, and the commit is refused if one does.
        """
        self._asks = asks
        self.shard = shard
        self.change = ShardChange()
        self._written_ms = written_ms
        self._marks = ahead.catalogue, ahead.items
        self._ahead = dict(ahead.rows)
        self._read: dict[Key, bytes | None] = {}
        self._work = ShardChange()
        self._forgotten: set[UserKey] = set()

    # --- reading ---

    def rows(self, table: str, keys: Collection[str]) -> list[bytes | None]:
        """Return rows without their stamps; None for a missing one."""
        self._fetch(table, [key for key in keys if (table, key) not in self._read])
        return [self._row((table, key)) for key in keys]

    def catalogue(self) -> int:
        """Return the shard's catalogue mark, which the commit will check."""
        self.change.catalogue, _ = self._marks
        return self.change.catalogue

    def items_catalogue(self) -> int:
        """Return the catalogue mark of the shard of items, unchecked."""
        return self._marks[1]

    def find_page(self, beginning: str) -> PageRecord | None:
        """Return the first page by id with this id prefix, or None."""
        stored = self.shard.find_page(beginning) if self._asks else None
        if stored is None:
            self.change.fresh.add(beginning)
        ours = (
            ShardLine.unpacked(0, line.payload).record()
            for line in self._lines()
            if line.kind == "page" and line.page.startswith(beginning)
        )
        pages = [page for page in (stored, *ours) if isinstance(page, PageRecord)]
        return min(pages, key=lambda page: page.page_id, default=None)

    # --- writing ---

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """Write a row; None deletes it."""
        self._work.rows[table, key] = value

    def add_totals(self, totals: Iterable[tuple[str, int]]) -> None:
        """Add to the counters."""
        for name, n in totals:
            self._work.totals[name] = self._work.totals.get(name, 0) + n

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Append lines and return for each record whether it was new."""
        keys = [idempotence_key(record) for record in records]
        taken = self._taken([key for key in keys if key is not None])
        is_new = []
        for record, key in zip(records, keys, strict=True):
            is_new.append(key is None or key not in taken)
            if key is None or key not in taken:
                self._add(record, key)
                taken |= set() if key is None else {key}
        return is_new

    def forget(self, user: UserKey) -> int:
        """Overwrite the fields that identify a user and return the number of lines.

        The append-only file holds the old bytes until Redis rewrites it.

        Raises:
            LogCorruption: one of the user's lines has a wrong crc or payload.
        """
        found = self.shard.client.fields(self.shard.key(f"about:{user}"))
        for offset, payload in found.items():
            self._work.edits.append((user, offset.decode(), unnamed(payload, int(offset))))
        n_ours = sum(line.about == user for line in self._lines())
        self._work.lines = _without_name(self._work.lines, user)
        self._forgotten.add(user)
        return len(found) + n_ours

    # --- jobs in turn ---

    def keep(self) -> None:
        """Add the current job's writes to the transaction."""
        work, change = self._work, self.change
        for user in self._forgotten:
            change.lines = _without_name(change.lines, user)
        change.lines += work.lines
        change.said |= work.said
        change.rows |= work.rows
        change.edits += work.edits
        for name, n in work.totals.items():
            change.totals[name] = change.totals.get(name, 0) + n
        self.drop()

    def drop(self) -> None:
        """Begin the next job; without `keep`, the current one's writes are rolled back.

        Its reads are still checked.
        """
        self._work, self._forgotten = ShardChange(), set()

    def _fetch(self, table: str, keys: list[str]) -> None:
        missing = [key for key in keys if (table, key) not in self._ahead]
        rows = zip(missing, self.shard.stamped_rows(table, missing), strict=True)
        self._ahead.update({(table, key): row for key, row in rows})
        for key in keys:
            row = self._ahead[table, key]
            self.change.seen[table, key] = b"" if row is None else row[:STAMP_BYTES]
            self._read[table, key] = None if row is None else row[STAMP_BYTES:]

    def _row(self, key: Key) -> bytes | None:
        for rows in (self._work.rows, self.change.rows):
            if key in rows:
                return rows[key]
        return self._read[key]

    def _lines(self) -> Iterator[ChangeLine]:
        yield from self.change.lines
        yield from self._work.lines

    def _taken(self, keys: Sequence[Key]) -> set[Key]:
        taken = {key for key in keys if key in self.change.said or key in self._work.said}
        others = [key for key in dict.fromkeys(keys) if key not in taken]
        if not self._asks:
            self.change.free.update(others)
            return taken
        by_page: dict[str, list[str]] = {}
        for page_id, event in others:
            by_page.setdefault(page_id, []).append(event)
        found = self.shard.client.ask_all(
            [("HMGET", self.shard.key(f"said:{page}"), *names) for page, names in by_page.items()]
        )
        for (page_id, events), offsets in zip(by_page.items(), found, strict=True):
            for event, offset in zip(events, offsets, strict=True):
                (self.change.free if offset is None else taken).add((page_id, event))
        return taken

    def _add(self, record: Record, key: Key | None) -> None:
        about = record.user if isinstance(record, UserRecord | BlockRecord) else ""
        kind = str(record.__struct_config__.tag)
        packed = pack(record, self._written_ms)
        self._work.lines.append(ChangeLine(kind, packed, about, *(key or ("", ""))))
        if key is not None:
            self._work.said.add(key)


def _without_name(lines: Iterable[ChangeLine], user: UserKey) -> list[ChangeLine]:
    return [
        line._replace(payload=unnamed(line.payload)) if line.about == user else line
        for line in lines
    ]


def idempotence_key(record: Record) -> Key | None:
    """Return the page and event id that make a line idempotent; None: every append counts."""
    match record:
        case PageRecord():
            return record.page_id, ""
        case FeedbackRecord():
            return record.decision_id.rpartition(":")[0], record.event_id
        case _:
            return None


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

    def __init__(
        self, client: RedisClient, shards: Sequence[Shard], now_ms: Callable[[], int]
    ) -> None:
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

    def _read_ahead(self, groups: Sequence[Sequence[Job[Any]]]) -> list[Prefetched | Exception]:
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
        self, jobs: Sequence[Job[Any]], ahead: Prefetched | Exception, *, asks: bool
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


def _ahead_or_error(keys: Sequence[Key], answers: Sequence[Any]) -> Prefetched | Exception:
    errors = (answer for answer in answers if isinstance(answer, Exception))
    return next(errors, None) or read_ahead(keys, answers)


def _fail(jobs: Sequence[Job[Any]], error: Exception) -> None:
    for job in jobs:
        job.future.set_exception(error)


def raise_marks(client: RedisClient, shards: Sequence[Shard]) -> None:
    """Tell every shard the catalogue's current mark.

    This runs before a change of an item is acknowledged and when a database opens, so marks left
    behind by a process that died in between are raised by the next one.
    """
    at = shards[ITEMS].catalogue()
    users = shards[ITEMS + 1 :]
    client.ask_all([("EVAL", RAISE, 1, shard.key("head"), at) for shard in users])
