"""Datasets: the log's decisions as validated columns in memory, one row per decision.

A row is a decision that was seen, closed and not censored, with its exact propensity. Page features
stay compact, once per page, and are expanded when a policy asks for them. An invalid log is refused
with the decision that shows it. Layout and rejected alternatives:
`docs/decisions/evaluation-data.md`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from env.columns.schema import static_of
from env.feedback import SignalTally
from env.interface import Past
from env.pages.records import Blocks
from env.records import LogLine, PageRecord, item_key
from env.reward import Reward
from env.vocabulary import (
    Bools,
    DecisionId,
    Feedback,
    Floats,
    Interaction,
    Ints,
    Page,
    UserKey,
    decision_id,
)
from replay.join.page_batches import PageRows, page_batches
from replay.join.rows import FLAGS, ROW_COLUMNS, CoverageCounts, read_rows
from replay.source import Batch


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Decisions as columns, grouped by page, with pages in the order of the log.

    `coverage` describes the log as it was read; `select` leaves it unchanged.
    """

    pages: tuple[PageRecord, ...]  # without cards and reasons
    blocks: Blocks
    users: tuple[UserKey, ...]
    page: Ints  # (n,) index into pages
    slot: Ints  # (n,)
    action: Ints  # (n,) index into the page's candidates
    user: Ints  # (n,) index into users
    propensity: Floats  # (n,) in (0, 1]
    reward: Floats  # (n,) finite
    n_actions: Ints  # (n,) candidates that the slot had left to choose from
    duration_s: Floats  # (n,) 0 where unknown
    dwell_s: Floats  # (n,)
    flags: Bools  # (n, len(FLAGS))
    closed_ms: Ints  # (n,)
    signals: tuple[SignalTally, ...]  # those beyond the flags
    values: Floats  # (n, len(signals)) as merged, NaN where not reported
    coverage: CoverageCounts
    reward_version: int

    def __len__(self) -> int:
        return len(self.page)

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """None: the dataset keeps the version of the reward, not its weights."""
        return None

    def select(self, rows: Bools | Ints) -> "Dataset":
        """Return the dataset of these rows, given as a mask of shape (n,) or increasing indices."""
        columns = {name: getattr(self, name)[rows] for name in (*ROW_COLUMNS, "values")}
        return dataclasses.replace(self, **columns)

    def by_page(self) -> Iterator[tuple[Page, Ints]]:
        """Yield each page that has rows, with the indices of its rows in slot order."""
        starts = np.flatnonzero(np.diff(self.page, prepend=-1))
        ends = np.append(starts, len(self))[1:]
        for start, end in zip(starts, ends, strict=True):
            rows = np.arange(start, end)
            yield self.blocks.page(self.pages[self.page[rows[0]]]), rows

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions in batches, as a `replay.source.Source`.

        User profiles are not kept, so the batches have no cohorts.
        """
        return page_batches(
            PageRows(
                record=self.pages[self.page[rows[0]]],
                page=page,
                slot=self.slot[rows],
                user=int(self.user[rows[0]]),
                reward=self.reward[rows],
            )
            for page, rows in self.by_page()
        )

    def interactions(self, rows: Ints) -> Sequence[Interaction]:
        """Return these rows as Interactions, each built on access."""
        return _Interactions(self, rows)

    def interaction(self, row: int) -> Interaction:
        """Return a row as the Interaction that the join closed."""
        record, slot, action = self.pages[self.page[row]], self.slot[row], self.action[row]
        item_id = record.candidates[action]
        width = len(record.dynamic) // len(record.candidates)
        block = static_of(self.blocks.block(record.blocks[8 * action : 8 * action + 8]))
        return Interaction(
            decision_id=decision_id(record.page_id, int(slot)),
            page_id=record.page_id,
            user=record.user,
            session=record.session,
            item_id=item_id,
            slot=int(slot),
            policy=record.policy,
            propensity=float(self.propensity[row]),
            n_actions=int(self.n_actions[row]),
            shared=record.shared,
            action=block + record.dynamic[width * action : width * (action + 1)],
            item_key=item_key(item_id),
            duration_s=float(self.duration_s[row]),
            feedback=Feedback(
                dwell_s=float(self.dwell_s[row]),
                **dict(zip(FLAGS, self.flags[row].tolist(), strict=True)),
                others=self._others(row),
            ),
            reward=float(self.reward[row]),
            scene=record.scene,
            closed_ms=int(self.closed_ms[row]),
        )

    def _others(self, row: int) -> tuple[tuple[str, float], ...]:
        values = zip(self.signals, self.values[row].tolist(), strict=True)
        return tuple(sorted((tally.name, v) for tally, v in values if not math.isnan(v)))

    def decision(self, row: int) -> DecisionId:
        """Return a row's decision id."""
        return decision_id(self.pages[self.page[row]].page_id, int(self.slot[row]))


class _Interactions(Sequence[Interaction]):
    """A lazy sequence of a dataset's rows as Interactions; it holds only indices."""

    def __init__(self, dataset: Dataset, rows: Ints) -> None:
        self._dataset = dataset
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> "_Interactions": ...
    def __getitem__(self, index: int | slice) -> "Interaction | _Interactions":
        if isinstance(index, slice):
            return _Interactions(self._dataset, self._rows[index])
        return self._dataset.interaction(int(self._rows[index]))


def read(
    lines: Iterable[LogLine],
    reward: Reward,
    where: Callable[[PageRecord], bool] = lambda page: True,
    *,
    default_reward: float | None = None,
    past: Past | None = None,
) -> Dataset:
    """Return the closed, uncensored decisions of a log, read once from its beginning.

    The join is flushed at the log's end, so that decisions still waiting for feedback close.

    Args:
        lines: the whole log in order; pages refer to items in earlier lines.
        where: selects the pages to read, for example one arm of an experiment.
        default_reward: as in the join.
        past: finds the pages of late feedback; None: they stay in memory while it is read.

    Raises:
        ValueError: a page has a propensity out of (0, 1], an action that is not a candidate or not
            on its slot's mask, another feature schema or an unknown item's block; or a reward is
            not finite. The message names the decision or page.
    """
    rows = read_rows(lines, reward, where, default_reward=default_reward, past=past)
    used, page = np.unique(rows.table["page"], return_inverse=True)  # drops unseen pages
    columns = {name: np.ascontiguousarray(rows.table[name]) for name in ROW_COLUMNS}
    columns["page"] = page.astype(np.int64)
    return Dataset(
        pages=tuple(rows.pages.known(place) for place in used),
        blocks=rows.pages.blocks,
        users=rows.users,
        coverage=rows.coverage,
        signals=rows.signals,
        values=rows.values,
        reward_version=reward.version,
        **columns,
    )
