"""The one thread of a process that commits, and what queues up for it meanwhile: group commit.

It takes all that is waiting and has it committed as one, so that those who waited for one commit
share the cost of the next. There is no window to wait for: the next commit begins when the last one
is done. What a commit is, a store says.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A piece of work that somebody waits for."""

    @property
    def future(self) -> Future[Any]:
        """Resolved by the commit."""
        ...


J = TypeVar("J", bound=Waiting)


class CommitQueue(Generic[J]):
    """Hands what queued up to a commit, on a thread of its own."""

    def __init__(self, name: str, commit: Callable[[list[J]], None]) -> None:
        """Start the thread.

        Args:
            name: of the thread.
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
        """Whether it takes no more jobs."""
        return self._closing

    def put(self, job: J) -> None:
        """Queue a job.

        Raises:
            RuntimeError: the queue is closed.
        """
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
