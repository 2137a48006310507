"""The server without Ray: feed processes under plain uvicorn, and one learner process.

It is meant for one machine. The feed processes accept from one socket and so share the requests.
There is no time limit for request headers and no update without an outage; a learner that dies is
started again, and a feed process that dies takes the server down. Rejected alternatives:
`docs/decisions/serve-processes.md`.
"""

import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import NamedTuple

import uvicorn

from serve.clock import now_ms
from serve.config import Config
from serve.processes.edge import LEARNER_NICENESS, authority
from serve.processes.logs import write_logs
from serve.processes.replica import FeedReplica, LearnerReplica
from serve.processes.starting import Door

logger = logging.getLogger(__name__)
POLL_S = 0.5
KEEP_ALIVE_S = 90
STOP_S = 30.0
LEARNER = "learner"
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before a learner is started again; the last one repeats."""
WELL_S = 120.0
"""A learner that ran for so long begins anew with the first wait."""

Work = Callable[[Connection], None]


@contextmanager
def running(config: Config, door: Door) -> Iterator[str]:
    """Run the whole server on this machine; yield its address and stop everything afterwards.

    Args:
        config: the settings.
        door: holds the port; it is handed over to the feed processes once they are ready.

    Raises:
        RuntimeError: a process died at the start, or a feed process before it was told to stop.
    """
    context = multiprocessing.get_context("spawn")  # threads and locks do not survive a fork
    serve = partial(_serve, config, door.listener)
    feeds = [(f"feed {k}", serve) for k in range(config.server.replicas)]
    processes = _Processes(context, [(LEARNER, partial(_learn, config)), *feeds])
    try:
        processes.wait_until_ready()
        door.hand_over()
        processes.let_in()
        yield f"http://{authority(config.server)}"
    finally:
        processes.stop()


class _Running(NamedTuple):
    """A process that was started."""

    process: SpawnProcess
    ready: Connection  # it says there that it is ready, and a feed process then waits to be let in
    began_s: float  # of a steady clock


class _Processes:
    """A group of processes.

    A learner that dies is started again. The server needs every feed process: one that dies ends
    the program.
    """

    def __init__(self, context: SpawnContext, work: list[tuple[str, Work]]) -> None:
        """Start the processes, each with a pipe on which it reports that it is ready."""
        self._context, self._work = context, dict(work)
        self._stopping = threading.Event()
        self._n_restarts = 0
        self._died = ""
        self._running = {name: self._start(name) for name in self._work}
        self._watch = threading.Thread(target=self._watch_over, name="watch", daemon=True)

    def _start(self, name: str) -> _Running:
        # No Event: setting one blocks for ever once its waiter was killed.
        ready, inside = self._context.Pipe()
        process = self._context.Process(
            target=self._work[name], args=(inside,), name=name, daemon=True
        )
        process.start()
        inside.close()
        return _Running(process, ready, time.monotonic())

    def wait_until_ready(self) -> None:
        """Wait for all."""
        for process, ready, _ in self._running.values():
            try:
                ready.recv_bytes()
            except EOFError as error:
                process.join()
                raise RuntimeError(_describe(process)) from error

    def let_in(self) -> None:
        """Let the feed processes accept requests; one that dies from now on ends the program.

        It ends as SIGTERM would end it.
        """
        for name, each in self._running.items():
            if name != LEARNER:
                each.ready.send_bytes(b"go")
        self._watch.start()

    def stop(self) -> None:
        """Let each process finish its requests, then end it."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()  # it may be starting a learner
        processes = [each.process for each in self._running.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()
        if self._died:
            raise RuntimeError(self._died)

    def _watch_over(self) -> None:
        while not self._stopping.is_set():
            names = {each.process.sentinel: name for name, each in self._running.items()}
            ended = [names[fd] for fd in wait(list(names), POLL_S) if isinstance(fd, int)]
            if not ended or self._stopping.is_set():
                continue
            if ended != [LEARNER]:
                name = next(name for name in ended if name != LEARNER)
                process = self._running[name].process
                process.join()  # its end is seen a moment before its exit code is known
                self._died = _describe(process)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._restart_learner()

    def _restart_learner(self) -> None:
        """Start the learner again, sooner or later by how often it has died."""
        ended = self._running[LEARNER]
        ended.process.join()
        if time.monotonic() - ended.began_s > WELL_S:
            self._n_restarts = 0
        pause_s = PAUSES_S[min(self._n_restarts, len(PAUSES_S) - 1)]
        logger.error(
            "the learner ended with %s and is started again in %g s",
            ended.process.exitcode,
            pause_s,
        )
        self._n_restarts += 1
        if not self._stopping.wait(pause_s):
            self._running[LEARNER] = self._start(LEARNER)


def _describe(process: SpawnProcess) -> str:
    return f"expected the process {process.name!r} to run, it ended with {process.exitcode}"


def _serve(config: Config, listener: socket.socket, ready: Connection) -> None:
    """Answer requests until SIGTERM; uvicorn then finishes the requests in flight."""
    _end_with_parent()
    write_logs(config.log, "feed")
    with closing(FeedReplica(config, now_ms=now_ms)) as replica:
        gc.collect()
        gc.freeze()  # as Serve does: spares later collections the long-lived objects
        ready.send_bytes(b"ready")
        ready.recv_bytes()  # until then, the parent answers that the server is starting
        _Server(
            uvicorn.Config(
                replica.app,
                access_log=False,
                log_config=None,  # its lines are written as ours are
                log_level="warning",
                timeout_keep_alive=KEEP_ALIVE_S,
                lifespan="off",
            ),
            replica.check,
        ).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Stops when the replica behind it fails, so that no request reaches a dead replica."""

    def __init__(self, config: uvicorn.Config, check: Callable[[], None]) -> None:
        super().__init__(config)
        self._check = check

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop; uvicorn calls this ten times a second."""
        self._check()
        return await super().on_tick(counter)


def _learn(config: Config, ready: Connection) -> None:
    _end_with_parent()
    write_logs(config.log, "learner")
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    os.nice(LEARNER_NICENESS)
    with closing(LearnerReplica(config, now_ms=now_ms)) as replica:
        ready.send_bytes(b"ready")
        while not stopped.wait(1.0):
            replica.check()


def _end_with_parent() -> None:
    """End this process as SIGTERM would if its parent dies without ending it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("expected to be started by serve.processes.uvicorn_app.running")

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
