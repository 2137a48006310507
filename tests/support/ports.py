"""Ports for servers of the tests."""

import random
import socket


def free_port() -> int:
    """Return a port that nobody holds, from a range that neither Linux nor Ray takes ports from.

    Linux gives sockets without a port one from 32,768 on, and Ray its workers from 10,002 on, up
    to 19,999. A port of theirs could be taken again before the server has bound it.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
