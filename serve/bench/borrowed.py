"""Helpers for the Redis that a benchmark borrows: memory use, and removing an installation."""

from replay.redis_client import Client


def taken_bytes(url: str) -> int:
    """Return the memory used by the whole Redis server."""
    client = Client(url)
    used_bytes, _ = client.memory()
    client.close()
    return used_bytes


def remove(url: str, name: str) -> None:
    """Delete an installation, key by key."""
    client, cursor = Client(url), b"0"
    while True:
        cursor, keys = client.ask("SCAN", cursor, "MATCH", f"{{{name}.*", "COUNT", 1_000)
        client.ask_all([("UNLINK", key) for key in keys])
        if int(cursor) == 0:
            break
    client.close()
