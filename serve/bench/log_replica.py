"""A feed replica behind a socket, run by `serve.bench.log` in its own process with `python -m`.

It prints its port once it listens, and serves until it is terminated.
"""

import gc
import os
import signal
import socket
import sys
from contextlib import closing

import msgspec
import uvicorn

from serve.clock import now_ms
from serve.config import Config
from serve.processes.replica import FeedReplica

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main(settings: str) -> None:
    """Serve the replica of these settings (JSON)."""
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))  # uvicorn raises it again
    replica = FeedReplica(msgspec.json.decode(settings, type=Config), now_ms=now_ms)
    gc.collect()
    gc.freeze()  # as `serve.processes.uvicorn_app` does
    with (
        closing(replica),
        socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener,
    ):
        print(listener.getsockname()[1], flush=True)  # noqa: T201  # the parent process reads it
        uvicorn.Server(
            uvicorn.Config(replica.app, access_log=False, log_level="warning", lifespan="off")
        ).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
