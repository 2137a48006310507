"""Reach of a server: its address, its names, and whether it asks for a key."""

import ipaddress

from serve.access.keys import read_keys
from serve.config import Config, ServerSettings
from serve.errors import JobError
from serve.store.store import Store

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def allowed_hosts(server: ServerSettings) -> frozenset[str] | None:
    """Return the names by which requests may call a server; None: any.

    A server that always asks for keys may be called by any name, as one behind a service of a
    cluster is. A server without keys is called by its own names alone: else a site could lead
    its own name to this machine, and its pages would be answered.
    """
    named = frozenset(server.hosts)
    if asks_always(server):
        return named or None
    own = f"[{server.host}]" if ":" in server.host else server.host.lower()
    return LOOPBACK_NAMES | {own} | named


def asks_always(server: ServerSettings) -> bool:
    """Return whether a server asks for keys even before there is one."""
    return server.keys == "always" or not is_loopback(server.host)


def require_guarded(config: Config, store: Store, now_ms: int) -> None:
    """Refuse a server that other machines reach and that asks nobody for a key.

    Raises:
        JobError: it listens beyond loopback and no key is live.
    """
    if is_loopback(config.server.host):
        return
    with store.view() as view:
        if any(key.is_live(now_ms) for key in read_keys(view)):
            return
    raise JobError(
        f"server.host: expected a live API key for a server that other machines reach, got "
        f"{config.server.host} and none; create one first: nextswipe keys create NAME --scope feed "
        "--scope feedback"
    )
