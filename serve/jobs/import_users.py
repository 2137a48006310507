"""Imports of users' profiles and histories into any store, beside a server or without one.

An import is all of it or nothing: `serve.store.staging` stages it aside, commits it in one step and
finishes it in short writes. Known views and profiles change nothing, so a second import of a file
appends nothing, and one of a grown file appends the new rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from env.feedback import SHIPPED, Signals
from env.history import MAX_VIEWS, make_record
from env.items.catalogue import Catalogue
from env.records import Card, HistoryRecord, ItemRecord, PastEvent
from env.vocabulary import Bools, Floats, ItemId, Profile, UserId
from replay.log.sqlite.checkpoint import locked
from serve.config import Config
from serve.errors import BadFile, JobError
from serve.importers.history import COMPLETION, HistoryViews, line_of
from serve.store.data_folder import open_data
from serve.store.staging import (
    LOCK,
    ImportOutcome,
    StagedUser,
    begin_import,
    commit_import,
    finish_import,
    stage_users,
)
from serve.store.store import Store

Advance = Callable[[int], None]
"""Called with the number of users staged or finished since the last call; each is both."""

ALL_ITEMS = 2**40


class ImportedHistory(msgspec.Struct, frozen=True):
    """Counts of an import of views.

    Attributes:
        views: imported by it.
        repeated: imported before, or twice in the file.
        users: in the file.
        new_users: registered by it.
        unknown: views in the file of items that the catalogue lacks; they only count as seen.
    """

    views: int
    repeated: int
    users: int
    new_users: int
    unknown: int

    def __str__(self) -> str:
        """Describe the counts.

        >>> print(ImportedHistory(views=10, repeated=2, users=3, new_users=1, unknown=0))
        12 views of 3 users: new 10, imported before 2; users registered by it 1
        """
        told = (
            f"{self.views + self.repeated:,} views of {self.users:,} users: new {self.views:,}, "
            f"imported before {self.repeated:,}; users registered by it {self.new_users:,}"
        )
        if not self.unknown:
            return told
        return f"{told}; {self.unknown:,} of items that are not in the catalogue count as seen only"


def import_people(
    config: Config,
    people: Sequence[tuple[UserId, Profile]],
    now_ms: int,
    advance: Advance = lambda n: None,
) -> ImportOutcome:
    """Import profiles, all or none; return what that came to once it is on disk.

    Args:
        people: each user once; one without a time of registration gets the first that is known.
        now_ms: Unix milliseconds.
        advance: told the progress.

    Raises:
        JobError: another import is running, or has begun meanwhile.
    """
    staged = [(user_id, StagedUser(profile)) for user_id, profile in people]
    return _import(config, now_ms, advance, lambda store: iter(staged))


def import_views(
    config: Config, views: HistoryViews, now_ms: int, source: str, advance: Advance = lambda n: None
) -> ImportedHistory:
    """Import a history, all or none; return what that came to once it is on disk.

    Args:
        views: from `serve.importers.history.read`.
        now_ms: Unix milliseconds.
        source: name of the import in the log.
        advance: told the progress.

    Raises:
        BadFile: a completion has no duration to be a share of; nothing was imported.
        JobError: another import is running, or has begun meanwhile.
    """
    unknown = 0

    def stage(store: Store) -> Iterator[tuple[UserId, StagedUser]]:
        nonlocal unknown
        cards = find_cards(store, views)
        unknown = int(
            np.array([not card.block for card in cards], dtype=np.bool_)[views.item].sum()
        )
        return staged_views(views, cards, source, config.signal_table)

    outcome = _import(config, now_ms, advance, stage)
    return ImportedHistory(
        outcome.views, outcome.repeated, len(views.user_ids), outcome.new, unknown
    )


def _import(
    config: Config,
    now_ms: int,
    advance: Advance,
    stage: Callable[[Store], Iterator[tuple[UserId, StagedUser]]],
) -> ImportOutcome:
    folder = Path(config.data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=False) as is_ours:
        if not is_ours:
            raise JobError(f"another import into {folder} is running: try again once it has ended")
        with open_data(config, must_exist=False, now_ms=lambda: now_ms) as store:
            run = begin_import(store, now_ms)
            stage_users(store, run, stage(store), advance)
            commit_import(store, run)
            return finish_import(store, advance)


def find_cards(store: Store, views: HistoryViews) -> list[Card]:
    """Return the items of a history as the catalogue describes them now.

    One that it lacks is a card without a block. One of unknown duration has that of the file.
    """
    wanted, known, catalogue = frozenset(views.item_ids), set[str](), Catalogue()
    for line in store.item_lines(0, ALL_ITEMS):
        record = line.record
        if isinstance(record, ItemRecord) and record.item_id in wanted:
            catalogue.apply(record)
            (known.discard if record.item is None else known.add)(record.item_id)
    cards = []
    for item_id, duration_s in zip(views.item_ids, _durations(views).tolist(), strict=True):
        index = catalogue.index_of(ItemId(item_id)) if item_id in known else None
        card = Card(ItemId(item_id), b"") if index is None else catalogue.card(index)
        cards.append(msgspec.structs.replace(card, duration_s=card.duration_s or duration_s))
    return cards


def _durations(views: HistoryViews) -> Floats:
    """Return the longest duration that the file gives each item, 0 without one."""
    longest: Floats = np.zeros(len(views.item_ids))
    np.maximum.at(longest, views.item, views.duration_s)
    return longest


def staged_views(
    views: HistoryViews, cards: Sequence[Card], source: str, signals: Signals = SHIPPED
) -> Iterator[tuple[UserId, StagedUser]]:
    """Yield what a history says of each user.

    Args:
        views: the history.
        cards: its items, see `find_cards`.
        source: name of the import.
        signals: what reactions say about interest.

    Raises:
        BadFile: a completion has no duration to be a share of.
    """
    dwell_s = dwells_of(views, cards)
    users, starts = np.unique(views.user, return_index=True)
    ends = np.r_[starts[1:], len(views)]
    done = {kind: np.flatnonzero(flags) for kind, flags in views.reactions.items()}
    for user, start, end in zip(users.tolist(), starts.tolist(), ends.tolist(), strict=True):
        parts = range(start, end, MAX_VIEWS)
        records = (_record(views, dwell_s, done, cards, source, signals, k, end) for k in parts)
        yield UserId(views.user_ids[user]), StagedUser(records=tuple(records))


def _record(
    views: HistoryViews,
    dwell_s: Floats,
    done: Mapping[str, np.ndarray],
    cards: Sequence[Card],
    source: str,
    signals: Signals,
    start: int,
    end: int,
) -> HistoryRecord:
    rows = slice(start, min(start + MAX_VIEWS, end))
    events = sorted(
        (row - start, k, kind)
        for k, (kind, found) in enumerate(done.items())
        for row in found[slice(*np.searchsorted(found, (rows.start, rows.stop)))].tolist()
    )
    return make_record(
        source,
        cards,
        views.item[rows],
        views.at_ms[rows],
        dwell_s[rows].astype(np.float32),
        [PastEvent(row, kind, signals.carried(kind)[0]) for row, _, kind in events],
    )


def dwells_of(views: HistoryViews, cards: Sequence[Card]) -> Floats:
    """Return the seconds of each view, shape (n,), NaN where unknown.

    Raises:
        BadFile: a completion has no duration to be a share of.
    """
    shares = np.isnan(views.dwell_s) & ~np.isnan(views.completion)
    known: Floats = np.array([card.duration_s for card in cards], dtype=np.float64)[views.item]
    duration_s = np.where(views.duration_s > 0.0, views.duration_s, known)
    lacking = shares & (duration_s <= 0.0) & ~_are_bare(cards)[views.item]
    if lacking.any():
        row = int(views.row[np.argmax(lacking)])
        item = views.item_ids[int(views.item[np.argmax(lacking)])]
        problem = f"expected duration_s beside it, since the catalogue has none of {item!r}"
        raise BadFile(views.path, problem, line_of(views.path, row), COMPLETION)
    return np.where(shares, views.completion * duration_s, views.dwell_s)


def _are_bare(cards: Sequence[Card]) -> Bools:
    """Return which items the catalogue lacks, by index."""
    return np.array([not card.block for card in cards], dtype=np.bool_)
