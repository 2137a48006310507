"""The port while the server starts: each request is answered 503, with a time to ask again.

The port is taken before anything else starts, so a client that comes early is told to wait, and a
second program cannot take it meanwhile.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from serve.config import ServerSettings
from serve.limits import MAX_BODY_BYTES, RETRY_AFTER_S
from serve.processes.edge import authority

BACKLOG = 2048
CLIENT_TIMEOUT_S = 5.0
REASON = "the server is starting; ask again"
_PROBLEM = json.dumps(
    {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": REASON}
).encode()


class _Waiter(BaseHTTPRequestHandler):
    """Answers one connection."""

    timeout = CLIENT_TIMEOUT_S

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if length.isascii() and length.isdecimal():
            # A connection closed with unread bytes would be reset, and the answer lost.
            self.rfile.read(min(int(length), MAX_BODY_BYTES))
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(_PROBLEM)))
        self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(_PROBLEM)

    # The names are the base's.
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Write no line for each request."""


class _WaitingServer(ThreadingHTTPServer):
    """Answers on a socket that was opened before."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("", 0), _Waiter, bind_and_activate=False)
        self.socket.close()
        self.socket = listener.dup()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that went away."""


class Door:
    """The listening socket of a server that starts, and who answers on it until it has started.

    Attributes:
        listener: bound to the server's address, and not blocking.
        settings: of the server, with the port that it listens on.
    """

    def __init__(self, listener: socket.socket, server: ServerSettings) -> None:
        self.listener = listener
        self.settings = msgspec.structs.replace(server, port=int(listener.getsockname()[1]))
        self._server = _WaitingServer(listener)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="starting", daemon=True
        )
        self._thread.start()
        self._is_open = True

    @property
    def address(self) -> str:
        """The address of the API."""
        return f"http://{authority(self.settings)}"

    def hand_over(self) -> None:
        """Stop answering; the processes of the server do from now on."""
        if not self._is_open:
            return
        self._is_open = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def close(self) -> None:
        """Stop answering, and close this process's socket; clients that wait get their answer."""
        if self._is_open:
            self._server.shutdown()
            self._thread.join()
            with suppress(OSError):
                while True:
                    self._server.process_request(*self._server.get_request())
            self._server.server_close()
            self._is_open = False
        self.listener.close()


@contextmanager
def answering(server: ServerSettings, *, is_shared: bool) -> Iterator[Door]:
    """Take the server's port, and answer on it that the server is starting.

    Args:
        server: a port of 0 takes a free one.
        is_shared: whether another process of this user may bind to the port as well, as HAProxy
            does; it must be checked first that nobody has.

    Raises:
        OSError: the port is taken, or the host is none of this machine's.
    """
    door = Door(listen(server, is_shared=is_shared), server)
    try:
        yield door
    finally:
        door.close()


def listen(server: ServerSettings, *, is_shared: bool) -> socket.socket:
    """Return a socket that listens at the server's address, and does not block."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.create_server(
        (server.host, server.port), family=family, backlog=BACKLOG, reuse_port=is_shared
    )
    listener.setblocking(False)
    return listener
