"""The Ray Serve application: the `Feed` deployment and one `Learner`.

Serve mounts the same ASGI app that tests drive without Ray. Each `Feed` replica opens the store,
the catalogue and the newest snapshot by itself; replicas and the learner meet only in the store and
the snapshot folder. Neither imports torch or rllib. Rejected alternatives:
`docs/decisions/serve-processes.md`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import ray
from ray import serve as ray_serve
from ray._private.ray_constants import ENABLE_RAY_CLUSTER
from ray.serve import Application
from ray.serve._private import replica as serve_replica
from ray.serve.config import HTTPOptions
from starlette.applications import Starlette

from serve.clock import now_ms
from serve.config import Config, ServerSettings
from serve.processes.cluster import config_of
from serve.processes.edge import (
    LEARNER_NICENESS,
    LOOPBACK,
    QUIET,
    Options,
    authority,
    feed_options,
    learner_options,
)
from serve.processes.logs import write_logs
from serve.processes.replica import FeedReplica, LearnerReplica

_ADD_PORT = "add_port_to_grpc_server"
"""Function in Serve's replica module that opens a replica's port for calls between deployments."""


@ray_serve.ingress()
class Feed:
    """A replica that answers the HTTP API."""

    def __init__(self, config: Config, learner: object) -> None:
        """Open the data folder; `learner` is never called, it makes one application of the two."""
        _stay_on_loopback()
        write_logs(config.log, "feed")
        self._replica = FeedReplica(config, now_ms=now_ms)

    def __serve_build_asgi_app__(self) -> Starlette:
        """Return the app that Serve mounts."""
        return self._replica.app

    def check_health(self) -> None:
        """Raise if the follower has died; Serve then replaces the replica."""
        self._replica.check()

    def __del__(self) -> None:
        self._replica.close()


class Learner:
    """The one learner, on a thread of its own beside Serve's event loop."""

    def __init__(self, config: Config) -> None:
        """Resume from the newest snapshot and start learning, at a lower priority than replicas."""
        _stay_on_loopback()
        write_logs(config.log, "learner")
        os.nice(LEARNER_NICENESS)
        self._replica = LearnerReplica(config, now_ms=now_ms)

    def check_health(self) -> None:
        """Raise the error that stopped the learner; Serve then starts it again."""
        self._replica.check()

    def __del__(self) -> None:
        self._replica.close()


def _stay_on_loopback() -> None:
    """Bind this replica's port for calls between deployments to loopback, like Ray's own ports.

    Serve opens it on all interfaces, whatever address the node has, after the constructor has run.
    """
    if ray.util.get_node_ip_address() == LOOPBACK:
        names = vars(serve_replica)
        names[_ADD_PORT] = partial(_add_loopback_port, names[_ADD_PORT])


def _add_loopback_port(add_port: Any, server: Any, address: str) -> int:
    return int(add_port(server, address.replace("[::]", LOOPBACK)))


@contextmanager
def running(config: Config, *, listens: Callable[[], object]) -> Iterator[str]:
    """Run the whole server on this machine; yield its address and stop everything afterwards.

    Args:
        config: its server settings come from `serve.processes.edge.switched`. The listener binds to
            their host and port; everything else stays on loopback.
        listens: called when the listener answers, before there is an application.

    Raises:
        RuntimeError: Ray was imported before its environment variables were set.
    """
    if ENABLE_RAY_CLUSTER and os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
        raise RuntimeError("expected serve.processes.edge.switched before the first import of ray")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(
        address="local",  # not a cluster that an earlier `ray start` left traces of
        _node_ip_address=LOOPBACK,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=config.server.replicas + 1,
    )
    try:
        ray_serve.start(http_options=_http_options(config.server), logging_config=QUIET)
        listens()
        deploy(config)
        yield f"http://{authority(config.server)}"
    finally:
        _take_down()


def _http_options(server: ServerSettings) -> HTTPOptions:
    """Return Serve's own listener: on loopback if HAProxy listens on the configured host."""
    host = LOOPBACK if server.edge == "haproxy" else server.host
    return HTTPOptions(host=host, port=server.port)


def _take_down() -> None:
    """Let every replica close, then end Ray; Serve's own shutdown kills its controller noisily."""
    try:
        for name in ray_serve.status().applications:
            ray_serve.delete(name)
    finally:
        ray.shutdown()


def deploy(config: Config) -> None:
    """Deploy or update the feed and the learner on the connected Serve instance.

    Serve replaces changed deployments one replica at a time without failing a request. A replica is
    given only the server settings that it uses, so a new number of replicas replaces none.
    """
    feed = application(config, feed_options(config), learner_options())
    ray_serve.run(feed, name="nextswipe", route_prefix="/")


def build(args: dict[str, Any]) -> Application:
    """Return the application that the Serve config of `nextswipe deploy` imports on a cluster.

    Args:
        args: arguments from the Serve config, see `serve.processes.cluster.config_of`. The options
            of the two deployments stand in that config as well.
    """
    return application(config_of(args), {"name": "Feed"}, {"name": "Learner"})


def application(config: Config, feed: Options, learner: Options) -> Application:
    """Return feed and learner as one application, each with only the settings that it uses."""
    used = ServerSettings(queue=config.server.queue, origins=config.server.origins)
    inside = msgspec.structs.replace(config, server=used)
    learning = msgspec.structs.replace(config, server=ServerSettings())
    bound = ray_serve.deployment(**learner)(Learner).bind(learning)
    return ray_serve.deployment(**feed)(Feed).bind(inside, bound)
