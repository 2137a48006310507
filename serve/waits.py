"""How long uploads waited for what they were owed, those that still wait counted as what they are.

Quantiles of those that have it already would flatter a feed whose other uploads wait for ever.
So the share that has it by time t is 1 - S(t) with Kaplan and Meier's estimate ("Nonparametric
Estimation from Incomplete Observations", JASA 53, 1958): S(t) is the product, over the times up to
t at which someone got theirs, of 1 - (those who did) / (those who had waited so long). Right if
how long an upload is observed says nothing of its luck, which holds while uploads differ by age;
it does not for one that is taken down since, which is counted nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.vocabulary import Bools, Floats


@dataclass(frozen=True)
class Waits:
    """The estimated distribution of waits.

    Attributes:
        times: shape (k,), rising: the waits that ended.
        share: shape (k,), rising in (0, 1]: part of the uploads whose wait is no longer.
    """

    times: Floats
    share: Floats

    @classmethod
    def of(cls, hours: Floats, ended: Bools) -> "Waits":
        """Return the estimate.

        Args:
            hours: shape (n,), waited so far.
            ended: shape (n,), whether the wait is over.
        """
        times, counts = np.unique(hours[ended], return_counts=True)
        waiting = len(hours) - np.searchsorted(np.sort(hours), times, side="left")
        left: Floats = np.cumprod(1.0 - counts / waiting, dtype=np.float64)
        return cls(times, 1.0 - left)

    def quantile(self, part: float) -> float | None:
        """Return the least time by which this part has it; None: it has not come to that."""
        place = int(np.searchsorted(self.share, part - 1e-12))
        return float(self.times[place]) if place < len(self.times) else None

    def longest(self) -> float | None:
        """Return the longest wait that ended."""
        return float(self.times[-1]) if len(self.times) else None

    def curve(self, hours: Sequence[float]) -> tuple[float, ...]:
        """Return the share by each of these times."""
        steps = np.concatenate([[0.0], self.share])
        places = np.searchsorted(self.times, np.array(hours), side="right")
        return tuple(steps[places].round(6).tolist())
