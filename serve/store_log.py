"""The log of a store, which fails as the rest of the store does.

Whoever reads a log for long (the learner, a job) has to tell a store that is away for a while from
a bug, whichever store it is. Rejected: such errors of each database at each reader.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from env.interface import EventLog
from env.records import Kind, LogLine, Record
from serve.store import unavailable


class StoreLog:
    """An `EventLog` that raises `StoreUnavailable` where the one inside fails by certain errors."""

    def __init__(self, log: EventLog, failures: tuple[type[Exception], ...]) -> None:
        """Read and append to `log`; `failures` are what it raises while its database is away."""
        self._log = log
        self._failures = failures

    def append(self, records: Sequence[Record], *, durable: bool) -> Sequence[bool]:
        """Append and return, record by record, whether it was new."""
        with self._translating():
            return self._log.append(records, durable=durable)

    def read(
        self, after: int = 0, limit: int | None = None, kinds: Collection[Kind] | None = None
    ) -> Iterator[LogLine]:
        """Yield lines with an offset greater than `after`, in order, up to the log's end."""
        with self._translating():
            yield from self._log.read(after, limit, kinds)

    def last_offset(self) -> int:
        """Return the offset of the last line; 0 while the log is empty."""
        with self._translating():
            return self._log.last_offset()

    def count(self) -> int:
        """Return how many lines there are."""
        with self._translating():
            return self._log.count()

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return how far each shard is read once all lines up to an offset are."""
        with self._translating():
            return self._log.shard_offsets(offset)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise unavailable(error) from error
