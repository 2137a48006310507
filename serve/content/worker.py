"""The process that runs a hook: a model holds the interpreter, and its crash ends nobody else.

Both sides exchange msgpack over a socket pair. The process ends when its owner does. It is started
as a program, since a daemon such as the learner may have no child of `multiprocessing`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Self

import msgspec

from env.vocabulary import Item
from serve.config import Config
from serve.content.hook import Embedded, HookArgs, HookError, embed, load_hook
from serve.errors import JobError

LIMIT_S = 300.0
"""Longest time of one call, and of loading the hook; the process is ended after it."""

POLL_S = 0.1
STOP_S = 5.0
_ROOT = Path(__file__).parents[2]
_items = msgspec.msgpack.Decoder(list[Item])
_answers = msgspec.msgpack.Decoder(list[Embedded])


class HookStopped(RuntimeError):  # noqa: N818 - it tells what happened, not a mistake
    """The owner was told to stop while the hook was at work."""


class _Ended(RuntimeError):  # noqa: N818 - it tells what happened, not a mistake
    """The process has ended during a call."""


class HookWorker:
    """A hook in a process of its own, which is started when needed; use it as a context manager."""

    def __init__(
        self, args: HookArgs, *, stop: Event | None = None, limit_s: float = LIMIT_S
    ) -> None:
        """Describe the hook.

        Args:
            args: names it.
            stop: ends a wait for an answer; None: nothing does.
            limit_s: longest time of one call.
        """
        self._args, self._limit_s = args, limit_s
        self._stop = stop or Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Load the hook, if that was not done.

        Raises:
            HookError: it cannot be loaded.
            HookStopped: the owner was told to stop.
        """
        self._running()

    def embed(self, items: Sequence[Item]) -> list[Embedded]:
        """Return an answer for each item.

        If the process ends or takes too long, a new one is asked about each item alone, and those
        that end it again have a problem.

        Raises:
            HookError: the hook cannot be loaded.
            HookStopped: the owner was told to stop.
        """
        try:
            return self._ask(items)
        except _Ended as error:
            if len(items) == 1:
                return [Embedded(problem=str(error))]
        return [found for item in items for found in self.embed([item])]

    def close(self) -> None:
        """End the process; a second call does nothing."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        if process is None or connection is None:
            return
        connection.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, items: Sequence[Item]) -> list[Embedded]:
        connection = self._running()
        try:
            connection.send_bytes(msgspec.msgpack.encode(items))
        except OSError as error:  # it has ended since the last call
            raise self._ended() from error
        return _answers.decode(self._receive(connection, self._limit_s))

    def _running(self) -> Connection:
        """Return the connection to a process that has loaded the hook."""
        if self._connection is not None:
            return self._connection
        if not Path(self._args.media_folder).is_dir():
            raise HookError(
                f"{self._args.name}: there is no media folder {self._args.media_folder}"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this module
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a hook prints is no output of a command
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())
        try:
            self._connection.send_bytes(msgspec.msgpack.encode(self._args))
            problem = self._receive(self._connection, LIMIT_S).decode()
        except OSError:
            problem = f"loading it {self._ended()}"
        except _Ended as error:
            problem = f"loading it {error}"
        if problem:
            self.close()
            raise HookError(f"{self._args.name}: {problem}")
        return self._connection

    def _receive(self, connection: Connection, limit_s: float) -> bytes:
        try:
            for _ in range(max(round(limit_s / POLL_S), 1)):
                if connection.poll(POLL_S):
                    return connection.recv_bytes()
                if self._stop.is_set():
                    raise HookStopped
        except (EOFError, OSError) as error:
            raise self._ended() from error
        self.close()
        raise _Ended(f"took longer than {limit_s:g} s")

    def _ended(self) -> _Ended:
        process = self._process
        self.close()
        code = None if process is None else process.returncode
        return _Ended(f"ended its process with the exit code {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def require_hook(config: Config) -> None:
    """Refuse settings whose hook cannot be loaded.

    Raises:
        JobError: names the hook and says why.
    """
    args = HookArgs.of(config)
    if args is None:
        return
    try:
        with HookWorker(args) as worker:
            worker.start()
    except HookError as error:
        raise JobError(f"content.embed: {error}") from error


def main(descriptor: int) -> None:
    """Answer requests that come over a socket until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides when to stop
    connection = Connection(descriptor)
    args = msgspec.msgpack.decode(connection.recv_bytes(), type=HookArgs)
    requests: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(connection, requests), daemon=True).start()
    try:
        os.chdir(args.media_folder)
        hook = load_hook(args)
    except (HookError, OSError) as error:
        connection.send_bytes(str(error).encode())
        return
    connection.send_bytes(b"")
    while True:
        answers = embed(hook, _items.decode(requests.get()))
        connection.send_bytes(msgspec.msgpack.encode(answers))


def _listen(connection: Connection, requests: "SimpleQueue[bytes]") -> None:
    """Hand on requests; end the process with its owner, even in the middle of a call."""
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
