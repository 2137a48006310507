"""What the log adds up to: pages, cards, what filters took away, feedback, changes; a fold of it.

The totals are rows of the store, moved in the transaction that appends the records. So
whichever replica is asked tells the truth about all of them, across restarts, and a count is never
ahead of the log or behind it. Labels are names of policies, reasons and kinds, never ids: there are
few of them.

Rejected: counting in each process (a restart forgets, and a scrape meets one replica of several),
and counting the log when asked (it grows for ever).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from env.records import (
    BlockRecord,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    TickRecord,
    UserRecord,
)


class Total(NamedTuple):
    """What is counted; `label` is a policy, a reason, a kind, or empty."""

    name: str
    label: str = ""


def count(records: Iterable[Record]) -> Counter[Total]:
    """Return what records add to the totals."""
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
        case TickRecord():
            pass  # what time alone moves is no news to an operator
        case _:
            yield _of_change(record), 1


def _of_page(page: PageRecord) -> Iterator[tuple[Total, int]]:
    yield Total("pages"), 1
    if page.degraded:
        yield Total("pages_degraded"), 1
    # Without the version: each published one would be a time series of its own.
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
