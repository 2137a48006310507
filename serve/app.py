"""The Ray Serve application: `Feed`, one hop from the edge to the page, and one `Learner`.

Serve mounts the same plain ASGI app that tests drive without Ray. Each `Feed` replica opens the
database, the catalogue and the newest snapshot for itself: replicas and the learner meet only in
the database and the snapshot folder, never in a call. Neither imports torch or rllib. What Serve is
started with stands in `serve.edge`.

Rejected: an inner deployment for ranking (a second hop halves the throughput and saves nothing,
since a replica without torch is small), Serve's `reconfigure` for new models (it takes the
replica out of rotation; the follower swaps in place), and an application of its own for the learner
(as the ingress of one it would be given a port).
"""

import logging
import os
from collections.abc import Iterator
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
from serve.cluster import config_of
from serve.config import Config, Server
from serve.edge import (
    LEARNER_NICENESS,
    LOOPBACK,
    QUIET,
    Options,
    authority,
    feed_options,
    learner_options,
)
from serve.replica import FeedReplica, LearnerReplica

_ADD_PORT = "add_port_to_grpc_server"
"""What opens a replica's port for calls between deployments, in Serve's module of replicas."""


@ray_serve.ingress()
class Feed:
    """A replica that answers the HTTP API."""

    def __init__(self, config: Config, learner: object) -> None:
        """Open the data folder and follow the learner.

        Args:
            config: names the folder.
            learner: is never called; it makes one application of the two.
        """
        _stay_on_loopback()
        self._replica = FeedReplica(config, now_ms=now_ms)

    def __serve_build_asgi_app__(self) -> Starlette:
        """Return the app that Serve mounts."""
        return self._replica.app

    def check_health(self) -> None:
        """Raise if the follower has died; Serve then replaces the replica."""
        self._replica.check()

    def __del__(self) -> None:
        """Commit what is queued and let go of the database."""
        self._replica.close()


class Learner:
    """The one learner, on a thread of its own beside Serve's event loop."""

    def __init__(self, config: Config) -> None:
        """Resume from the newest snapshot and start learning, after whoever answers requests."""
        _stay_on_loopback()
        os.nice(LEARNER_NICENESS)
        self._replica = LearnerReplica(config, now_ms=now_ms)

    def check_health(self) -> None:
        """Raise what stopped the learner; Serve then starts it again."""
        self._replica.check()

    def __del__(self) -> None:
        """Publish what was learned and stop."""
        self._replica.close()


def _stay_on_loopback() -> None:
    """Have this replica's port for calls between deployments on loopback, where Ray's own are.

    Serve opens it on all interfaces whatever address the node has, after the constructor has run.
    """
    if ray.util.get_node_ip_address() == LOOPBACK:
        names = vars(serve_replica)
        names[_ADD_PORT] = partial(_add_loopback_port, names[_ADD_PORT])


def _add_loopback_port(add_port: Any, server: Any, address: str) -> int:
    return int(add_port(server, address.replace("[::]", LOOPBACK)))


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Run the whole server on this machine; yield its address, take everything down after.

    Args:
        config: its server is the one that `serve.edge.switched` has yielded. The listener binds to
            its host and port; everything else stays on loopback.

    Raises:
        RuntimeError: Ray was imported before its switches were set, and goes by its own.
    """
    if ENABLE_RAY_CLUSTER and os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
        raise RuntimeError("expected serve.edge.switched before the first import of ray")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(
        address="local",  # not a cluster that `ray start` has left traces of
        _node_ip_address=LOOPBACK,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=config.server.replicas + 1,
    )
    try:
        ray_serve.start(http_options=_http_options(config.server), logging_config=QUIET)
        deploy(config)
        yield f"http://{authority(config.server)}"
    finally:
        _take_down()


def _http_options(server: Server) -> HTTPOptions:
    """Return where Serve listens: with HAProxy in front, whose address is its own, on loopback."""
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
    """Deploy feed and learner to the Serve instance that is connected, or update them.

    What has changed is replaced, one replica by the next, and no request fails: a new one is there
    before an old one goes, and what an old one has in hand is finished. So a replica is told of the
    server only what it goes by: more or fewer of them replace none.
    """
    feed = application(config, feed_options(config), learner_options())
    ray_serve.run(feed, name="nextswipe", route_prefix="/")


def build(args: dict[str, Any]) -> Application:
    """Return the application of a cluster: what the Serve config of `nextswipe deploy` imports.

    Args:
        args: of the Serve config, see `serve.cluster.config_of`. The options of the two deployments
            stand in that config as well.
    """
    return application(config_of(args), {"name": "Feed"}, {"name": "Learner"})


def application(config: Config, feed: Options, learner: Options) -> Application:
    """Return feed and learner as one application, each told only what it goes by."""
    inside = msgspec.structs.replace(config, server=Server(queue=config.server.queue))
    learning = msgspec.structs.replace(config, server=Server())
    bound = ray_serve.deployment(**learner)(Learner).bind(learning)
    return ray_serve.deployment(**feed)(Feed).bind(inside, bound)
