"""Group commit: one thread per process commits all jobs that have queued up.

Jobs that arrive during a commit share the cost of the next one, which starts as soon as the current
one ends; there is no commit window. Each store supplies its own commit function. Reasons:
`docs/decisions/sqlite-log.md`.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A job with a future."""

    @property
    def future(self) -> Future[Any]:
        """The future that the commit resolves."""
        ...


J = TypeVar("J", bound=Waiting)


class CommitQueue(Generic[J]):
    """Passes queued jobs to a commit function on its own thread."""

    def __init__(self, name: str, commit: Callable[[list[J]], None]) -> None:
        """Start the thread.

        Args:
            commit: settles the future of each job that it is given, and does not raise.
        """
        self._commit = commit
        self._queue: list[J] = []
        self._queued = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether the queue refuses new jobs."""
        return self._closing

    def put(self, job: J) -> None:
        """Queue a job, or raise RuntimeError if the queue is closed."""
        with self._queued:
            if self._closing:
                raise RuntimeError("the database is closed")
            self._queue.append(job)
            self._queued.notify()

    def close(self) -> None:
        """Commit what is queued, and end the thread."""
        with self._queued:
            self._closing = True
            self._queued.notify()
        self._thread.join()

    def _run(self) -> None:
        while queued := self._take():
            self._commit([job for job in queued if job.future.set_running_or_notify_cancel()])

    def _take(self) -> list[J]:
        with self._queued:
            self._queued.wait_for(lambda: self._queue or self._closing)
            jobs, self._queue = self._queue, []
        return jobs
