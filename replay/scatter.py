"""What goes to several shards at once, and what comes back from each, in the order of what went."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def scatter(things: Iterable[T], shards: Sequence[int]) -> dict[int, list[T]]:
    """Return the things of each shard, in their order.

    Args:
        things: that are to go.
        shards: of each thing.
    """
    parts: dict[int, list[T]] = {}
    for thing, shard in zip(things, shards, strict=True):
        parts.setdefault(shard, []).append(thing)
    return parts


def gather(answers: Mapping[int, Iterable[T]], shards: Sequence[int]) -> list[T]:
    """Return what each thing was answered.

    >>> names, shards = ["a", "b", "c"], [1, 2, 1]
    >>> gather(
    ...     {shard: map(str.upper, part) for shard, part in scatter(names, shards).items()}, shards
    ... )
    ['A', 'B', 'C']

    Args:
        answers: of each shard, in the order of the things that went there.
        shards: of each thing.
    """
    left = {shard: iter(its) for shard, its in answers.items()}
    return [next(left[shard]) for shard in shards]
