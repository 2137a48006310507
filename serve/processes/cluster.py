"""The deployment on a cluster, as data: its size and its Ray Serve config.

Serve reads the config as YAML, imports `serve.processes.ray_app:build` on the cluster and passes it
the settings as `args`, so that a changed setting is a changed config. The store's address comes
from a file, because it may hold a password. Rejected alternatives:
`docs/decisions/serve-cluster.md`.
"""

import math
from pathlib import Path
from typing import Any

import msgspec

from serve.config import FREE, Config, StoreSettings, read
from serve.errors import JobError
from serve.processes.edge import (
    TOGETHER,
    EdgePaths,
    Options,
    feed_options,
    learner_options,
    variables,
)

PORT = 8000
DATA = "/data"
"""Mount point of the shared volume: secret, snapshots, rankers, heartbeats."""

HOME = "/opt/nextswipe/edge"
"""HAProxy's private folder in the image; the Dockerfile makes it, and the program in it."""

STORE_FILE = "/etc/nextswipe/store/url"
FALLBACK_PORT = 8500
TARGET_ONGOING = 8
"""Target number of requests in flight per replica.

A replica that keeps up has a few, which wait for the store's fsync; an overloaded one fills its
queue (`server.queue`, 128) at once.
"""

CPUS_A_POD = 4
REPLICAS_A_POD = 3
"""Replicas in a pod; the fourth core serves HAProxy, the raylet and the kernel."""


class Cluster(msgspec.Struct, frozen=True):
    """The size of a cluster and the addresses of its parts."""

    image: str  # container image that serves
    store: str = ""  # address of the store; empty: a file, on a single node
    keeps_ray_state: bool = True  # the store is a Redis, where Ray's head keeps its state as well
    min_replicas: int = 4  # of `Feed`; a single node has `server.replicas`
    max_replicas: int = 64  # of `Feed`
    single_node: bool = False  # everything in one pod, which may keep its log in SQLite

    def pods(self, n_replicas: int) -> int:
        """Return how many pods hold the replicas and the learner: at least two, so one may die."""
        return max(2, math.ceil((n_replicas + 1) / REPLICAS_A_POD))


def require_shared(config: Config, cluster: Cluster, *, own_redis: bool) -> None:
    """Refuse settings that several machines cannot share, and contradictory ones.

    Args:
        config: the settings.
        cluster: its `store` is the address that the operator gave.
        own_redis: whether to set up a Redis beside the server.

    Raises:
        JobError: bounds or options contradict each other, or each machine would have its own store.
    """
    if not 1 <= cluster.min_replicas <= cluster.max_replicas:
        raise JobError(
            "expected 1 <= --min-replicas <= --max-replicas, "
            f"got {cluster.min_replicas} and {cluster.max_replicas}"
        )
    if own_redis and (cluster.store or cluster.single_node):
        raise JobError("expected --own-redis alone: not with an address, not with --single-node")
    if not (cluster.store or own_redis or cluster.single_node):
        raise JobError(
            f"the store is SQLite in {config.data.folder}, a file on one machine's disk, which the "
            "machines of a cluster cannot share: name a Redis (--store URL, or store.url), have "
            "one set up (--own-redis), or ask for one machine (--single-node)"
        )


def serve_config(config: Config, cluster: Cluster) -> dict[str, Any]:
    """Return the Serve config as a tree of values that YAML can hold."""
    return {
        "proxy_location": "EveryNode",
        # HAProxy on any node reaches the replicas on all nodes.
        "http_options": {"host": "0.0.0.0", "port": PORT},  # noqa: S104 - within a pod
        "applications": [
            {
                "name": "nextswipe",
                "route_prefix": "/",
                "import_path": "serve.processes.ray_app:build",
                "args": args_of(_asking(config), STORE_FILE if cluster.store else None),
                "deployments": [_feed(config, cluster), _learner()],
            }
        ],
    }


def _asking(config: Config) -> Config:
    """Return settings with which every request needs a key, as others reach a pod."""
    server = msgspec.structs.replace(config.server, keys="always")
    return msgspec.structs.replace(config, server=server)


def args_of(config: Config, store_file: str | None, folder: str = DATA) -> dict[str, Any]:
    """Return the settings that differ from their defaults, as the app's arguments.

    The address of the store is left out; `store_file` is the path of a file that holds it (None:
    the store is a file in `folder`, which all nodes share).
    """
    store = msgspec.structs.replace(config.store, url="")
    placed = msgspec.structs.replace(
        config, store=store, data=msgspec.structs.replace(config.data, folder=folder)
    )
    tree = msgspec.json.decode(msgspec.json.encode(placed))
    plain = msgspec.json.decode(msgspec.json.encode(Config()))
    return {"settings": _changed(tree, plain), "store_file": store_file}


def config_of(args: dict[str, Any]) -> Config:
    """Return the settings from the arguments of `args_of`, with the store's address.

    Raises:
        ConfigError: the settings are invalid.
        OSError: the file with the address cannot be read.
    """
    config = read(args["settings"])
    if args["store_file"] is None:
        return config
    url = Path(args["store_file"]).read_text().strip()
    settings = msgspec.to_builtins(config.store) | {"url": url}
    return msgspec.structs.replace(config, store=msgspec.convert(settings, StoreSettings))


def environment(config: Config) -> dict[str, str]:
    """Return the environment variables that each node of the cluster needs before Ray starts."""
    places = EdgePaths(
        home=HOME,
        program=f"{HOME}/haproxy",
        listen=f"0.0.0.0:{PORT}",
        fallback_port=FALLBACK_PORT,
        drain_s=config.server.drain_s,
    )
    return variables(config.server, places, TOGETHER)


def _feed(config: Config, cluster: Cluster) -> Options:
    options = {**feed_options(config), **_HEALTH, "ray_actor_options": {"num_cpus": 1}}
    if cluster.single_node:
        return options
    del options["num_replicas"]
    return options | {
        "autoscaling_config": {
            "min_replicas": cluster.min_replicas,
            "initial_replicas": cluster.min_replicas,
            "max_replicas": cluster.max_replicas,
            "target_ongoing_requests": TARGET_ONGOING,
            "upscale_delay_s": 10.0,
            "downscale_delay_s": 600.0,
        },
        # An update starts a quarter more replicas, not twice as many.
        "max_surge_percent": 25,
    }


def _learner() -> Options:
    return {**learner_options(), **_HEALTH, "ray_actor_options": {"num_cpus": 1}}


_HEALTH = {"health_check_period_s": 5.0, "health_check_timeout_s": 30.0}


def _changed(tree: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults; tables with free keys are kept whole."""
    found = {}
    for key, value in tree.items():
        if value != plain[key]:
            is_table = isinstance(value, dict) and key not in FREE
            found[key] = _changed(value, plain[key]) if is_table else value
    return found
