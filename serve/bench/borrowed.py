"""The Redis that a bench is lent: what it has taken, and an installation removed from it again."""

from replay.redis_client import Client


def taken_bytes(url: str) -> int:
    """Return how much memory the server has taken, whoever wrote to it."""
    client = Client(url)
    used_bytes, _ = client.memory()
    client.close()
    return used_bytes


def remove(url: str, name: str) -> None:
    """Remove an installation, key by key."""
    client, cursor = Client(url), b"0"
    while True:
        cursor, keys = client.ask("SCAN", cursor, "MATCH", f"{{{name}.*", "COUNT", 1_000)
        client.ask_all([("UNLINK", key) for key in keys])
        if int(cursor) == 0:
            break
    client.close()
