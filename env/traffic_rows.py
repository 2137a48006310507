"""Rows of impression counts by market, and frozen copies of them.

A row holds all impressions, those of new accounts, and those of each bucket of address blocks.
Impressions without an address are the remainder, stored only in frozen rows.
"""

import struct
import zlib

import msgspec
import numpy as np

from env.origins import N_BUCKETS
from env.vocabulary import Scene

TOTAL, YOUNG, FIRST_BUCKET = 0, 1, 2
N_COUNTS = FIRST_BUCKET + N_BUCKETS
UNKNOWN = N_COUNTS
"""Column of impressions without an address."""

EVERYWHERE = "*"
"""Name of the row that counts all markets."""

_FROZEN_ROW = struct.Struct(f"<{N_COUNTS + 1}f")


class Frozen(msgspec.Struct, frozen=True, array_like=True):
    """The counts at one time."""

    at_ms: int  # the time
    rows: dict[str, bytes]  # by market, float32: all counts, then those without an address

    @classmethod
    def of(cls, at_ms: int, counts: dict[str, list[float]]) -> "Frozen":
        """Freeze rows, by market."""
        packed = {market: _FROZEN_ROW.pack(*row, _unknown(row)) for market, row in counts.items()}
        return cls(at_ms, packed)

    def require_rows(self) -> None:
        """Raise ValueError if a row is not of the length that `of` writes."""
        for market, row in self.rows.items():
            if len(row) != _FROZEN_ROW.size:
                raise ValueError(
                    f"market {market}: expected {_FROZEN_ROW.size} bytes of earlier counts, "
                    f"got {len(row)}"
                )

    def count(self, market: str, column: int) -> float:
        """Return a count; 0 where the market is missing."""
        row = self.rows.get(market)
        return float(struct.unpack_from("<f", row, 4 * column)[0]) if row is not None else 0.0

    def in_small(self, column: int, below: float) -> float:
        """Return a count over the unnamed market and those with fewer than `below` impressions."""
        small = (m for m in self.rows if not m or self.count(m, TOTAL) < below)
        return sum(self.count(market, column) for market in small if market != EVERYWHERE)


def pack_rows(counts: dict[str, list[float]]) -> dict[str, bytes]:
    """Return rows as float64 bytes, by market."""
    return {market: np.array(row, dtype="<f8").tobytes() for market, row in counts.items()}


def unpack_rows(packed: dict[str, bytes]) -> dict[str, list[float]]:
    """Undo `pack_rows`.

    Raises:
        ValueError: a market's row is of another length.
    """
    counts = {market: np.frombuffer(row, "<f8").tolist() for market, row in packed.items()}
    for market, row in counts.items():
        if len(row) != N_COUNTS:
            raise ValueError(f"market {market}: expected {N_COUNTS} counts, got {len(row)}")
    return counts


def columns_of(scene: Scene, young_days: int) -> tuple[int, ...]:
    """Return the columns of an impression's sources."""
    origin = origin_column(bucket_of(scene.origin))
    return (origin, YOUNG) if scene.tenure_days < young_days else (origin,)


def origin_column(bucket: int) -> int:
    """Return the column of a bucket; -1 gives that of impressions without an address."""
    return FIRST_BUCKET + bucket if bucket >= 0 else UNKNOWN


def count_in(row: list[float], column: int) -> float:
    """Return a count of a row."""
    return _unknown(row) if column == UNKNOWN else row[column]


def bucket_of(origin: str) -> int:
    """Return the bucket of an address block; -1 without one."""
    return zlib.crc32(origin.encode()) % N_BUCKETS if origin else -1


def _unknown(row: list[float]) -> float:
    return max(row[TOTAL] - sum(row[FIRST_BUCKET:]), 0.0)
