"""The edge under Ray Serve, as data: environment variables and deployment options.

Serve reads its switches from the environment when it is imported and passes the environment to its
processes, so the variables are set first. A variable that is set already keeps its value.
docs/serving.md prints this table, held by a test. Nothing here imports Ray. Rejected alternatives:
`docs/decisions/serve-edge.md`.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from serve.config import Config, ServerSettings
from serve.limits import RETRY_AFTER_S
from serve.processes.haproxy import BINARY, LISTEN, end_leftovers, find_binary, install

LOOPBACK = "127.0.0.1"

LEARNER_NICENESS = 10

MAX_CONNECTIONS = 4096
"""HAProxy's default limit of concurrent requests, those with slow bodies included."""

Options = dict[str, Any]
"""Keyword arguments of `serve.deployment`, with values that JSON can hold."""


class Switch(msgspec.Struct, frozen=True):
    """An environment variable."""

    name: str
    value: str  # template that names the fields of `EdgePaths` in braces
    gives: str  # benefit of setting it
    costs: str  # drawback of setting it


CALM = Switch(
    "OPENBLAS_NUM_THREADS",
    "1",
    "threads of BLAS do not wait for each other over a page's small matrices",
    "one large product runs on one core",
)

ALONE = (
    Switch(
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "0",
        "all of Ray's own ports are on loopback, as on those systems by default",
        "no second machine can join: a cluster is started by `ray start`, not by `nextswipe up`",
    ),
    Switch(
        "RAY_enable_metrics_collection",
        "0",
        "no exporter of Ray's own metrics, and less work at each request",
        "none of Ray's dashboards; the feed's metrics are at /metrics",
    ),
    CALM,
)
"""Variables of a server on one machine."""

TOGETHER = (CALM,)
"""Variables of a cluster, where machines reach each other's ports and Ray keeps its own metrics."""

FAST = (
    Switch(
        "RAY_SERVE_ENABLE_HA_PROXY",
        "1",
        "HAProxy takes requests straight to a replica, instead of a proxy in Python",
        "130 MB: HAProxy and its manager; Serve's own proxy still runs, for when no replica does",
    ),
    Switch(
        "RAY_SERVE_THROUGHPUT_OPTIMIZED",
        "1",
        "the app runs on the replica's one event loop, logs are buffered, stderr is left alone",
        "a handler that blocks would block the replica's health checks as well: none does",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "1",
        "one thread passes more than a core of replicas draws, and takes no second core",
        "raise it where one core of HAProxy's is busy all the time",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_METRICS_ENABLED",
        "0",
        "no line for each request to a reader in Python",
        "Serve's own ingress metrics; the feed's count requests, statuses and times",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_RETRY_ON",
        "conn-failure empty-response",
        "a request whose replica has just gone is put to another one",
        "it may be done twice; all but deletes carry ids and may, deletes are not retried",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S",
        "60",
        "a client that says nothing for so long is hung up on, instead of after an hour",
        "longer idle connections",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S",
        "60",
        "no client waits longer for a replica that hangs",
        "no answer may take longer",
    ),
    Switch(
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S",
        "30",
        "a machine with much else to do has the time to start HAProxy",
        "one that cannot start is given up later",
    ),
    Switch(
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S",
        "30",
        "a HAProxy that was replaced is gone by then",
        "connections kept open longer than that across an update are closed",
    ),
    Switch(
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
        "{drain_s:g}",
        "server.drain_s: a replica that goes still answers while HAProxy learns of it",
        "stopping takes that long",
    ),
    Switch(
        "RAY_worker_niceness",
        "0",
        "replicas run at the priority of everything else, instead of at 15",
        "the learner lowers its own (by 10)",
    ),
    Switch(
        BINARY,
        "{program}",
        "HAProxy listens for the feed alone: no statistics, no metrics; serve/processes/haproxy.py",
        "a new template of Serve's that it does not know is refused at the start",
    ),
    Switch(
        LISTEN,
        "{listen}",
        "server.host and server.port: the one listener that may be beyond loopback",
        "-",
    ),
    Switch(
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        "{fallback_port}",
        "a free port for Serve's own proxy, on loopback: two servers can run on one machine",
        "-",
    ),
    *(
        Switch(
            f"RAY_SERVE_HAPROXY_{name}",
            f"{{home}}{rest}",
            "HAProxy's files and its admin socket are in a private folder, not in /tmp for all",
            "-",
        )
        for name, rest in (
            ("CONFIG_FILE_LOC", "/haproxy.cfg"),
            ("SOCKET_PATH", "/admin.sock"),
            ("SERVER_STATE_BASE", ""),
            ("SERVER_STATE_FILE", "/state"),
            ("METRICS_SOCKET_PATH", "/metrics.sock"),
        )
    ),
)
"""Variables of a server with HAProxy in front."""


class EdgePaths(msgspec.Struct, frozen=True):
    """The values that the variables are filled with."""

    home: str  # private and short: a socket's path has at most 107 bytes, and Serve adds 70
    program: str  # path of the program that Serve starts for HAProxy
    listen: str  # host:port of the feed
    fallback_port: int  # a free port
    drain_s: float  # see `ServerSettings`


def variables(
    server: ServerSettings, places: EdgePaths, around: tuple[Switch, ...] = ALONE
) -> dict[str, str]:
    """Return the environment of a server on one machine, or of one machine of a cluster."""
    switches = around + (FAST if server.edge == "haproxy" else ())
    values = msgspec.to_builtins(places)
    return {switch.name: switch.value.format(**values) for switch in switches}


@contextmanager
def switched(server: ServerSettings) -> Iterator[ServerSettings]:
    """Set the variables for Ray, which must not have been imported yet.

    Yields:
        The server settings, with a port of 0 replaced by a free one.
    """
    home = Path(tempfile.mkdtemp(prefix="nextswipe-", dir="/tmp"))
    server = msgspec.structs.replace(server, port=server.port or free_port(server.host))
    before = dict(os.environ)
    try:
        ours = variables(server, _places(server, home))
        os.environ.update({name: before.get(name, value) for name, value in ours.items()})
        if BINARY in ours:
            os.environ[BINARY] = ours[BINARY]  # our program runs the named HAProxy
        yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
        end_leftovers(home)
        shutil.rmtree(home)


def _places(server: ServerSettings, home: Path) -> EdgePaths:
    return EdgePaths(
        home=str(home),
        program=str(install(home, find_binary())) if server.edge == "haproxy" else "",
        listen=authority(server),
        fallback_port=free_port(LOOPBACK),
        drain_s=server.drain_s,
    )


def free_port(host: str) -> int:
    """Return a port that is free now; Serve cannot report a port that it chose itself."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def authority(server: ServerSettings) -> str:
    """Return host and port as they stand in an address.

    >>> authority(ServerSettings("::1", 80))
    '[::1]:80'
    """
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"


def feed_options(config: Config) -> Options:
    """Return the options of the deployment `Feed`.

    The app bounds the requests in flight and answers the rest with a problem
    (`serve.http.api`). Serve's own bounds are as wide as HAProxy's, because Serve refuses in
    plain text.
    """
    return {
        "name": "Feed",
        "num_replicas": config.server.replicas,
        "max_ongoing_requests": MAX_CONNECTIONS,
        "max_queued_requests": MAX_CONNECTIONS,
        "backpressure_config": {"status_code": 429, "retry_after_s": RETRY_AFTER_S},
        # A new replica is there before an old one goes, even if there is one only.
        "max_surge_percent": 100,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": config.server.drain_s + 20.0,
        "ray_actor_options": {"num_cpus": 0},
        "logging_config": QUIET,
    }


def learner_options() -> Options:
    """Return the options of the deployment `Learner`; an old one stops before a new one starts."""
    return {
        "name": "Learner",
        "num_replicas": 1,
        "max_surge_percent": 0,
        "graceful_shutdown_wait_loop_s": 0.2,
        "ray_actor_options": {"num_cpus": 0},
        "logging_config": QUIET,
    }


QUIET = {"log_level": "WARNING", "enable_access_log": False}
"""No log line for each request: the event log holds them, and metrics count them."""
