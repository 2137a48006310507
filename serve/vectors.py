"""The length of the callers' vectors: one for all items, set by the first item that has one.

Vectors of two lengths are projected by two sets of random signs (`env.content`), so nearness
between them would mean nothing. The length is free again once no item with a vector is left, also
when one batch replaces them all, so that a catalogue can move to another embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

from env.vocabulary import Item


class Vectors(NamedTuple):
    """How many items have a vector, and of which length; 0 where none has."""

    n: int
    length: int


class OtherLengthError(ValueError):
    """A vector that has another length than those of the catalogue."""

    def __init__(self, place: int, expected: int, got: int) -> None:
        """Say which item of a batch it is, from 0, and both lengths."""
        super().__init__(f"expected {expected} numbers as in the catalogue's vectors, got {got}")
        self.place = place


def count_vectors(known: Vectors, before: Sequence[Item | None], after: Sequence[Item]) -> Vectors:
    """Return the catalogue's vectors once some items are replaced.

    Args:
        known: of the whole catalogue.
        before: those items as they are in it; None for new ones.
        after: as they shall be.

    Raises:
        OtherLengthError: a vector has another length than those that stay, or than one before it.

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
