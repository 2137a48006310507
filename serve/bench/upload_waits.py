"""When uploads got what they were owed, counted from the cards that were seen.

The fold of audiences keeps these books as well; here they are kept once more, from the pages as
people saw them, so that a promise is not judged by who made it.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Ints
from serve.bench.served_cards import Shown

NEVER_MS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class UploadWaits:
    """n uploads, by row of the stock.

    Attributes:
        first_ms: when the first impression came; `NEVER_MS`: it has not.
        paid_ms: when the last owed one came; `NEVER_MS`: it has not.
    """

    rows: Ints  # (n,)
    home: Ints  # (n,) market
    born_ms: Ints  # (n,)
    owed: Ints  # (n,)
    first_ms: Ints  # (n,)
    paid_ms: Ints  # (n,)

    @staticmethod
    def of(shown: Shown, rows: Ints, home: Ints, born_ms: Ints, owed: Ints) -> "UploadWaits":
        """Count.

        Args:
            shown: all cards so far.
            rows: of the uploads, shape (n,), rising.
            home: of each, shape (n,).
            born_ms: of each, shape (n,).
            owed: of each, at least 1, shape (n,).
        """
        of_upload = shown.take(np.isin(shown.row, rows))
        order = np.lexsort((of_upload.at_ms, of_upload.row))
        row, at_ms = of_upload.row[order], of_upload.at_ms[order]
        start = np.searchsorted(row, rows)
        end = np.searchsorted(row, rows, side="right")

        def nth_ms(n: Ints) -> Ints:
            found = np.full(len(rows), NEVER_MS)
            enough = end - start >= n
            found[enough] = at_ms[(start + n - 1)[enough]]
            return found

        return UploadWaits(rows, home, born_ms, owed, nth_ms(np.ones_like(owed)), nth_ms(owed))

    def take(self, which: Bools) -> "UploadWaits":
        """Return some of the uploads."""
        return UploadWaits(
            self.rows[which],
            self.home[which],
            self.born_ms[which],
            self.owed[which],
            self.first_ms[which],
            self.paid_ms[which],
        )

    def born_in(self, start_ms: int, end_ms: int) -> "UploadWaits":
        """Return those that were uploaded in [start_ms, end_ms)."""
        return self.take((self.born_ms >= start_ms) & (self.born_ms < end_ms))

    def are_met(self, within_ms: int) -> Bools:
        """Return which were paid in time, shape (n,)."""
        return self.paid_ms - self.born_ms <= within_ms
