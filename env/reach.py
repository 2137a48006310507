"""Where each upload may be shown now and what it is still owed: what `env.audiences` says.

`Reach` is for serving: columns by catalogue index. `UploadState` is for the audit: one record an
upload, with the times at which it was paid and promoted and the reason why it was stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np

from env.catalogue import Catalogue
from env.vocabulary import Bools, CreatorId, Floats, Ints, ItemId


@dataclass(frozen=True)
class Reach:
    """Levels and debts of one version of the fold, by catalogue index; nobody writes to them.

    The price is a dual variable: what must be added to an upload's match (a cosine) so that it is
    paid in time; see `env.payments`.
    """

    level: Ints  # (n,) 0 to OPEN_LEVEL, which is also that of what never debuted
    stopped: Bools  # (n,) no longer offered
    owed: Floats  # (n,) impressions still owed
    due_ms: Ints  # (n,) by when; 0 where nothing is owed
    price: Floats  # (n,) at least 0, but of what only a test is owed to; 0 where nothing is owed


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


class Places:
    """Which row of a fold belongs to which catalogue index; follows both as they grow."""

    def __init__(self) -> None:
        """Start with neither."""
        self._catalogue: Catalogue | None = None
        self._row_of = np.zeros(0, dtype=np.int64)
        self._n_placed = 0

    def of(self, catalogue: Catalogue, rows: Mapping[ItemId, int]) -> Ints:
        """Return the rows by catalogue index, shape (n,), -1 where there is none.

        Args:
            catalogue: that the indices are of; n is how many it has by now.
            rows: by item; new ones come last, and of a row that changes `move` was told.
        """
        if catalogue is not self._catalogue:
            self._catalogue, self._n_placed = catalogue, 0
            self._row_of = np.zeros(0, dtype=np.int64)
        n = len(catalogue.debuts)
        new_ids = catalogue.ids[len(self._row_of) : n]
        new_rows = np.array([rows.get(item_id, -1) for item_id in new_ids], dtype=np.int64)
        self._row_of = np.concatenate([self._row_of, new_rows])
        for item_id, row in islice(rows.items(), self._n_placed, None):
            index = catalogue.index_of(item_id)
            if index is not None and index < n:  # else it is new next time
                self._row_of[index] = row
        self._n_placed = len(rows)
        return self._row_of

    def move(self, item_id: ItemId, row: int) -> None:
        """Learn that an item has another row."""
        index = None if self._catalogue is None else self._catalogue.index_of(item_id)
        if index is not None and index < len(self._row_of):
            self._row_of[index] = row
