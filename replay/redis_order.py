"""The order in which the lines of all shards are read, written down round by round.

A line may reach its shard after later ones were read elsewhere, so no rule could reconstruct the
order that a learner saw. The order is therefore part of the log: the first reader past the last
round writes the next one, and all readers follow it. Rules and rejected alternatives:
`docs/decisions/redis-log.md`.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from replay.redis_client import Entry
from replay.redis_database import RedisDatabase
from replay.redis_line import Line
from replay.redis_script import ROUND
from replay.redis_shard import Shard
from replay.redis_writer import ITEMS

ROUND_LINES = 1_000
_ROUNDS_READ = 64


class Placed(NamedTuple):
    """A line with its offset in the order and its shard."""

    offset: int
    shard: int
    line: Line


class Round(NamedTuple):
    """A stretch of the order: in each shard the lines after `start`, up to `end`."""

    start: tuple[int, ...]
    end: tuple[int, ...]


class MergeOrder:
    """The order of the lines of one installation."""

    def __init__(self, database: RedisDatabase) -> None:
        self._client = database.client
        self._shards: Sequence[Shard] = database.shards
        self._key = database.shards[ITEMS].key("order")

    def read(self, after: int) -> Iterator[Placed]:
        """Yield the lines after an offset, up to the current end of all shards."""
        while True:
            stretches = [self.lines(stretch) for stretch in self._rounds(after)]
            if not stretches:
                extended = self._extend(after)
                if extended is None:
                    return
                stretches = [iter(extended)]
            for placed in chain.from_iterable(stretches):
                if placed.offset > after:
                    yield placed
                    after = placed.offset

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset at this offset; raise ValueError if the log is shorter."""
        reached = list(self._start(offset))
        for placed in self.read(sum(reached)):
            if sum(reached) == offset:
                break
            reached[placed.shard] += 1
        if sum(reached) != offset:
            raise ValueError(f"expected an offset up to {sum(reached)}, got {offset}")
        return tuple(reached)

    def last_offset(self) -> int:
        """Return the number of lines in all shards."""
        return sum(self._heads(range(len(self._shards))))

    def lines(self, stretch: Round) -> Iterator[Placed]:
        """Yield the lines of a round, in order."""
        parts = [
            self._lines(shard, start, end - start)
            for shard, (start, end) in enumerate(zip(stretch.start, stretch.end, strict=True))
        ]
        yield from _placed(_merged(parts), stretch.start)

    def _lines(self, shard: int, after: int, n: int) -> list[Line]:
        lines = self._shards[shard].lines(after, n) if n else []
        if len(lines) != n:
            raise RuntimeError(
                f"expected {n} lines behind {after} in shard {shard}, got {len(lines)}"
            )
        return lines

    def _rounds(self, after: int) -> list[Round]:
        """Return the recorded rounds, beginning with the one of the line after an offset."""
        entries = self._client.entries(self._key, after + 1, _ROUNDS_READ)
        start, rounds = self._start(after), []
        for _, entry in entries:
            end = _vector(entry[b"v"])
            rounds.append(Round(start, end))
            start = end
        return rounds

    def _start(self, after: int) -> tuple[int, ...]:
        return self._end(self._client.last_entry(self._key, f"{after}-0"))

    def _extend(self, after: int) -> list[Placed] | None:
        """Record the round after an offset and return its lines, or None if there are none.

        An empty list means that another reader recorded it first, and that one counts.
        """
        last = self._client.last_entry(self._key)
        start = self._end(last)
        if sum(start) > after:
            return []
        people = self._heads(range(ITEMS + 1, len(self._shards)))
        (items,) = self._heads([ITEMS])  # read after the users' shards: an item precedes its pages
        heads = (items, *people)
        if heads == start:
            return None
        lines = self._next(start, heads)
        end = list(start)
        for shard, _ in lines:
            end[shard] += 1
        expected = last[0] if last else b"0-0"
        bounds = " ".join(map(str, end))
        is_ours = self._client.ask("EVAL", ROUND, 1, self._key, expected, f"{sum(end)}-0", bounds)
        return list(_placed(lines, start)) if is_ours else []

    def _end(self, entry: Entry | None) -> tuple[int, ...]:
        return (0,) * len(self._shards) if entry is None else _vector(entry[1][b"v"])

    def _next(self, start: tuple[int, ...], heads: tuple[int, ...]) -> list[tuple[int, Line]]:
        """Return a round's lines: `ROUND_LINES` of items, or all of them and as many of users."""
        n_items = min(heads[ITEMS] - start[ITEMS], ROUND_LINES)
        n_people = ROUND_LINES if n_items < ROUND_LINES else 0
        most = [n_items] + [n_people] * (len(start) - 1)
        parts = [
            self._lines(shard, after, min(head - after, n))
            for shard, (after, head, n) in enumerate(zip(start, heads, most, strict=True))
        ]
        return list(islice(_merged(parts), n_items + n_people))

    def _heads(self, shards: Sequence[int]) -> tuple[int, ...]:
        keys = [self._shards[shard].key("head") for shard in shards]
        offsets = self._client.ask_all([("HGET", key, "offset") for key in keys])
        return tuple(int(offset or 0) for offset in offsets)


def _merged(parts: Sequence[Sequence[Line]]) -> Iterator[tuple[int, Line]]:
    """Yield lines with their shards: items first, then by time, the lower shard first."""
    yield from ((ITEMS, line) for line in parts[ITEMS])
    people = [[(shard, line) for line in part] for shard, part in enumerate(parts) if shard > ITEMS]
    yield from heapq.merge(*people, key=lambda found: (found[1].at_ms, found[0]))


def _placed(lines: Iterable[tuple[int, Line]], start: tuple[int, ...]) -> Iterator[Placed]:
    for place, (shard, line) in enumerate(lines, sum(start) + 1):
        yield Placed(place, shard, line)


def _vector(text: bytes) -> tuple[int, ...]:
    return tuple(map(int, text.split()))
