"""Imported histories: the rows of a `HistoryRecord`, written from columns and read as views.

A view is told as a client would have told it: the impression, the dwell, the reactions, the end.
So every fold counts it by the function that counts live feedback. Reasons, and how a second import
is told from the first: `docs/decisions/history-import.md`.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from env.arrays.draws import mix
from env.feedback import REACTIONS
from env.records import Card, FeedbackKind, HistoryRecord, PastEvent, item_key
from env.vocabulary import Bools, Feedback, Float32s, Ints, Keys, Scene, UserKey

MAX_VIEWS = 1_000
"""Views of one record; a longer history is several records."""


class Report(NamedTuple):
    """One thing that a client would have reported about a view."""

    kind: FeedbackKind
    value: float = 0.0
    interest: float | None = None  # as in `FeedbackRecord`


class PastView(NamedTuple):
    """One card that a user saw elsewhere."""

    card: Card
    at_ms: int
    reports: tuple[Report, ...]  # in the order of a client's
    feedback: Feedback  # the same, merged; a view of unknown dwell has not been left

    @property
    def is_known(self) -> bool:
        """Whether the catalogue knew the item, so that more than its id is known."""
        return bool(self.card.block)


def past_views(record: HistoryRecord) -> Iterator[PastView]:
    """Yield the views of a record, by time."""
    dwells = np.frombuffer(record.dwells, dtype="<f4").tolist()
    done = {row: list(events) for row, events in groupby(record.events, lambda event: event.row)}
    columns = zip(indices_of(record).tolist(), times_of(record).tolist(), dwells, strict=True)
    for row, (index, at_ms, dwell_s) in enumerate(columns):
        events = done.get(row, ())
        reports, feedback = _reports(dwell_s, events), _feedback(dwell_s, events)
        yield PastView(record.cards[index], at_ms, reports, feedback)


def _reports(dwell_s: float, events: Sequence[PastEvent]) -> tuple[Report, ...]:
    reactions = tuple(Report(event.kind, interest=event.interest) for event in events)
    if math.isnan(dwell_s):
        return Report("impression"), *reactions
    return Report("impression"), Report("dwell", dwell_s), *reactions, Report("leave")


def _feedback(dwell_s: float, events: Sequence[PastEvent]) -> Feedback:
    known = not math.isnan(dwell_s)
    flags = {event.kind: True for event in events}
    watched = Feedback(seen=True, left=known, dwell_s=dwell_s if known else 0.0)
    return msgspec.structs.replace(watched, **flags)


def indices_of(record: HistoryRecord) -> Ints:
    """Return the index of each view's card, shape (n,)."""
    return np.frombuffer(record.items, dtype="<u2").astype(np.int64)


def times_of(record: HistoryRecord) -> Ints:
    """Return the time of each view, Unix milliseconds, shape (n,)."""
    return np.frombuffer(record.times, dtype="<i8")


def n_views(record: HistoryRecord) -> int:
    """Return the number of views."""
    return len(record.times) // 8


def make_record(
    source: str,
    cards: Sequence[Card],
    which: Ints,
    times: Ints,
    dwells: Float32s,
    events: Sequence[PastEvent],
) -> HistoryRecord:
    """Return a record of views, of nobody yet (see `claimed`); its cards are those that occur.

    Args:
        source: name of the import.
        cards: descriptions of items.
        which: index of each view's card, shape (n,), n at most `MAX_VIEWS`.
        times: Unix milliseconds, ascending, shape (n,).
        dwells: seconds, NaN where unknown, shape (n,).
        events: of the views, by row.

    Raises:
        ValueError: an event is no reaction.
    """
    if strange := {event.kind for event in events}.difference(REACTIONS):
        raise ValueError(f"expected reactions {REACTIONS}, got {strange}")
    used, index = np.unique(which, return_inverse=True)
    return HistoryRecord(
        user=UserKey(""),
        at_ms=0,
        source=source,
        scene=Scene(0),
        cards=tuple(cards[k] for k in used.tolist()),
        items=index.astype("<u2").tobytes(),
        times=times.astype("<i8").tobytes(),
        dwells=dwells.astype("<f4").tobytes(),
        events=tuple(events),
    )


def claimed(record: HistoryRecord, user: UserKey, at_ms: int, scene: Scene) -> HistoryRecord:
    """Return a record as that of a user, imported at a time."""
    return msgspec.structs.replace(record, user=user, at_ms=at_ms, scene=scene)


def view_keys(record: HistoryRecord) -> Keys:
    """Return a key of each view, shape (n,), by which it is imported once: its item and time."""
    items = np.array([item_key(card.item_id) for card in record.cards], dtype=np.uint64)
    return mix(items[indices_of(record)] ^ mix(times_of(record).astype(np.uint64)))


def without(record: HistoryRecord, kept: Bools) -> HistoryRecord:
    """Return a record of some of its views, those where `kept`, shape (n,), is true."""
    if kept.all():
        return record
    row_of = np.cumsum(kept) - 1
    return msgspec.structs.replace(
        make_record(
            record.source,
            record.cards,
            indices_of(record)[kept],
            times_of(record)[kept],
            np.frombuffer(record.dwells, dtype="<f4")[kept],
            [
                msgspec.structs.replace(event, row=int(row_of[event.row]))
                for event in record.events
                if kept[event.row]
            ],
        ),
        user=record.user,
        at_ms=record.at_ms,
        scene=record.scene,
    )
