"""The whole server on this machine, with Ray or without: the one way in which commands start it."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from serve.config import Config


@contextmanager
def serving(config: Config, *, with_ray: bool = True) -> Iterator[str]:
    """Run the server; yield its address, take everything down after.

    Args:
        config: a port of 0 is replaced by a free one.
        with_ray: under Ray Serve; else plain uvicorn, a process for each replica.
    """
    if with_ray:
        from serve.edge import switched

        with switched(config.server) as server:
            from serve.app import running  # imports Ray, which reads its switches then

            with running(msgspec.structs.replace(config, server=server)) as address:
                yield address
    else:
        from serve.bare import running as running_bare

        with running_bare(config) as address:
            yield address
