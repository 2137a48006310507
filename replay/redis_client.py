"""The door to Redis: the handful of commands that are used, with the types of their answers.

redis-py's own types allow for every mode of the client (texts or bytes, blocking or not); here an
answer is bytes, and blocking.
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
"""An entry of a stream: its id and its fields."""

Command = tuple[bytes | str | int, ...]


class Client:
    """Connections to one server; threads share it."""

    def __init__(self, url: str) -> None:
        """Connect when first asked.

        A command whose connection broke is sent once more: reading twice does no harm, a round or
        a mark that was written is found written, and a commit knows itself by its stamp.
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
        """Return the answer to one command."""
        return self._redis.execute_command(*command)

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to several commands, sent in one trip.

        Raises:
            RedisError: of the first that failed; the others were carried out.
        """
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute()
        return answers

    def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to several commands, sent in one trip; an error stands in its place.

        Raises:
            RedisError: the trip failed; what was carried out is not known.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def fields(self, key: str) -> dict[bytes, bytes]:
        """Return all of a hash."""
        found: dict[bytes, bytes] = self.ask("HGETALL", key)
        return found

    def some_fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """Return fields of a hash; None where there is none."""
        found: list[bytes | None] = self.ask("HMGET", key, *names)
        return found

    def entries(self, key: str, first: int, n: int) -> list[Entry]:
        """Return the next entries of a stream from a number on, at most n."""
        found: list[Entry] = self.ask("XRANGE", key, f"{first}-0", "+", "COUNT", n)
        return found

    def last_entry(self, key: str, up_to: str = "+") -> Entry | None:
        """Return the last entry of a stream, up to an id, or None."""
        found: list[Entry] = self.ask("XREVRANGE", key, up_to, "-", "COUNT", 1)
        return found[0] if found else None

    def memory(self) -> tuple[int, int]:
        """Return how many bytes the server has taken, and how many it takes; 0: no limit."""
        told = self._redis.info("memory")
        return int(told["used_memory"]), int(told["maxmemory"])

    def setting(self, name: str) -> str:
        """Return a setting of the server's; empty if it knows none of this name.

        Raises:
            ResponseError: it does not tell.
        """
        return str(self._redis.config_get(name).get(name, ""))
