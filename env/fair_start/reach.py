"""The results of `env.fair_start.audience`: where each upload may be shown and its shortfall.

`Reach` holds columns by catalogue index, for serving. `UploadState` is one record an upload, for
the audit: times of delivery and promotion, and the reason why it was stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from env.arrays.growing import grown, with_room
from env.arrays.index_sets import distinct, is_among
from env.fair_start.settings import OPEN_LEVEL
from env.vocabulary import Bools, CreatorId, Floats, Ints, ItemId


@dataclass(frozen=True)
class Reach:
    """Stage, shortfall and price of each item for one version of the fold; read-only.

    The price is a dual variable: the bonus on an upload's match (a cosine) that gets it delivered
    in time, see `env.fair_start.budget`.
    """

    level: Ints  # (n,) 0 to OPEN_LEVEL, which items without a launch have too
    stopped: Bools  # (n,) no longer offered
    owed: Floats  # (n,) shortfall, test impressions included
    due_ms: Ints  # (n,) deadline; 0 without a shortfall
    price: Floats  # (n,) 0 without a shortfall, `TEST_PRICE` for tests alone, else at least 0

    @cached_property
    def tried(self) -> Ints:
        """Items under trial or stopped, ascending; all others are in the open pool."""
        return np.flatnonzero((self.level < OPEN_LEVEL) | self.stopped)

    @cached_property
    def owing(self) -> Ints:
        """Items with a shortfall, ascending."""
        return np.flatnonzero(self.owed > 0.0)

    def prepare(self) -> None:
        """Compute `tried` and `owing` before the first page needs them."""
        for index in (self.tried, self.owing):
            index.flags.writeable = False

    @classmethod
    def of(
        cls, level: Ints, stopped: Bools, owed: Floats, due_ms: Floats, price: Floats
    ) -> "Reach":
        """Return a `Reach` with a copy of these columns, each with spare room for later items."""
        reach = cls(
            with_room(len(level), np.int64),
            with_room(len(level), np.bool_),
            with_room(len(level)),
            with_room(len(level), np.int64),
            with_room(len(level)),
        )
        values = level, stopped, owed, due_ms, price
        for column, of_column in zip(reach._columns(), values, strict=True):
            column[:] = of_column
        return reach

    def changed(
        self, n: int, index: Ints, rows: Sequence[tuple[int, bool, float, float, float]]
    ) -> "Reach":
        """Return the reach of n items where some have other values; it shares its columns.

        Args:
            n: number of items now.
            index: shape (m,), ascending, the changed items, all new ones included.
            rows: their values, in the order of the attributes.
        """
        reach = Reach(
            grown(self.level, n),
            grown(self.stopped, n),
            grown(self.owed, n),
            grown(self.due_ms, n),
            grown(self.price, n),
        )
        for column, values in zip(reach._columns(), zip(*rows, strict=True), strict=True):
            column[index] = values
        is_tried = (reach.level[index] < OPEN_LEVEL) | reach.stopped[index]
        reach.__dict__["tried"] = _replaced(self.tried, index, index[is_tried])
        reach.__dict__["owing"] = _replaced(self.owing, index, index[reach.owed[index] > 0.0])
        return reach

    def moved_since(self, before: "Reach") -> Ints:
        """Return the items of `before` whose level changed or that were stopped, ascending."""
        n = len(before.level)
        tried = np.concatenate([before.tried, self.tried[self.tried < n]])
        is_other = self.level[tried] != before.level[tried]
        is_other |= self.stopped[tried] != before.stopped[tried]
        return distinct(tried[is_other])

    def _columns(self) -> tuple[Ints, Bools, Floats, Ints, Floats]:
        return self.level, self.stopped, self.owed, self.due_ms, self.price


class UploadState(msgspec.Struct, frozen=True):
    """Audit record of one upload."""

    item_id: ItemId  # of the first listed of its near-duplicates, if any is listed
    creator: CreatorId  # uploader; empty where unknown
    country: str  # home market; empty where unknown
    language: str  # empty where unknown
    born_ms: int  # launch time, shifted by times in which nobody could be shown it
    owed: int  # guaranteed impressions (G)
    impressions: int  # had while it had a shortfall or was under trial
    paid_ms: int  # time of the last guaranteed impression, 0 until then
    level: int  # its pool, 0 to OPEN_LEVEL
    level_ms: tuple[int, int, int, int]  # last time that it entered each level, 0 for never
    stopped: str  # why it is no longer offered; empty if it is
    n_counted: float  # impressions counted as evidence; each demotion halves them
    n_cut: int  # impressions filtered by a guard
    uplift: float  # posterior mean of its uplift over an ordinary item, in rewards
    uplift_sd: float  # posterior standard deviation of it
    chance: float  # posterior probability that the uplift is above the bar of its level


def _replaced(some: Ints, changed: Ints, new: Ints) -> Ints:
    """Return a set of indices where the changed ones are members iff they are in `new`."""
    return np.sort(np.concatenate([some[~is_among(some, changed)], new]))
