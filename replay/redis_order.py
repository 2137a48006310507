"""The order in which the lines of all shards are read: written down once, round by round.

Lines of different shards have no order until somebody reads them, and whatever order the learner
read them in is the one that its models are folds of. No rule could give that order back from the
lines alone, since a line may reach its shard after later ones were read elsewhere. So the order is
part of the log. A round says how far each shard is read at its end. Within a round the lines about
items come first, then those of people by the time of their record, the lower shard first. Whoever
reads past the last round writes the next one, if nobody did meanwhile; from then on it is the same
for all, and a line's offset in the log is its place in this order.

A round is bounded by reading the people's shards first and the items' after them: an item is
written before a page can show it, so no page comes before its items, whatever the clocks say.

Rejected: reading up to a watermark of times (a shard where nobody is holds all others up, and a
clock that is behind breaks the order), and one counter for all shards (each write would go to one
place, which is what shards are there to avoid).
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
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
    """A line with its place in the order, and the shard that it is in."""

    offset: int
    shard: int
    line: Line


class Round(NamedTuple):
    """A stretch of the order: behind `start`, up to `end`, of each shard."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def before(self) -> int:
        """The offset of the last line before it."""
        return sum(self.start)


class MergeOrder:
    """The order of the lines of one installation."""

    def __init__(self, database: RedisDatabase) -> None:
        """Read and write it on this database."""
        self._client = database.client
        self._shards: Sequence[Shard] = database.shards
        self._key = database.shards[ITEMS].key("order")

    def read(self, after: int) -> Iterator[Placed]:
        """Yield the lines behind an offset, up to the end of all shards as they are then."""
        while True:
            rounds = self._rounds(after)
            for stretch in rounds:
                for placed in self.lines(stretch):
                    if placed.offset > after:
                        yield placed
                        after = placed.offset
            if not rounds and not self._extend():
                return

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return how far each shard is read once all lines up to an offset are.

        Raises:
            ValueError: the log is not that long.
        """
        reached = list(self._start(offset))
        for placed in self.read(sum(reached)):
            if sum(reached) == offset:
                break
            reached[placed.shard] += 1
        if sum(reached) != offset:
            raise ValueError(f"expected an offset up to {sum(reached)}, got {offset}")
        return tuple(reached)

    def last_offset(self) -> int:
        """Return how many lines there are in all shards."""
        return sum(self._heads(range(len(self._shards))))

    def lines(self, stretch: Round) -> Iterator[Placed]:
        """Yield the lines of a round, in order."""
        parts = [
            self._lines(shard, start, end - start)
            for shard, (start, end) in enumerate(zip(stretch.start, stretch.end, strict=True))
        ]
        for place, (shard, line) in enumerate(_merged(parts), stretch.before + 1):
            yield Placed(place, shard, line)

    def _lines(self, shard: int, after: int, n: int) -> list[Line]:
        lines = self._shards[shard].lines(after, n) if n else []
        if len(lines) != n:
            raise RuntimeError(
                f"expected {n} lines behind {after} in shard {shard}, got {len(lines)}"
            )
        return lines

    def _rounds(self, after: int) -> list[Round]:
        """Return rounds that are written down, the one with the line behind an offset first."""
        entries = self._client.entries(self._key, after + 1, _ROUNDS_READ)
        start, rounds = self._start(after), []
        for _, entry in entries:
            end = _vector(entry[b"v"])
            rounds.append(Round(start, end))
            start = end
        return rounds

    def _start(self, after: int) -> tuple[int, ...]:
        """Return the end of the last round that ends at an offset or before it."""
        return self._end(self._client.last_entry(self._key, f"{after}-0"))

    def _extend(self) -> bool:
        """Write the next round down; return whether there is one, ours or somebody else's."""
        last = self._client.last_entry(self._key)
        start = self._end(last)
        people = self._heads(range(ITEMS + 1, len(self._shards)))
        (items,) = self._heads([ITEMS])  # after the people's, see above
        heads = (items, *people)
        if heads == start:
            return False
        end = self._bounded(start, heads)
        expected = last[0] if last else b"0-0"
        bounds = " ".join(map(str, end))
        self._client.ask("EVAL", ROUND, 1, self._key, expected, f"{sum(end)}-0", bounds)
        return True

    def _end(self, entry: Entry | None) -> tuple[int, ...]:
        return (0,) * len(self._shards) if entry is None else _vector(entry[1][b"v"])

    def _bounded(self, start: tuple[int, ...], heads: tuple[int, ...]) -> tuple[int, ...]:
        """Return where a round ends that takes all items, or else `ROUND_LINES` lines of them."""
        if heads[ITEMS] - start[ITEMS] >= ROUND_LINES:
            return (start[ITEMS] + ROUND_LINES, *start[ITEMS + 1 :])
        end = [heads[ITEMS], *start[ITEMS + 1 :]]
        parts = [
            [] if shard == ITEMS else self._lines(shard, after, min(head - after, ROUND_LINES))
            for shard, (after, head) in enumerate(zip(start, heads, strict=True))
        ]
        for shard, _ in islice(_merged(parts), ROUND_LINES):
            end[shard] += 1
        return tuple(end)

    def _heads(self, shards: Sequence[int]) -> tuple[int, ...]:
        keys = [self._shards[shard].key("head") for shard in shards]
        offsets = self._client.ask_all([("HGET", key, "offset") for key in keys])
        return tuple(int(offset or 0) for offset in offsets)


def _merged(parts: Sequence[Sequence[Line]]) -> Iterator[tuple[int, Line]]:
    """Yield lines with their shards: of items first, then by time, the lower shard first."""
    yield from ((ITEMS, line) for line in parts[ITEMS])
    people = [[(shard, line) for line in part] for shard, part in enumerate(parts) if shard > ITEMS]
    yield from heapq.merge(*people, key=lambda found: (found[1].at_ms, found[0]))


def _vector(text: bytes) -> tuple[int, ...]:
    return tuple(map(int, text.split()))
