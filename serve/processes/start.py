"""This module runs the whole server on this machine, with Ray or without, for all commands."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from serve.config import Config
from serve.content.titles import configured_titles
from serve.content.worker import require_hook
from serve.learn.custom import require_lawful
from serve.processes.edge import switched
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
    """
    require_lawful(config)
    require_hook(config)
    configured_titles(config)
    if with_ray:
        with switched(config.server) as server:
            # Ray reads its switches while it is imported, so the import must follow them.
            ray_app = importlib.import_module("serve.processes.ray_app")
            with ray_app.running(msgspec.structs.replace(config, server=server)) as address:
                yield address
    else:
        with running_bare(config) as address:
            yield address
