"""This module runs the whole server on this machine, with Ray or without, for all commands."""

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from serve.config import Config
from serve.content.titles import configured_titles
from serve.content.worker import require_hook
from serve.learn.custom import require_lawful
from serve.processes.edge import switched
from serve.processes.starting import Door, answering
from serve.processes.uvicorn_app import running as running_bare


@contextmanager
def serving(config: Config, *, with_ray: bool = True) -> Iterator[str]:
    """Run the server; yield its address and stop everything afterwards.

    Args:
        config: a port of 0 is replaced by a free one.
        with_ray: use Ray Serve; otherwise plain uvicorn, with a process for each replica.

    Raises:
        JobError: an arm's custom policy cannot be loaded or breaks a law, or the hook that embeds
            items or the encoder of titles cannot be loaded.
        OSError: the port is taken.
    """
    with (
        opening(config, with_ray=with_ray) as door,
        serving_behind(door, config, with_ray=with_ray) as address,
    ):
        yield address


def opening(config: Config, *, with_ray: bool) -> AbstractContextManager[Door]:
    """Take the port, and answer there that the server is starting."""
    return answering(config.server, is_shared=with_ray and config.server.edge == "haproxy")


@contextmanager
def serving_behind(door: Door, config: Config, *, with_ray: bool) -> Iterator[str]:
    """Run the server on a port that was taken; see `serving`."""
    require_lawful(config)
    require_hook(config)
    configured_titles(config)
    config = msgspec.structs.replace(config, server=door.settings)
    if not with_ray:
        with running_bare(config, door) as address:
            yield address
        return
    with switched(config.server) as server:
        # Ray reads its switches while it is imported, so the import must follow them.
        ray_app = importlib.import_module("serve.processes.ray_app")
        if server.edge != "haproxy":
            door.close()  # Serve's own proxy shares its port with nobody
        switched_config = msgspec.structs.replace(config, server=server)
        with ray_app.running(switched_config, listens=door.close) as address:
            yield address
