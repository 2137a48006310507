"""Totals of the log: pages, cards, filtered candidates, feedback events and changes.

They are rows of the store, updated in the transaction that appends the records, so every replica
reports the same totals, across restarts. Labels are names of policies, reasons and kinds, never
ids. Rejected alternatives: `docs/decisions/serve-monitoring.md`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from env.history import n_views
from env.records import (
    BlockRecord,
    FeedbackRecord,
    HistoryRecord,
    ItemRecord,
    PageRecord,
    ProjectionRecord,
    Record,
    TickRecord,
    UserRecord,
)
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


class Total(NamedTuple):
    """A counted quantity; `label` is a policy, a reason, a kind, or empty."""

    name: str
    label: str = ""


def count(records: Iterable[Record]) -> Counter[Total]:
    """Return the increments of the totals for some records."""
    totals: Counter[Total] = Counter()
    for record in records:
        totals.update(dict(_of(record)))
    return totals


def _of(record: Record) -> Iterator[tuple[Total, int]]:
    match record:
        case PageRecord():
            yield from _of_page(record)
        case FeedbackRecord():
            yield Total("feedback_events", record.kind), 1
        case HistoryRecord():
            yield Total("imported_views"), n_views(record)
        case TickRecord() | ProjectionRecord():
            pass  # no news to an operator
        case _:
            yield _of_change(record), 1


def _of_page(page: PageRecord) -> Iterator[tuple[Total, int]]:
    yield Total("pages"), 1
    if page.degraded:
        yield Total("pages_degraded"), 1
    # Without the version: each published version would be a new time series.
    yield Total("cards", page.policy.partition("@")[0]), len(page.drawn)
    for reason, n in page.removed.items():
        yield Total("candidates_removed", reason), n


def _of_change(record: ItemRecord | UserRecord | BlockRecord) -> Total:
    match record:
        case ItemRecord():
            return Total("item_changes", "put" if record.item is not None else "removed")
        case UserRecord():
            return Total("user_changes", "put" if record.profile is not None else "forgotten")
        case BlockRecord():
            return Total("blocks", "taken back" if record.wanted else "blocked")
