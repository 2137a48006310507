"""This module runs the whole server on this machine, with Ray or without, for all commands."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from serve.config import Config


@contextmanager
def serving(config: Config, *, with_ray: bool = True) -> Iterator[str]:
    """Run the server; yield its address and stop everything afterwards.

    Args:
        config: a port of 0 is replaced by a free one.
        with_ray: use Ray Serve; otherwise plain uvicorn, with a process for each replica.
    """
    if with_ray:
        from serve.processes.edge import switched

        with switched(config.server) as server:
            from serve.processes.ray_app import running

            with running(msgspec.structs.replace(config, server=server)) as address:
                yield address
    else:
        from serve.processes.uvicorn_app import running as running_bare

        with running_bare(config) as address:
            yield address
