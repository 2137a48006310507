"""The Ray Serve deployments: `Feed`, one hop from the proxy to the page, and one `Learner`.

Serve mounts the same plain ASGI app that tests drive without Ray. Each `Feed` replica opens the
database, the catalogue and the newest snapshot for itself: replicas and the learner meet only in
the database and the snapshot folder, never in a call. Neither imports torch or rllib.

Rejected: an inner deployment for ranking (a second hop halves the throughput and saves nothing,
since a replica without torch is small), and Serve's `reconfigure` for new models (it takes the
replica out of rotation; the follower swaps in place).
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.applications import Starlette

from serve.config import Config
from serve.replica import FeedReplica, LearnerReplica

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
MAX_ONGOING_REQUESTS = 100


def now_ms() -> int:
    """Return the server's clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


@ray_serve.ingress()
class Feed:
    """A replica that answers the HTTP API."""

    def __init__(self, config: Config) -> None:
        """Open the data folder and follow the learner."""
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
        """Resume from the newest snapshot and start learning."""
        self._replica = LearnerReplica(config, now_ms=now_ms)

    def check_health(self) -> None:
        """Raise what stopped the learner; Serve then starts it again."""
        self._replica.check()

    def __del__(self) -> None:
        """Publish what was learned and stop."""
        self._replica.close()


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Run the whole server on this machine; yield its address, take everything down after.

    Args:
        config: the listener binds to its host and port; everything of Ray's stays on loopback.
    """
    # A page's matrices are small: BLAS threads would only wait for each other. Workers inherit it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=config.server.replicas + 1,
    )
    try:
        host, port = config.server.host, config.server.port or _free_port(config.server.host)
        ray_serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=QUIET)
        deploy(config)
        yield f"http://{host}:{port}"
    finally:
        _take_down()


def _free_port(host: str) -> int:
    """Return a port that is free now; Serve cannot say which one it would have taken itself."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _take_down() -> None:
    """Let every replica close, then end Ray; Serve's own shutdown kills its controller noisily."""
    try:
        for name in ray_serve.status().applications:
            ray_serve.delete(name)
    finally:
        ray.shutdown()


def deploy(config: Config) -> None:
    """Deploy feed and learner to the Serve instance that is connected."""
    learner = ray_serve.deployment(
        name="Learner", num_replicas=1, ray_actor_options={"num_cpus": 0}, logging_config=QUIET
    )(Learner)
    feed = ray_serve.deployment(
        name="Feed",
        num_replicas=config.server.replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        logging_config=QUIET,
    )(Feed)
    ray_serve.run(learner.bind(config), name="learner", route_prefix=None)
    ray_serve.run(feed.bind(config), name="feed", route_prefix="/")
