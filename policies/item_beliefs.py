"""What is believed of items at one moment: the frozen posterior that `policies.item_effects` folds.

A replica holds this and not the fold. Only items that were met are stored; all others share one
spread.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from env.vocabulary import Float32s, Floats, Ints


class PackedItems(msgspec.Struct, frozen=True, array_like=True):
    """The places that hold something, ascending, and what they hold: little-endian, 4 bytes."""

    slots: bytes
    numbers: bytes


def pack_items(slots: Ints, numbers: Float32s) -> PackedItems:
    """Return ascending places with the numbers that each holds."""
    return PackedItems(slots.astype("<u4").tobytes(), numbers.astype("<f4").tobytes())


def unpack_items(packed: PackedItems, n_slots: int, width: int) -> tuple[Ints, Float32s]:
    """Return the places, and `width` numbers for each, flat.

    Raises:
        ValueError: a part has the wrong length, a place is out of range or a number not finite.
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
    """The posterior of each item at one moment; pure, nobody writes to it."""

    counts: Float32s  # (n_slots,) rewards of each item that are not forgotten
    sums: Float32s  # (n_slots,) of these, less what the columns are worth
    spreads: Float32s  # (n_slots,) gap' C gap, at least 0
    noise: float  # sigma^2, above 0
    between: float  # tau^2, above 0

    @classmethod
    def unmet(cls, n_slots: int) -> "ItemBeliefs":
        """Return what is believed before any item was shown: all are alike."""
        nothing = np.zeros(n_slots, dtype=np.float32)
        return cls(nothing, nothing, nothing, 1.0, 1.0)

    def posterior(self, slots: Ints) -> tuple[Floats, Floats]:
        """Return mean and sd of the effects of these items.

        Args:
            slots: shape (n,), the items' places.

        Returns:
            m and s > 0, each of shape (n,).
        """
        depth = self.counts[slots].astype(np.float64) + self.noise / self.between
        variance = self.noise * (1.0 / depth + self.spreads[slots])
        return self.sums[slots] / depth, np.sqrt(variance)

    def to_bytes(self) -> bytes:
        """Return these beliefs; equal ones give equal bytes."""
        met = np.flatnonzero(self.counts)
        unmet = np.flatnonzero(self.counts == 0.0)
        spread = float(self.spreads[unmet[0]]) if len(unmet) else 0.0
        columns = np.stack([self.counts[met], self.sums[met], self.spreads[met]])
        return msgspec.msgpack.encode((self.noise, self.between, spread, pack_items(met, columns)))

    @classmethod
    def from_bytes(cls, data: bytes, n_slots: int) -> "ItemBeliefs":
        """Undo `to_bytes`; the posteriors are the same to the last bit.

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
