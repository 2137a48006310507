"""Where each upload may be shown now, and the audience that it is still owed.

`Reach` is for serving: columns by catalogue index. `UploadState` is for the audit: one record an
upload, with the times at which it was paid and promoted and the reason why it was stopped.
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
    """Levels and debts of one version of the fold, by catalogue index; nobody writes to them.

    The price is a dual variable: what must be added to an upload's match (a cosine) so that it is
    paid in time; see `env.fair_start.budget`.
    """

    level: Ints  # (n,) 0 to OPEN_LEVEL, which is also that of what never debuted
    stopped: Bools  # (n,) no longer offered
    owed: Floats  # (n,) impressions still owed
    due_ms: Ints  # (n,) by when; 0 where nothing is owed
    price: Floats  # (n,) at least 0, but of what only a test is owed to; 0 where nothing is owed

    @cached_property
    def tried(self) -> Ints:
        """What is under trial or stopped, ascending; all else is everywhere."""
        return np.flatnonzero((self.level < OPEN_LEVEL) | self.stopped)

    @cached_property
    def owing(self) -> Ints:
        """What is owed impressions, ascending."""
        return np.flatnonzero(self.owed > 0.0)

    def prepare(self) -> None:
        """Find what is under trial and what is owed, before the first page asks."""
        for index in (self.tried, self.owing):
            index.flags.writeable = False

    @classmethod
    def of(
        cls, level: Ints, stopped: Bools, owed: Floats, due_ms: Floats, price: Floats
    ) -> "Reach":
        """Return the same columns, each with room for items to come."""
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
            n: items by now.
            index: shape (m,), ascending, those that have, among them all that are new.
            rows: theirs, in the order of the attributes.
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
        """Return the items of `before` whose level is another, or that were stopped, ascending."""
        n = len(before.level)
        tried = np.concatenate([before.tried, self.tried[self.tried < n]])
        is_other = self.level[tried] != before.level[tried]
        is_other |= self.stopped[tried] != before.stopped[tried]
        return distinct(tried[is_other])

    def _columns(self) -> tuple[Ints, Bools, Floats, Ints, Floats]:
        return self.level, self.stopped, self.owed, self.due_ms, self.price


class UploadState(msgspec.Struct, frozen=True):
    """All that an audit asks about one upload.

    Attributes:
        item_id: of the first of its near-duplicates that is listed, if any is.
        creator: who uploaded it; empty where unknown.
        country: its home market; empty where unknown.
        language: empty where unknown.
        born_ms: when it came; a time in which nobody could be shown it does not count.
        owed: G, the impressions that it was promised.
        impressions: that it had while it was owed any or under trial.
        paid_ms: when the last owed one came, 0 if it did not yet.
        level: the pool it is in, 0 to OPEN_LEVEL.
        level_ms: when it entered each level last, 0: never.
        stopped: why it is no longer offered; empty if it is.
        n_counted: impressions that count as evidence, half of them forgotten where it is sent back.
        n_cut: impressions that a guard cut off.
        uplift: posterior mean of its uplift over an ordinary item, in rewards.
        uplift_sd: posterior standard deviation of it.
        chance: posterior probability that the uplift is above the bar of its level.
    """

    item_id: ItemId
    creator: CreatorId
    country: str
    language: str
    born_ms: int
    owed: int
    impressions: int
    paid_ms: int
    level: int
    level_ms: tuple[int, int, int, int]
    stopped: str
    n_counted: float
    n_cut: int
    uplift: float
    uplift_sd: float
    chance: float


def _replaced(some: Ints, changed: Ints, new: Ints) -> Ints:
    """Return a set of indices where those that changed are in it if they are among the new ones."""
    return np.sort(np.concatenate([some[~is_among(some, changed)], new]))
