"""Distribution of items to shards, and collection of the answers in the original order."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def scatter(things: Iterable[T], shards: Sequence[int]) -> dict[int, list[T]]:
    """Return the items of each shard, in their order."""
    parts: dict[int, list[T]] = {}
    for thing, shard in zip(things, shards, strict=True):
        parts.setdefault(shard, []).append(thing)
    return parts


def gather(answers: Mapping[int, Iterable[T]], shards: Sequence[int]) -> list[T]:
    """Return the answer to each item, from each shard's answers in the order of its items.

    >>> names, shards = ["a", "b", "c"], [1, 2, 1]
    >>> gather(
    ...     {shard: map(str.upper, part) for shard, part in scatter(names, shards).items()}, shards
    ... )
    ['A', 'B', 'C']
    """
    left = {shard: iter(its) for shard, its in answers.items()}
    return [next(left[shard]) for shard in shards]
