"""Rows of a log: the closed, seen and uncensored decisions, as a table with one row each.

`dataset.read` builds on this in one pass: lines go through `Pages` to the join, and each closed
decision becomes a row at once, so that no Interaction is kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from env.records import LogLine, PageRecord
from env.reward import Reward, is_censored
from env.vocabulary import Interaction, PageId, UserKey
from replay.join import join_all
from replay.pages import Pages

FLAGS = (
    "seen",
    "left",
    "like",
    "comment",
    "share",
    "follow",
    "not_interested",
    "product_click",
)
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


class Coverage(msgspec.Struct, frozen=True):
    """Counts of the decisions that were read."""

    drawn: int  # decisions of the pages
    seen: int  # decisions with an impression
    censored: int  # seen decisions whose end was never reported; they are no rows
    unnamed: int = 0  # rows without a user; each counts as a user of its own
    dangling: int = 0  # outcomes whose decision is not in the log; they are no rows


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A table of `ROW`, sorted by page and slot, with the objects its codes refer to."""

    table: Table  # (n,) page: index in `pages`, user: index in `users`
    pages: Pages
    users: tuple[UserKey, ...]
    coverage: Coverage


def read_rows(
    lines: Iterable[LogLine], reward: Reward, where: Callable[[PageRecord], bool]
) -> Rows:
    """Return the rows of a log, read once; raise ValueError as `Pages` and `RowMaker` do."""
    pages, making = Pages(where), RowMaker()
    closed = join_all(pages.watch(lines), reward)
    table = np.fromiter(making.rows(closed, pages), dtype=ROW)
    return Rows(
        table=table[np.lexsort((table["slot"], table["page"]))],
        pages=pages,
        users=tuple(making.users),
        coverage=Coverage(pages.n_drawn, making.n_seen, making.n_censored),
    )


class Places(Protocol):
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

    def rows(self, closed: Iterable[Interaction], pages: Places) -> Iterator[tuple[object, ...]]:
        """Yield the fields of `ROW` for each Interaction that can be evaluated.

        A reward that is not finite raises ValueError.
        """
        for interaction in closed:
            place = pages.place(interaction.page_id)
            if place is None:
                continue
            self.n_seen += 1
            if is_censored(interaction.feedback, interaction.duration_s):
                self.n_censored += 1
                continue
            yield self._row(interaction, place, pages.record(place))

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
