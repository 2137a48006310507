"""The log of a store, with all database errors turned into `StoreUnavailable`.

Long readers of the log (the learner, jobs) must tell an unavailable store from a bug, whichever
store it is.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from env.interface import EventLog
from env.records import Kind, LogLine, Record
from serve.store import unavailable


class StoreLog:
    """An `EventLog` that raises `StoreUnavailable` for certain errors of the log inside."""

    def __init__(self, log: EventLog, failures: tuple[type[Exception], ...]) -> None:
        """Wrap `log`; `failures` are its errors while the database is unavailable."""
        self._log = log
        self._failures = failures

    def append(self, records: Sequence[Record], *, durable: bool) -> Sequence[bool]:
        """Append records; return for each whether it was new."""
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
        """Return the number of lines."""
        with self._translating():
            return self._log.count()

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset once all lines up to `offset` are read."""
        with self._translating():
            return self._log.shard_offsets(offset)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise unavailable(error) from error
