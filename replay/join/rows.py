"""Rows of a log: the closed, seen and uncensored decisions, as a table with one row each.

`dataset.read` builds on this in one pass: lines go through `Pages` to the join, and each closed
decision becomes a row at once, so that no Interaction is kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from env.columns.schema import DYNAMIC_WIDTHS
from env.feedback import REACTIONS, SignalTally
from env.interface import Past
from env.pages.records import Blocks
from env.records import Drawn, LogLine, PageRecord
from env.reward import Reward, is_censored
from env.vocabulary import (
    Correction,
    Example,
    Floats,
    Interaction,
    Ints,
    ItemId,
    PageId,
    UserKey,
    decision_id,
    interaction_of,
)
from replay.join.whole import join_examples


class Pages:
    """The selected pages, in the log's order, without cards and reasons."""

    def __init__(self, where: Callable[[PageRecord], bool] = lambda page: True) -> None:
        self.blocks = Blocks()
        self.n_drawn = 0
        self._where = where
        self._records: list[PageRecord] = []
        self._places: dict[PageId, int] = {}
        self._ids: dict[ItemId, ItemId] = {}  # so that pages share the ids of their items

    def __len__(self) -> int:
        return len(self._records)

    def watch(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Yield the lines, keeping their pages and the blocks of their items."""
        for line in lines:
            self.blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                check_line(line.offset, line.record)
                self._keep(line.record)
            yield line

    def keep(self, record: PageRecord) -> None:
        """Check a page and keep it if it was selected; a repeated page changes nothing."""
        check_page(record)
        self._keep(record)

    def _keep(self, record: PageRecord) -> None:
        if record.page_id in self._places or not self._where(record):
            return
        self._places[record.page_id] = len(self._records)
        ids = tuple(self._ids.setdefault(i, i) for i in record.candidates)
        self._records.append(msgspec.structs.replace(record, candidates=ids, cards=(), reasons=()))
        self.n_drawn += len(record.drawn)

    def place(self, page_id: PageId) -> int | None:
        """Return the index of a page among those kept, or None if it was not selected."""
        return self._places.get(page_id)

    def record(self, place: int) -> PageRecord:
        """Return the compact record at an index."""
        return self._records[place]

    def known(self, place: int) -> PageRecord:
        """Return the compact record at an index; raise ValueError if a block is unknown."""
        record = self._records[place]
        check_known(record, self.blocks)
        return record


def check_line(offset: int, record: PageRecord) -> None:
    """Check a page and name the line of the log on failure."""
    try:
        check_page(record)
    except ValueError as error:
        raise ValueError(f"log line {offset}: {error}") from error


def check_known(record: PageRecord, blocks: Blocks) -> None:
    """Raise ValueError if a candidate's block is in no line that passed."""
    for i, item_id in enumerate(record.candidates):
        if record.blocks[8 * i : 8 * i + 8] not in blocks:
            raise ValueError(
                f"page {record.page_id} has candidate {item_id}, whose features are not in "
                "the log; is it read from its beginning?"
            )


def check_page(record: PageRecord) -> None:
    """Check that a page can support an estimate.

    Raises:
        ValueError: a propensity is out of (0, 1], a slot is not on the page, an action is not a
            candidate or not on its slot's mask, or the feature schema is another one.
    """
    if record.feature_schema not in DYNAMIC_WIDTHS:
        known = " or ".join(map(str, DYNAMIC_WIDTHS))
        raise ValueError(
            f"expected features of schema {known}, got {record.feature_schema} in page "
            f"{record.page_id}; a log of another schema cannot be evaluated"
        )
    for drawn in record.drawn:
        _check_drawn(record, drawn)


def _check_drawn(record: PageRecord, drawn: Drawn) -> None:
    name = decision_id(record.page_id, drawn.slot)
    if not 0.0 < drawn.propensity <= 1.0:
        raise ValueError(
            f"propensity must be in (0, 1], got {drawn.propensity} in decision {name}; "
            "was the pmf masked after the draw?"
        )
    if not 0 <= drawn.slot < len(record.slots):
        raise ValueError(
            f"slot must be one of {len(record.slots)}, got {drawn.slot} in decision {name}"
        )
    if not 0 <= drawn.action < len(record.candidates):
        raise ValueError(
            f"action must be one of {len(record.candidates)} candidates, got {drawn.action} "
            f"in decision {name}"
        )
    mask = record.rules[record.slots[drawn.slot]].mask
    if not mask[drawn.action // 8] >> (drawn.action % 8) & 1:
        raise ValueError(
            f"action must be on the mask of its slot, got {drawn.action} in decision {name}; "
            "was the page changed after the draw?"
        )


FLAGS = ("seen", "left", *REACTIONS)

ROW = np.dtype(
    [
        ("page", np.int64),
        ("slot", np.int64),
        ("action", np.int64),
        ("user", np.int64),
        ("propensity", np.float64),
        ("reward", np.float64),
        ("n_actions", np.int64),
        ("duration_s", np.float64),
        ("dwell_s", np.float64),
        ("flags", np.bool_, (len(FLAGS),)),
        ("closed_ms", np.int64),
    ]
)

ROW_COLUMNS = tuple(ROW.names or ())
Table = npt.NDArray[np.void]


class CoverageCounts(msgspec.Struct, frozen=True):
    """Counts of the decisions that were read."""

    drawn: int  # decisions of the pages
    seen: int  # decisions with an impression
    censored: int  # seen decisions whose end was never reported; they are no rows
    unnamed: int = 0  # rows without a user; each counts as a user of its own
    dangling: int = 0  # outcomes whose decision is not in the log; they are no rows


@dataclass(frozen=True, slots=True, eq=False)
class LogRows:
    """A table of `ROW`, sorted by page and slot, with the objects its codes refer to."""

    table: Table  # (n,) page: index in `pages`, user: index in `users`
    signals: tuple[SignalTally, ...]  # those beyond the flags
    values: Floats  # (n, len(signals)), NaN where not reported
    pages: Pages
    users: tuple[UserKey, ...]
    coverage: CoverageCounts


def read_rows(
    lines: Iterable[LogLine],
    reward: Reward,
    where: Callable[[PageRecord], bool],
    *,
    default_reward: float | None = None,
    past: Past | None = None,
) -> LogRows:
    """Return the rows of a log, read once; raise ValueError as `Pages` and `RowMaker` do.

    `default_reward` and `past` are as in `replay.join.dataset.read`.
    """
    pages, making = Pages(where), RowMaker()
    watched = pages.watch(lines)
    closed = join_examples(watched, reward, default_reward=default_reward, past=past)
    table = np.fromiter(making.rows(closed, pages), dtype=ROW)
    order = order_of(table)
    signals = valued(reward.tallies)
    return LogRows(
        table=table[order],
        signals=signals,
        values=_values(making.others, signals, len(table))[order],
        pages=pages,
        users=tuple(making.users),
        coverage=CoverageCounts(pages.n_drawn, making.n_seen, making.n_censored),
    )


def valued(tallies: Iterable[SignalTally]) -> tuple[SignalTally, ...]:
    """Return the tallies that have a value: all but those that take others back."""
    return tuple(tally for tally in tallies if tally.merge != "undo")


def _values(
    others: Mapping[int, tuple[tuple[str, float], ...]], signals: tuple[SignalTally, ...], n: int
) -> Floats:
    place = {tally.name: k for k, tally in enumerate(signals)}
    values = np.full((n, len(signals)), np.nan)
    for row, said in others.items():
        for name, value in said:
            values[row, place[name]] = value
    return values


def order_of(table: Table) -> Ints:
    """Return the indices of a table's rows by page and slot, each decision's last row only."""
    order = np.lexsort((table["slot"], table["page"]))  # stable: corrections come last
    page, slot = table["page"][order], table["slot"][order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = (page[1:] != page[:-1]) | (slot[1:] != slot[:-1])
    return order[is_last]


class PageIndex(Protocol):
    """An index of the selected pages."""

    def place(self, page_id: PageId) -> int | None:
        """Return a page's number, increasing along the log, or None if it was not selected."""
        ...

    def record(self, place: int) -> PageRecord:
        """Return the record of a page's number."""
        ...


class RowMaker:
    """Turns Interactions that can be evaluated into rows, and counts the others."""

    def __init__(self) -> None:
        self.users: dict[UserKey, int] = {}
        self.n_seen = 0
        self.n_censored = 0
        self.others: dict[int, tuple[tuple[str, float], ...]] = {}  # of rows that have any

    def rows(self, closed: Iterable[Example], pages: PageIndex) -> Iterator[tuple[object, ...]]:
        """Yield the fields of `ROW` for each Interaction that can be evaluated.

        A corrected one has another row, which takes the place of the first (see `order_of`). A card
        that had the reward of unreported ones keeps it until its end is known, as in the learner. A
        reward that is not finite raises ValueError.
        """
        n = 0
        for example in closed:
            after = interaction_of(example)
            place = pages.place(after.page_id)
            if place is None:
                continue
            has_row = not _is_censored(after)
            if isinstance(example, Correction):
                self._count(example.before, -1, has_row=example.learned)
                self._count(after, 1, has_row=has_row or example.learned)
            else:
                self._count(after, 1, has_row=has_row)
            if not has_row:
                continue
            if after.feedback.others:
                self.others[n] = after.feedback.others
            n += 1
            yield self._row(after, place, pages.record(place))

    def _count(self, interaction: Interaction, n: int, *, has_row: bool) -> None:
        seen = interaction.feedback.seen
        self.n_seen += n * seen
        self.n_censored += n * (seen and not has_row)

    @property
    def said(self) -> frozenset[str]:
        """The signals beyond the flags that any row has."""
        return frozenset(name for others in self.others.values() for name, _ in others)

    def _row(self, closed: Interaction, place: int, record: PageRecord) -> tuple[object, ...]:
        if not np.isfinite(closed.reward):
            raise ValueError(
                f"reward must be finite, got {closed.reward} in decision {closed.decision_id}; "
                "look at the weights of the reward"
            )
        return (
            place,
            closed.slot,
            next(d.action for d in record.drawn if d.slot == closed.slot),
            self.users.setdefault(closed.user, len(self.users)),
            closed.propensity,
            closed.reward,
            closed.n_actions,
            closed.duration_s,
            closed.feedback.dwell_s,
            tuple(bool(getattr(closed.feedback, flag)) for flag in FLAGS),
            closed.closed_ms,
        )


def _is_censored(interaction: Interaction) -> bool:
    """Return whether a reward is not known; that of an unreported card is its default."""
    feedback = interaction.feedback
    return feedback.seen and is_censored(feedback, interaction.duration_s)
