"""Pages as simulated people have them: which items stand on them, and what is said about them."""

from collections.abc import Callable, Sequence

import numpy as np

from env.records import FeedbackKind, FeedbackRecord, PageRecord
from env.swiping import EVENTS
from env.vocabulary import Bools, Floats, Ints, ItemId, decision_id
from policies.pools import FAIR_START

_WATCH = EVENTS.index("watch_s")
_DONE: tuple[tuple[FeedbackKind, int], ...] = (
    ("like", EVENTS.index("like")),
    ("comment", EVENTS.index("comment")),
    ("share", EVENTS.index("share")),
    ("follow", EVENTS.index("follow")),
    ("not_interested", EVENTS.index("not_interested")),
)

Said = PageRecord | FeedbackRecord

RowOf = Callable[[ItemId], int]
"""Finds an item's row in the stock."""


def report(
    page: PageRecord, k: int, said: Sequence[tuple[FeedbackKind, float]], at_ms: int
) -> list[Said]:
    """Return what a client reports of the k-th card of a page.

    Args:
        page: as drawn.
        k: place among the drawn cards.
        said: kinds with their values.
        at_ms: when the server hears of it.
    """
    slot = page.drawn[k].slot
    decision = decision_id(page.page_id, slot)
    return [
        FeedbackRecord(
            event_id=f"{kind}-{slot}",
            decision_id=decision,
            at_ms=at_ms,
            user=page.user,
            session=page.session,
            kind=kind,
            value=value,
        )
        for kind, value in said
    ]


def report_of(page: PageRecord | None, k: int, events: Floats, at_ms: int) -> list[Said]:
    """Return how long a card was watched, what was done about it, and that it was left.

    Args:
        page: as drawn; None: nothing could be shown.
        k: place among the drawn cards.
        events: that came of it, shape (len(EVENTS),).
        at_ms: when the server hears of it.
    """
    if page is None:
        return []
    done: list[tuple[FeedbackKind, float]] = [(kind, 0.0) for kind, e in _DONE if events[e]]
    return report(page, k, [("dwell", float(events[_WATCH])), *done, ("leave", 0.0)], at_ms)


def columns_of(pages: Sequence[PageRecord | None], row_of: RowOf) -> tuple[Ints, Bools, Ints]:
    """Return rows of the items, whether slots are reserved, shapes (n, m), and cards, (n,)."""
    n_cards = np.array([0 if page is None else len(page.drawn) for page in pages])
    shape = len(pages), max(int(n_cards.max()), 1)
    rows, reserved = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for place, page in enumerate(pages):
        if page is not None:
            rows[place, : n_cards[place]] = [row_of(card.item_id) for card in page.cards]
            reserved[place, : n_cards[place]] = _reserved_slots(page)
    return rows, reserved, n_cards


def _reserved_slots(page: PageRecord) -> list[bool]:
    """Return whether the slot of each drawn card was reserved for uploads."""
    is_reserved = [rule.name == FAIR_START for rule in page.rules]
    return [is_reserved[page.slots[drawn.slot]] for drawn in page.drawn]
