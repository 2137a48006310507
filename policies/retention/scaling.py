"""Scaling brings the columns of an observation to one size before a network sees them.

The constants are fixed before training and travel with the weights. Rejected alternatives:
`docs/decisions/ranker-network.md`.
"""

import msgspec
import numpy as np

from env.vocabulary import Float32s

LEAST_SD = 1e-3
"""Columns that vary less are not scaled up to vary by 1."""
_LEAST_KNOWN_SD = 0.1
_STILL_SD = 1e-6
_NOTHING = 1e-6


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Columns' shifts and the factors that follow."""

    shift: tuple[float, ...]  # one a column
    scale: tuple[float, ...]  # one a column, above 0

    def __post_init__(self) -> None:
        """Raise ValueError if the lengths differ or a number is out of range."""
        if len(self.shift) != len(self.scale):
            raise ValueError(f"expected {len(self.shift)} scales, got {len(self.scale)}")
        if not np.isfinite(self.shift).all():
            raise ValueError(f"shift must be finite, got {self.shift}")
        if not all(0.0 < scale < np.inf for scale in self.scale):
            raise ValueError(f"scale must be above 0 and finite, got {self.scale}")

    @classmethod
    def none(cls, n: int) -> "Scaling":
        """Return the scaling that leaves n columns unchanged.

        >>> Scaling.none(2)
        Scaling(shift=(0.0, 0.0), scale=(1.0, 1.0))
        """
        return cls((0.0,) * n, (1.0,) * n)

    @classmethod
    def of(cls, rows: Float32s) -> "Scaling":
        """Return the scaling of a sample (m, n) to mean 0 and, from an sd of LEAST_SD on, sd 1.

        >>> Scaling.of(np.array([[0, 5], [4, 5]], np.float32))
        Scaling(shift=(2.0, 5.0), scale=(0.5, 1.0))
        """
        mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        scale = 1.0 / np.where(sd >= LEAST_SD, sd, 1.0)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))

    @classmethod
    def of_columns(cls, rows: Float32s, *, of_feed: bool) -> "Scaling":
        """Return the scaling of a sample, the feed's by `of_known`, the world's own by `of`."""
        return cls.of_known(rows) if of_feed else cls.of(rows)

    @classmethod
    def of_known(cls, rows: Float32s) -> "Scaling":
        """Return the scaling of a sample (m, n) of feed columns, constant ones to almost 0.

        The network learns nothing from a constant column and keeps its initial weights, so a feed
        in which the column varies would be ranked at random. A column that seldom varies is not
        scaled up, since it varies by about 1 when it does.

        >>> Scaling.of_known(np.array([[0, 5], [4, 5]], np.float32))
        Scaling(shift=(2.0, 5.0), scale=(0.5, 1e-06))
        """
        mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        scale = np.where(sd > _STILL_SD, 1.0 / np.maximum(sd, _LEAST_KNOWN_SD), _NOTHING)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))
