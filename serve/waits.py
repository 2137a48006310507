"""Kaplan-Meier estimate of the time until uploads get their guaranteed audience.

Uploads that still wait count as censored, because quantiles of the fulfilled ones alone would
flatter a feed that leaves others waiting. Formula and assumptions:
`docs/decisions/audit-fair-start.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats


@dataclass(frozen=True)
class Waits:
    """The estimated distribution of waiting times.

    Attributes:
        times: shape (k,), rising: waits that ended.
        share: shape (k,), rising in (0, 1]: estimated share of waits no longer than that.
    """

    times: Floats
    share: Floats

    @classmethod
    def of(cls, hours: Floats, ended: Bools) -> "Waits":
        """Return the product-limit estimate (Kaplan and Meier, JASA 53, 1958).

        Args:
            hours: shape (n,), waited so far.
            ended: shape (n,), whether the wait is over.
        """
        times, counts = np.unique(hours[ended], return_counts=True)
        waiting = len(hours) - np.searchsorted(np.sort(hours), times, side="left")
        left: Floats = np.cumprod(1.0 - counts / waiting, dtype=np.float64)
        return cls(times, 1.0 - left)

    def quantile(self, part: float) -> float | None:
        """Return the least time by which this share is fulfilled, or None if it is not."""
        place = int(np.searchsorted(self.share, part - 1e-12))
        return float(self.times[place]) if place < len(self.times) else None

    def longest(self) -> float | None:
        """Return the longest wait that ended."""
        return float(self.times[-1]) if len(self.times) else None

    def curve(self, hours: Sequence[float]) -> tuple[float, ...]:
        """Return the fulfilled share at each of these times."""
        steps = np.concatenate([[0.0], self.share])
        places = np.searchsorted(self.times, np.array(hours), side="right")
        return tuple(steps[places].round(6).tolist())
