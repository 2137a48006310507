"""The Redis client: the few commands in use, with the types of their replies.

redis-py's types cover every mode of the client; here replies are bytes and calls are blocking.
"""

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 10.0

RedisError = redis.RedisError
ResponseError = redis.ResponseError
NoScriptError = redis.exceptions.NoScriptError

Entry = tuple[bytes, dict[bytes, bytes]]
"""An entry of a stream, as id and fields."""

Command = tuple[bytes | str | int, ...]


class Client:
    """Connections to one server, shared by threads."""

    def __init__(self, url: str) -> None:
        """Prepare a client that connects on first use.

        A command whose connection broke is sent once more. That is safe: reads have no effect,
        rounds and marks already written are recognised, and a commit carries a stamp.
        """
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()

    def ask(self, *command: bytes | str | int) -> Any:
        """Return the reply to one command."""
        return self._redis.execute_command(*command)

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands sent in one trip, or raise the first RedisError."""
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute()
        return answers

    def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to several commands, sent in one round trip, with errors in place.

        Raises:
            RedisError: the round trip failed; it is unknown which commands were carried out.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def fields(self, key: str) -> dict[bytes, bytes]:
        """Return all fields of a hash."""
        found: dict[bytes, bytes] = self.ask("HGETALL", key)
        return found

    def some_fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """Return some fields of a hash; None for a missing one."""
        found: list[bytes | None] = self.ask("HMGET", key, *names)
        return found

    def entries(self, key: str, first: int, n: int) -> list[Entry]:
        """Return up to n entries of a stream, from a number on."""
        found: list[Entry] = self.ask("XRANGE", key, f"{first}-0", "+", "COUNT", n)
        return found

    def last_entry(self, key: str, up_to: str = "+") -> Entry | None:
        """Return the last entry of a stream up to an id, or None."""
        found: list[Entry] = self.ask("XREVRANGE", key, up_to, "-", "COUNT", 1)
        return found[0] if found else None

    def memory(self) -> tuple[int, int]:
        """Return the server's used bytes and its limit; a limit of 0 means none."""
        told = self._redis.info("memory")
        return int(told["used_memory"]), int(told["maxmemory"])

    def setting(self, name: str) -> str:
        """Return a server setting, empty if unknown; raise ResponseError if the server refuses."""
        return str(self._redis.config_get(name).get(name, ""))
