"""The item-effects learner folds rewards into a posterior of each item's own effect.

An item's own effect is the difference between its rewards and the prediction from its columns. The
fold keeps sums of rewards and columns, so every posterior uses the current weights. Derivation,
variance estimates and rejected alternatives: `docs/decisions/item-effects.md`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from env.columns import schema
from env.columns.scales import EVIDENCE_SCALE
from env.columns.schema import index_of
from env.vocabulary import Float32s, Floats, Ints

EVIDENCE = index_of(schema.EVIDENCE)
MOST_LOG_EVIDENCE = 50.0


class ExplorationBonus(msgspec.Struct, frozen=True, array_like=True):
    """Number of posterior sds that are added to an item's score.

    For a new user it is (1 + newcomer) times as large; the difference fades by n0 / (n0 +
    evidence).
    """

    width: float = 0.0  # in [0, 100], for a well-known user
    newcomer: float = 0.0  # in [-1, 100], relative difference for a new user; -1 gives no bonus
    newcomer_evidence: float = 20.0  # n0 > 0, answered cards that halve the difference

    def __post_init__(self) -> None:
        sizes = 0.0 <= self.width <= 100.0 and -1.0 <= self.newcomer <= 100.0
        if not (sizes and 0.0 < self.newcomer_evidence < math.inf):
            raise ValueError(
                "width must be in [0, 100], newcomer in [-1, 100] and newcomer_evidence above 0, "
                f"got {self}"
            )

    def width_for(self, shared: Float32s) -> float:
        """Return the width for the user with these shared columns."""
        coded = min(max(EVIDENCE_SCALE.by * float(shared[EVIDENCE]), 0.0), MOST_LOG_EVIDENCE)
        left = self.newcomer_evidence / (self.newcomer_evidence + math.expm1(coded))
        return self.width * (1.0 + self.newcomer * left)


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
class ItemPosteriors:
    """The posterior of each item at one moment; pure and read-only."""

    counts: Float32s  # (n_slots,) decayed count of each item's rewards
    sums: Float32s  # (n_slots,) their decayed sum less the main effects
    spreads: Float32s  # (n_slots,) gap' C gap, at least 0
    noise: float  # sigma^2, above 0
    between: float  # tau^2, above 0

    @classmethod
    def unmet(cls, n_slots: int) -> "ItemPosteriors":
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
    def from_bytes(cls, data: bytes, n_slots: int) -> "ItemPosteriors":
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


VARIANCE_MEMORY = 50_000.0
"""Residuals over which the two variances are averaged."""

PRIOR_ITEMS = 20.0
"""Weight of the prior of tau^2, in often shown items."""

_CAPACITY = 256
_CHUNK = 4096
LEAST_SHARE = 0.04
"""Share of the prior tau^2 that always remains: an estimate of 0 would end exploration for good."""


class VarianceSums(msgspec.Struct, frozen=True, array_like=True):
    """Decayed sums of all residuals for the estimates of both variances."""

    noise: float = 1.0  # sigma^2, above 0
    n_noise: float = 1.0  # decayed count behind it
    between: float = 0.0  # decayed weighted sum of an item's residual times its earlier mean
    n_between: float = 0.0  # sum of their weights


class OwnEffect(NamedTuple):
    """The state of one item under given weights, before it was shown again."""

    slot: int
    sums: Floats  # (1 + n_columns,) of its rewards (first) and of their columns, float64
    left: float  # sum of its rewards less the main effects of their columns
    depth: float  # n + k

    @property
    def mean(self) -> float:
        """The posterior mean of the item's own effect."""
        return self.left / self.depth


class ItemEffects:
    """The fold of rewards into posteriors: O(1) a reward, deterministic."""

    def __init__(self, n_slots: int, n_columns: int, prior_sd: float, memory: float) -> None:
        """Start without rewards.

        Args:
            n_slots: slots that items are hashed into.
            n_columns: explanatory columns, the first of them constantly 1.
            prior_sd: tau / sigma before much is known, above 0; it does not depend on the reward's
                unit.
            memory: impressions of an item that are remembered, at least 1.
        """
        self._n_slots = n_slots
        self._rows: dict[int, int] = {}  # slot -> row, of items that were shown
        self._held = np.zeros((_CAPACITY, 1 + n_columns), dtype=np.float32)
        """A row for each item: the sum of its rewards, then of its columns, the first of which is
        the count."""
        self._prior = prior_sd**2
        self._kept = 1.0 - 1.0 / memory
        self._moments = VarianceSums()
        self._before: dict[int, Float32s] = {}
        self._marked = 0, self._moments

    @property
    def noise(self) -> float:
        """The estimate of sigma^2."""
        return self._moments.noise

    def own(self, slot: int, weights: Floats) -> OwnEffect:
        """Return the state of the item in this slot under these weights, shape (n_columns,)."""
        row = self._rows.get(slot)
        k = self._moments.noise / self._between()
        if row is None:
            return OwnEffect(slot, np.zeros(self._held.shape[1]), 0.0, k)
        sums = self._held[row].astype(np.float64)
        left = float(sums[0]) - float(np.einsum("i,i->", sums[1:], weights))
        return OwnEffect(slot, sums, left, float(sums[1]) + k)

    def fold(self, own: OwnEffect, columns: Floats, worth: float, reward: float) -> Floats:
        """Update the posterior with one reward.

        Args:
            columns: shape (n_columns,), as the item was shown.
            worth: main effect of these columns, under the weights of `own`.
            reward: finite.

        Returns:
            Reward (first) and columns, less the item's means and times the root of their weight:
            the row that updates the normal equations in `MainEffects.fold`.
        """
        n, reward_and_columns = float(own.sums[1]), np.empty(1 + len(columns))
        reward_and_columns[0], reward_and_columns[1:] = reward, columns
        self._moments = self._moved(n, own.left / n if n else 0.0, reward - worth)
        row = self._row(own.slot)
        if row not in self._before:
            self._before[row] = self._held[row].copy()
        self._held[row] = own.sums * self._kept + reward_and_columns
        gap: Floats = reward_and_columns - own.sums / own.depth
        gap *= math.sqrt(own.depth / (own.depth + 1.0))
        return gap

    def knows(self, slot: int) -> bool:
        """Return whether an item in this slot was ever folded."""
        return slot in self._rows

    def correct(
        self, own: OwnEffect, columns: Floats, worth: float, reward: float, difference: float
    ) -> Floats:
        """Change one reward that was folded; its count and columns stay.

        Args:
            own: the item as it is now, that reward included.
            columns: shape (n_columns,), as the item was shown.
            worth: main effect of these columns, under the weights of `own`.
            reward: as it was folded.
            difference: from that reward to the right one.

        Returns:
            Change of the moments of the reward (first) with reward and columns, for
            `MainEffects.correct`; that of the reward's squares is halved, since it is added twice.
        """
        row = self._rows[own.slot]
        if row not in self._before:
            self._before[row] = self._held[row].copy()
        self._moments = self._corrected(own, reward - worth, difference)
        self._held[row, 0] += difference
        cross = np.empty(1 + len(columns))
        cross[0], cross[1:] = reward, columns
        cross -= own.sums / own.depth
        cross[0] += 0.5 * difference * (1.0 - 1.0 / own.depth)
        cross *= difference
        return cross

    def mark(self) -> None:
        """Remember from now on the values that `undo` restores."""
        self._before.clear()
        self._marked = len(self._rows), self._moments

    def undo(self) -> None:
        """Restore the state of the last `mark`."""
        n_rows, self._moments = self._marked
        for row, held in self._before.items():
            self._held[row] = held
        while len(self._rows) > n_rows:
            self._rows.popitem()  # the last one added
        self._before.clear()

    def beliefs(self, weights: Floats, covariance: Floats) -> ItemPosteriors:
        """Return the current posterior, which later folds do not change.

        Args:
            weights: of the columns, shape (n_columns,).
            covariance: of the weights, over sigma^2, shape (n_columns, n_columns).
        """
        met, held = self._met()
        noise, between = self._moments.noise, self._between()
        counts, sums, spreads = np.zeros((3, self._n_slots), dtype=np.float32)
        if len(met):
            n, k = held[:, 1].astype(np.float64), noise / between
            counts[met] = n
            sums[met] = held[:, 0] - np.einsum("ij,j->i", held[:, 1:], weights)
            # gap' C gap of an unseen item; rounding must not push it below 0.
            raw = np.maximum(_quadratic(held[:, 1:], covariance) / (n * n), 0.0)
            spreads[:] = raw.mean()
            spreads[met] = raw * (k / (n + k)) ** 2
        return ItemPosteriors(counts, sums, spreads, noise, between)

    def to_bytes(self) -> bytes:
        """Return the learned state; equal folds give equal bytes."""
        return msgspec.msgpack.encode((self._moments, pack_items(*self._met())))

    def restore(self, data: bytes) -> None:
        """Load the state that `to_bytes` returned, under the same arguments.

        Raises:
            ValueError: a part has the wrong length, or a number is not finite.
            msgspec.DecodeError: these are no bytes of ItemEffects.
        """
        moments, packed = msgspec.msgpack.decode(data, type=tuple[VarianceSums, PackedItems])
        if not all(map(math.isfinite, msgspec.structs.astuple(moments))):
            raise ValueError(f"expected finite moments, got {moments}")
        width = self._held.shape[1]
        met, flat = unpack_items(packed, self._n_slots, width)
        held = flat.reshape(len(met), width)
        if not (held[:, 1] > 0.0).all():
            raise ValueError("expected counts above 0; was the part verified?")
        self._held = np.zeros((max(_CAPACITY, len(met)), width), dtype=np.float32)
        self._held[: len(met)] = held
        self._rows = {slot: row for row, slot in enumerate(met.tolist())}
        self._moments = moments
        self.mark()

    def _met(self) -> tuple[Ints, Float32s]:
        """Return the slots of the items that were shown, ascending, and their rows."""
        slots = np.array(sorted(self._rows), dtype=np.int64)
        rows = np.array([self._rows[slot] for slot in slots.tolist()], dtype=np.int64)
        return slots, self._held[rows]

    def _row(self, slot: int) -> int:
        row = self._rows.setdefault(slot, len(self._rows))
        if row == len(self._held):
            self._held = np.concatenate([self._held, np.zeros_like(self._held)])
        return row

    def _between(self) -> float:
        """Return tau^2: the precision-weighted mean of the prior and the products."""
        moments = self._moments
        prior, often = self._prior * moments.noise, PRIOR_ITEMS / (2.0 * self._prior)
        mixed = (often * prior + moments.between) / (often + moments.n_between)
        return max(mixed, LEAST_SHARE * prior)

    def _moved(self, n: float, own: float, off: float) -> VarianceSums:
        """Return the moments after one more residual.

        Args:
            n: residuals of its item before it.
        """
        known = self._moments
        kept = 1.0 - 1.0 / VARIANCE_MEMORY
        n_noise = known.n_noise * kept + (n > 0.0)
        own_noise = (off - own) ** 2 * n / (n + 1.0)
        k = 1.0 / self._prior
        weight = n * k**2 / (n + k) ** 3
        return VarianceSums(
            noise=(known.noise * known.n_noise * kept + own_noise) / n_noise,
            n_noise=n_noise,
            between=known.between * kept + weight * off * own,
            n_between=known.n_between * kept + weight,
        )

    def _corrected(self, own: OwnEffect, off: float, difference: float) -> VarianceSums:
        """Return the moments after one residual has changed, under the present estimates.

        Args:
            off: the residual as it was.
        """
        known, others = self._moments, float(own.sums[1]) - 1.0
        if others <= 0.0:
            return known
        mean = (own.left - off) / others  # of the item's other residuals
        k = 1.0 / self._prior
        more = difference * (2.0 * (off - mean) + difference) * others / (others + 1.0)
        noise = known.noise + more / known.n_noise
        return VarianceSums(
            noise=max(noise, LEAST_SHARE * known.noise),
            n_noise=known.n_noise,
            between=known.between + others * k**2 / (others + k) ** 3 * difference * mean,
            n_between=known.n_between,
        )


def _quadratic(rows: Float32s, matrix: Floats) -> Floats:
    """Return x' M x of each row, shape (n,)."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK].astype(np.float64)
        found[start : start + _CHUNK] = np.einsum(
            "ij,ij->i", np.einsum("ij,jk->ik", some, matrix), some
        )
    return found
