"""The frozen posterior of items' own effects at one moment.

A replica holds it instead of the fold in `ItemEffects`. Only items that were shown are stored; all
others share one spread.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from env.vocabulary import Float32s, Floats, Ints


class PackedItems(msgspec.Struct, frozen=True, array_like=True):
    """Ascending slots that hold something, and their numbers: little-endian, 4 bytes each."""

    slots: bytes
    numbers: bytes


def pack_items(slots: Ints, numbers: Float32s) -> PackedItems:
    """Return ascending slots with the numbers that each holds."""
    return PackedItems(slots.astype("<u4").tobytes(), numbers.astype("<f4").tobytes())


def unpack_items(packed: PackedItems, n_slots: int, width: int) -> tuple[Ints, Float32s]:
    """Return the slots, and `width` numbers for each, flat.

    Raises:
        ValueError: a part has the wrong length, a slot is out of range or a number not finite.
    """
    if len(packed.slots) % 4 or len(packed.numbers) != width * len(packed.slots):
        raise ValueError(
            f"expected 4 bytes an item of its place and each of {width} numbers, got "
            f"{len(packed.slots)} and {len(packed.numbers)}"
        )
    slots = np.frombuffer(packed.slots, dtype="<u4").astype(np.int64)
    if len(slots) and (slots[-1] >= n_slots or (np.diff(slots) <= 0).any()):
        raise ValueError(f"expected ascending places below {n_slots}; was the part verified?")
    numbers = np.frombuffer(packed.numbers, dtype="<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("expected finite numbers of items; was the part verified?")
    return slots, numbers


@dataclass(frozen=True, slots=True)
class ItemBeliefs:
    """The posterior of each item at one moment; pure and read-only."""

    counts: Float32s  # (n_slots,) decayed count of each item's rewards
    sums: Float32s  # (n_slots,) their decayed sum less the main effects
    spreads: Float32s  # (n_slots,) gap' C gap, at least 0
    noise: float  # sigma^2, above 0
    between: float  # tau^2, above 0

    @classmethod
    def unmet(cls, n_slots: int) -> "ItemBeliefs":
        """Return the posterior before any item was shown: all items are alike."""
        nothing = np.zeros(n_slots, dtype=np.float32)
        return cls(nothing, nothing, nothing, 1.0, 1.0)

    def posterior(self, slots: Ints) -> tuple[Floats, Floats]:
        """Return mean and sd > 0 of the effects of the items at these slots, each of shape (n,)."""
        depth = self.counts[slots].astype(np.float64) + self.noise / self.between
        variance = self.noise * (1.0 / depth + self.spreads[slots])
        return self.sums[slots] / depth, np.sqrt(variance)

    def to_bytes(self) -> bytes:
        """Return the posterior as bytes; equal ones give equal bytes."""
        met = np.flatnonzero(self.counts)
        unmet = np.flatnonzero(self.counts == 0.0)
        spread = float(self.spreads[unmet[0]]) if len(unmet) else 0.0
        columns = np.stack([self.counts[met], self.sums[met], self.spreads[met]])
        return msgspec.msgpack.encode((self.noise, self.between, spread, pack_items(met, columns)))

    @classmethod
    def from_bytes(cls, data: bytes, n_slots: int) -> "ItemBeliefs":
        """Return the posterior that `to_bytes` wrote, the same to the last bit.

        Raises:
            ValueError: a part has the wrong length, or a number is out of its range.
            msgspec.DecodeError: these are no bytes of ItemBeliefs.
        """
        noise, between, spread, packed = msgspec.msgpack.decode(
            data, type=tuple[float, float, float, PackedItems]
        )
        if not all(0.0 < v < math.inf for v in (noise, between)) or not 0.0 <= spread < math.inf:
            raise ValueError(
                f"expected variances above 0 and a spread, got {noise}, {between}, {spread}"
            )
        met, flat = unpack_items(packed, n_slots, 3)
        columns = np.zeros((3, n_slots), dtype=np.float32)
        columns[2] = spread
        columns[:, met] = flat.reshape(3, len(met))
        counts, sums, spreads = columns
        if not ((counts[met] > 0.0) & (spreads[met] >= 0.0)).all():
            raise ValueError("expected counts above 0 and spreads; was the part verified?")
        return cls(counts, sums, spreads, noise, between)
