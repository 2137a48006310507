"""The server without Ray: feed processes under plain uvicorn, and one learner process.

It is meant for one machine. The feed processes accept from one socket and so share the requests.
There is no time limit for request headers and no update without an outage; a process that dies
takes the server down. Rejected alternatives: `docs/decisions/serve-processes.md`.
"""

import gc
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess

import msgspec
import uvicorn

from serve.clock import now_ms
from serve.config import Config, ServerSettings
from serve.processes.edge import LEARNER_NICENESS, authority
from serve.processes.replica import FeedReplica, LearnerReplica

BACKLOG = 2048
KEEP_ALIVE_S = 90
STOP_S = 30.0


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Run the whole server on this machine; yield its address and stop everything afterwards.

    Raises:
        RuntimeError: a process died, at the start or before it was told to stop.
    """
    context = multiprocessing.get_context("spawn")  # threads and locks do not survive a fork
    with closing(_listen(config.server)) as listener:
        server = msgspec.structs.replace(config.server, port=listener.getsockname()[1])
        work: list[tuple[str, Callable[[Connection], None]]] = [
            ("learner", partial(_learn, config))
        ]
        serve = partial(_serve, config, listener)
        work += [(f"feed {k}", serve) for k in range(server.replicas)]
        processes = _Processes(context, work)
        try:
            processes.wait_until_ready()
            yield f"http://{authority(server)}"
        finally:
            processes.stop()


class _Processes:
    """A group of processes; the server needs every one of them."""

    def __init__(
        self, context: SpawnContext, work: list[tuple[str, Callable[[Connection], None]]]
    ) -> None:
        """Start the processes, each with a pipe on which it reports that it is ready."""
        self._processes: list[SpawnProcess] = []
        self._ready: list[Connection] = []
        self._stopping = False
        self._died = ""
        for name, target in work:
            # No Event: setting one blocks for ever once its waiter was killed.
            ready, inside = context.Pipe(duplex=False)
            process = context.Process(target=target, args=(inside,), name=name, daemon=True)
            process.start()
            inside.close()
            self._processes.append(process)
            self._ready.append(ready)
        self._watch = threading.Thread(target=self._watch_over, name="watch", daemon=True)

    def wait_until_ready(self) -> None:
        """Wait for all; afterwards, a process that dies ends the program as SIGTERM would."""
        for process, ready in zip(self._processes, self._ready, strict=True):
            try:
                ready.recv_bytes()
            except EOFError as error:
                process.join()
                raise RuntimeError(_describe(process)) from error
        self._watch.start()

    def stop(self) -> None:
        """Let each process finish its requests, then end it."""
        self._stopping = True
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()
        if self._died:
            raise RuntimeError(self._died)

    def _watch_over(self) -> None:
        sentinels = {process.sentinel: process for process in self._processes}
        ended = wait(list(sentinels))
        if not self._stopping:
            process = next(process for fd, process in sentinels.items() if fd in ended)
            process.join()  # its end is seen a moment before its exit code is known
            self._died = _describe(process)
            os.kill(os.getpid(), signal.SIGTERM)


def _describe(process: SpawnProcess) -> str:
    return f"expected the process {process.name!r} to run, it ended with {process.exitcode}"


def _listen(server: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    return socket.create_server(
        (server.host, server.port), family=family, backlog=BACKLOG, reuse_port=False
    )


def _serve(config: Config, listener: socket.socket, ready: Connection) -> None:
    """Answer requests until SIGTERM; uvicorn then finishes the requests in flight."""
    _end_with_parent()
    with closing(FeedReplica(config, now_ms=now_ms)) as replica:
        gc.collect()
        gc.freeze()  # as Serve does: spares later collections the long-lived objects
        ready.send_bytes(b"ready")
        _Server(
            uvicorn.Config(
                replica.app,
                access_log=False,
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
