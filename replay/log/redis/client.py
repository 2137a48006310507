"""The Lua script of a commit: it checks that the rows read are unchanged, then writes everything.

Each row carries the stamp of the write that made it, so the check compares stamps. Redis runs a
script without interruption and writes its effects to the append-only file as one unit. All keys
share the shard's hash tag, so that a script stays on one cluster node. Rejected alternatives:
`docs/decisions/redis-log.md`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
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


class RedisClient:
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


CONFLICT = -1

COMMIT = """
local prefix, stamp = ARGV[1], ARGV[2]
local sent = prefix .. 'sent:' .. ARGV[4]
if redis.call('GET', sent) == stamp then return 0 end
local change = cmsgpack.unpack(ARGV[3])
for _, seen in ipairs(change.seen) do
    local row = redis.call('HGET', prefix .. 'table:' .. seen[1], seen[2])
    if (row and string.sub(row, 1, 8) or '') ~= seen[3] then return -1 end
end
for _, free in ipairs(change.free) do
    if redis.call('HEXISTS', prefix .. 'said:' .. free[1], free[2]) == 1 then return -1 end
end
for _, beginning in ipairs(change.fresh) do
    local first, last = '[' .. beginning, '[' .. beginning .. '\\244\\143\\191\\191'
    local there = redis.call('ZRANGEBYLEX', prefix .. 'pages', first, last, 'LIMIT', 0, 1)
    if #there > 0 then return -1 end
end
if change.catalogue >= 0 then
    local at = tonumber(redis.call('HGET', KEYS[1], 'catalogue') or '0')
    if at ~= change.catalogue then return -1 end
end
local offset = tonumber(redis.call('HGET', KEYS[1], 'offset') or '0')
local said, catalogue = {}, 0
for _, line in ipairs(change.lines) do
    offset = offset + 1
    local kind, payload, about, page, event = line[1], line[2], line[3], line[4], line[5]
    if about ~= '' then
        redis.call('HSET', prefix .. 'about:' .. about, offset, payload)
        redis.call('XADD', prefix .. 'log', offset .. '-0', 'u', about)
    else
        redis.call('XADD', prefix .. 'log', offset .. '-0', 'l', payload)
    end
    if page ~= '' then
        local fields = said[page]
        if fields and #fields > 1000 then  -- unpack takes no more than some thousands
            redis.call('HSET', unpack(fields))
            fields = nil
        end
        if not fields then
            fields = {prefix .. 'said:' .. page}
            said[page] = fields
        end
        fields[#fields + 1] = event
        fields[#fields + 1] = offset
    end
    if kind == 'page' then redis.call('ZADD', prefix .. 'pages', 0, page) end
    if kind == 'item' or kind == 'projection' then catalogue = offset end
end
for _, fields in pairs(said) do redis.call('HSET', unpack(fields)) end
if catalogue > 0 then redis.call('HSET', KEYS[1], 'catalogue', catalogue) end
if #change.lines > 0 then redis.call('HSET', KEYS[1], 'offset', offset) end
for _, row in ipairs(change.rows) do
    redis.call('HSET', prefix .. 'table:' .. row[1], row[2], stamp .. row[3])
end
for _, row in ipairs(change.gone) do
    redis.call('HDEL', prefix .. 'table:' .. row[1], row[2])
end
for _, edit in ipairs(change.edits) do
    redis.call('HSET', prefix .. 'about:' .. edit[1], edit[2], edit[3])
end
for _, total in ipairs(change.totals) do
    redis.call('HINCRBY', prefix .. 'totals', total[1], total[2])
end
redis.call('SET', sent, stamp, 'EX', ARGV[5])
return 0
"""
"""The commit. KEYS: the shard's head. ARGV: key prefix, stamp, `ShardChange`, writer, seconds.

The stamp marks this write and its rows; the script remembers the writer's last stamp for so many
seconds. A client that lost the reply sends the same commit again, and the stamp makes the
repetition a no-op. Returns 0, or -1 if a row that was read has changed. Offsets are written as Lua
writes numbers, exact up to 10^14.
"""

RAISE = """
if tonumber(redis.call('HGET', KEYS[1], 'catalogue') or '0') < tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], 'catalogue', ARGV[1])
end
return 0
"""
"""KEYS: a shard's head. ARGV: the catalogue mark to which the shard's mark is raised."""

ROUND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if (#last > 0 and last[1][1] or '0-0') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], ARGV[2], 'v', ARGV[3])
return 1
"""
"""KEYS: the merge order. ARGV: its last entry as it was read, the new entry, its bounds."""


class ChangeLine(NamedTuple):
    """A line to append."""

    kind: str  # of its record
    payload: bytes  # as `replay.log.redis.shard.Line` reads it
    about: str = ""  # the user whom it identifies; empty: none
    page: str = ""  # with `event`, the key of idempotence; empty: every append counts
    event: str = ""  # empty for the page itself


class ShardChange:
    """The checks and writes of one run of the script."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], bytes] = {}  # stamps of the rows that were read
        self.free: set[tuple[str, str]] = set()  # keys of lines that were not there
        self.fresh: set[str] = set()  # id prefixes that no page had
        self.catalogue = -1  # the shard's mark, if it was read
        self.lines: list[ChangeLine] = []
        self.said: set[tuple[str, str]] = set()  # keys of these lines
        self.rows: dict[tuple[str, str], bytes | None] = {}
        self.edits: list[tuple[str, str, bytes]] = []
        self.totals: dict[str, int] = {}

    def packed(self) -> bytes:
        """Return the change as the script unpacks it, with bytes as Lua's raw strings."""
        change = {
            "seen": [(*key, stamp) for key, stamp in self.seen.items()],
            "free": list(self.free),
            "fresh": list(self.fresh),
            "catalogue": self.catalogue,
            "lines": self.lines,
            "rows": [(*key, value) for key, value in self.rows.items() if value is not None],
            "gone": [key for key, value in self.rows.items() if value is None],
            "edits": self.edits,
            "totals": list(self.totals.items()),
        }
        packed: bytes = msgpack.packb(change, use_bin_type=False)
        return packed
