"""Redis servers for tests: the one that is lent (NEXTSWIPE_TEST_REDIS), or one of our own."""

import atexit
import os
import secrets
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import redis
from ports import free_port
from waiting import DEADLINE_S


class Server:
    """A redis-server over a folder, which can be stopped, killed and started again."""

    def __init__(self, folder: Path, *, appendfsync: str = "always") -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder, self._appendfsync = folder, appendfsync
        self.start()

    def start(self) -> None:
        arguments = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--dir", str(self._folder), "--save", "", "--appendonly", "yes"]
        arguments += ["--appendfsync", self._appendfsync, "--logfile", str(self._folder / "log")]
        self.process = subprocess.Popen(arguments)
        client, deadline_s = redis.Redis.from_url(self.url), time.monotonic() + DEADLINE_S
        while True:
            try:
                told = client.info()
                if told["process_id"] == self.process.pid and not told["loading"]:
                    break
            except redis.ConnectionError:
                pass  # it is starting
            assert self.process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        client.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_S)


@contextmanager
def running(folder: Path, *, appendfsync: str = "always") -> Iterator[Server]:
    """Run a server of one's own over a folder."""
    server = Server(folder, appendfsync=appendfsync)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def counted_trips(url: str) -> Iterator[list[int]]:
    """Count how often a server, which nobody else asks meanwhile, was sent something."""
    client, n_trips = redis.Redis.from_url(url), list[int]()
    before = client.info("stats")["total_reads_processed"]
    yield n_trips
    n_trips.append(client.info("stats")["total_reads_processed"] - before - 1)
    client.close()


class Forgetful(socketserver.StreamRequestHandler):
    """Hands on what passes between a client and a server, but for one answer: then it hangs up.

    For requests and answers that arrive in one piece, as small ones do.
    """

    server: "Proxy"

    def handle(self) -> None:
        with socket.create_connection(self.server.behind) as behind:
            while data := self.request.recv(1 << 20):
                drops = self.server.takes_drop(data)
                behind.sendall(data)
                answer = behind.recv(1 << 20)
                if drops:
                    return
                self.request.sendall(answer)


class Proxy(socketserver.ThreadingTCPServer):
    """Stands in front of a server, and loses the answer to the next request that holds a word."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Forgetful)
        parts = urlsplit(url)
        self.behind = parts.hostname or "", parts.port or 6379
        userinfo, at, _ = parts.netloc.rpartition("@")
        netloc = f"{userinfo}{at}127.0.0.1:{self.server_address[1]}"
        self.url = parts._replace(netloc=netloc).geturl()
        self._word = b""

    def drop(self, word: bytes) -> None:
        self._word = word

    def takes_drop(self, request: bytes) -> bool:
        drops = bool(self._word) and self._word in request
        if drops:
            self._word = b""
        return drops

    @property
    def dropped(self) -> bool:
        return not self._word


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    with Proxy(url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


@lru_cache
def shared_url() -> str:
    """Return the address of a server that all tests of this run share, each under its own name."""
    lent = os.environ.get("NEXTSWIPE_TEST_REDIS")
    if lent is not None:
        return lent
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = Server(folder)
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.stop)
    return server.url


def new_name() -> str:
    """Return a name of an installation that nobody else has."""
    return f"test-{secrets.token_hex(6)}"
