"""The log lines of a server: time, level, component and message, of all its processes in one place.

The process that starts the server collects the lines of the others on a socket in a private folder,
because Ray keeps its workers' output in files of its own. On a cluster nobody collects, and each
process writes to its standard error. Lines never hold a user's data. Rejected alternatives:
`docs/decisions/serve-processes.md`.
"""

import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from serve.config import LogSettings

COLLECTOR = "NEXTSWIPE_LOG"
"""Variable that holds the path of the socket."""

LOGGERS = ("env", "policies", "replay", "serve", "uvicorn")
MAX_BYTES = 60_000
"""A longer line, such as a deep traceback, is cut."""

SEND_TIMEOUT_S = 1.0
"""A line that is not taken by then is written to the process's own standard error."""


class Lines(logging.Formatter):
    """Formats a record as one line of text, and its traceback below; or all as one of JSON."""

    def __init__(self, settings: LogSettings, component: str) -> None:
        super().__init__()
        self._is_json = settings.form == "json"
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        at = at.replace("+00:00", "Z")
        error = self.formatException(record.exc_info) if record.exc_info else ""
        if not self._is_json:
            line = f"{at} {record.levelname:7} {self._component:7} {record.getMessage()}"
            return f"{line}\n{error}" if error else line
        fields = {
            "at": at,
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        return msgspec.json.encode(fields | ({"error": error} if error else {})).decode()


class _Sender(logging.Handler):
    """Sends lines to the collector, or writes them to standard error where there is none."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SEND_TIMEOUT_S)

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        line = self.format(record)
        try:
            self._socket.sendto(line.encode()[:MAX_BYTES], self._path)
        except OSError:
            sys.stderr.write(f"{line}\n")


def write_logs(settings: LogSettings, component: str) -> None:
    """Write this process's log lines from now on; call it once a process.

    Args:
        settings: least level, and the form of a line.
        component: name of this process's part of the server.
    """
    path = os.environ.get(COLLECTOR, "")
    handler = _Sender(path) if path else logging.StreamHandler()
    handler.setFormatter(Lines(settings, component))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.level.upper())
        logger.propagate = False


@contextmanager
def collecting(settings: LogSettings) -> Iterator[None]:
    """Write the lines of this process, and those of the processes that it starts, to stderr."""
    with tempfile.TemporaryDirectory(prefix="nextswipe-log-", dir="/tmp") as folder:
        path = str(Path(folder) / "lines")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as collector:
            collector.bind(path)
            thread = threading.Thread(target=_collect, args=(collector,), name="log", daemon=True)
            thread.start()
            before = os.environ.get(COLLECTOR)
            os.environ[COLLECTOR] = path
            write_logs(settings, "server")
            try:
                yield
            finally:
                _restore(before)
                _stop_writing()
                with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                    end.sendto(b"", path)
                thread.join()


def _stop_writing() -> None:
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _collect(collector: socket.socket) -> None:
    """Write each line as it comes; an empty one is the end."""
    while line := collector.recv(MAX_BYTES):
        sys.stderr.write(line.decode(errors="replace") + "\n")
        sys.stderr.flush()


def _restore(before: str | None) -> None:
    if before is None:
        del os.environ[COLLECTOR]
    else:
        os.environ[COLLECTOR] = before
