"""The length of the caller's item vectors: one for the catalogue, set by the first vector.

Vectors of two lengths would be projected by two sets of random signs (`env.content`), so their
distances would mean nothing. The length may change once no item has a vector, or when one batch
replaces them all.
"""

from collections.abc import Sequence
from typing import NamedTuple

from env.vocabulary import Item


class Vectors(NamedTuple):
    """The number of items with a vector, and the vectors' length; both 0 without any."""

    n: int
    length: int


class OtherLengthError(ValueError):
    """A vector that has another length than those of the catalogue."""

    def __init__(self, place: int, expected: int, got: int) -> None:
        super().__init__(f"expected {expected} numbers as in the catalogue's vectors, got {got}")
        self.place = place


def count_vectors(known: Vectors, before: Sequence[Item | None], after: Sequence[Item]) -> Vectors:
    """Return the catalogue's vectors once some items are replaced.

    Args:
        known: of the whole catalogue.
        before: the items as they are now; None for new ones.
        after: the same items after the change.

    Raises:
        OtherLengthError: a vector's length differs from those that stay, or from an earlier one.

    >>> from env.vocabulary import ItemId
    >>> new = Item(ItemId("a"), vector=(1.0, 0.0))
    >>> count_vectors(Vectors(0, 0), [None], [new])
    Vectors(n=1, length=2)
    """
    n = known.n - sum(item is not None and item.vector is not None for item in before)
    length = known.length if n else 0
    for place, item in enumerate(after):
        if item.vector is None:
            continue
        if length and len(item.vector) != length:
            raise OtherLengthError(place, length, len(item.vector))
        n, length = n + 1, len(item.vector)
    return Vectors(n, length)
