"""What is known of each item beyond its features: a posterior mean and sd of its own effect.

An item's effect is what its rewards differ by from a model f that knows features only. With the
residuals e = reward - f (f from before the reward was learned), noise variance sigma^2 and effects
drawn from N(0, tau^2), n residuals give an item

    mean  m = sum(e) / (n + k)        k = sigma^2 / tau^2
    sd    s = sqrt(sigma^2 / (n + k))

(the normal model of Efron and Morris, "Stein's estimation rule and its competitors", JASA 1973).
Both variances come from the stream itself. sigma^2 is what residuals differ by from the mean of
their item's earlier ones. tau^2 rests on E[e * earlier mean of the item] = tau^2, as the noise of
two impressions is independent; a product counts by its precision, an item for no more than k / 2
products however often it was shown. Choosing by what was seen biases it a little (items that began
badly are shown less), so the prior keeps a weight. A running mean of what
neither f nor m expected is taken out first: as long as f has not found its own level, whoever is
shown first would pass for good.

Each impression takes 1 / memory off what was counted of its item, so that an effect that was
measured against another f, or by another audience, is forgotten as new residuals come in, and the
sd of a hit stays above sigma / sqrt(memory). Rejected: forgetting by time or by all events (an item
is forgotten because others are busy), a weight of VW's own for each item (no sd, and at one rate
for all it either follows noise or remembers nothing), sums of squares an item (a pooled variance
is what 20 impressions can carry).

Items share hashed columns as features do; two items of one place are believed to be one.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from env.features import SHARED
from env.vocabulary import Float32s, Floats, Ints

EVIDENCE = SHARED.index("evidence")
EVIDENCE_SCALE = 5.0
"""What `env.features` divides log1p(evidence) by."""

MOST_LOG_EVIDENCE = 50.0
MEAN_MEMORY = 1_000.0
"""Residuals over which their running mean is taken."""

VARIANCE_MEMORY = 50_000.0
"""Residuals over which the two variances are taken."""

PRIOR_ITEMS = 20.0
"""Often shown items that the prior of tau^2 weighs as much as."""

LEAST_SHARE = 0.04
"""Of the prior tau^2 that is always left: an estimate at 0 would end all curiosity for good."""


class Optimism(msgspec.Struct, frozen=True, array_like=True):
    """How many sds of its effect an item is credited with.

    A person of whom little is known is a chance to try out what little is known of: to them the
    width is (1 + newcomer * n0 / (n0 + evidence)) times as large, narrowing with their evidence.

    Attributes:
        width: in [0, 100], for a person well known.
        newcomer: in [0, 100], the share that a newcomer's width is larger by.
        newcomer_evidence: n0 above 0, answered cards at which half of that is left.
    """

    width: float = 0.0
    newcomer: float = 0.0
    newcomer_evidence: float = 20.0

    def __post_init__(self) -> None:
        sizes = 0.0 <= self.width <= 100.0 and 0.0 <= self.newcomer <= 100.0
        if not (sizes and 0.0 < self.newcomer_evidence < math.inf):
            raise ValueError(
                "width must be in [0, 100], newcomer in [0, 100] and newcomer_evidence above 0, "
                f"got {self}"
            )

    def towards(self, shared: Float32s) -> float:
        """Return the width for the person whose shared columns these are."""
        coded = min(max(EVIDENCE_SCALE * float(shared[EVIDENCE]), 0.0), MOST_LOG_EVIDENCE)
        left = self.newcomer_evidence / (self.newcomer_evidence + math.expm1(coded))
        return self.width * (1.0 + self.newcomer * left)


class Moments(msgspec.Struct, frozen=True, array_like=True):
    """What all residuals together say.

    Attributes:
        n_residuals: so far.
        mean: the running mean of the residuals.
        noise: sigma^2, above 0.
        n_noise: decayed count of what it rests on.
        between: decayed sum of weighted products of an item's residual and its earlier mean.
        n_between: sum of their weights.
    """

    n_residuals: int = 0
    mean: float = 0.0
    noise: float = 1.0
    n_noise: float = 1.0
    between: float = 0.0
    n_between: float = 0.0


@dataclass(frozen=True, slots=True)
class ItemBeliefs:
    """The posterior of each item at one moment; pure, nobody writes to it."""

    counts: Float32s  # (n_slots,) residuals of each item that are not forgotten
    sums: Float32s  # (n_slots,) of these residuals, less the running mean
    level: float  # the running mean itself
    noise: float  # sigma^2, above 0
    between: float  # tau^2, above 0

    @classmethod
    def unmet(cls, n_slots: int) -> "ItemBeliefs":
        """Return what is believed before any item was shown: all are alike."""
        nothing = np.zeros(n_slots, dtype=np.float32)
        return cls(nothing, nothing, 0.0, 1.0, 1.0)

    def posterior(self, slots: Ints) -> tuple[Floats, Floats]:
        """Return mean and sd of the effects of these items.

        Args:
            slots: shape (n,), the items' places.

        Returns:
            What to add to f (m and the running mean), and s > 0, each of shape (n,).
        """
        known = self.counts[slots].astype(np.float64) + self.noise / self.between
        return self.sums[slots] / known + self.level, np.sqrt(self.noise / known)

    def to_bytes(self) -> bytes:
        """Return these beliefs; equal ones give equal bytes."""
        numbers = (self.level, self.noise, self.between)
        return msgspec.msgpack.encode((numbers, _pack(self.counts, self.sums)))

    @classmethod
    def from_bytes(cls, data: bytes, n_slots: int) -> "ItemBeliefs":
        """Undo `to_bytes`; the posteriors are the same to the last bit.

        Raises:
            ValueError: a part has the wrong length, or a number is out of its range.
            msgspec.DecodeError: these are no bytes of ItemBeliefs.
        """
        numbers, packed = msgspec.msgpack.decode(
            data, type=tuple[tuple[float, float, float], _Packed]
        )
        level, noise, between = numbers
        if not (math.isfinite(level) and 0.0 < noise < math.inf and 0.0 < between < math.inf):
            raise ValueError(
                f"expected a finite level and variances above 0, got {level}, {noise}, {between}"
            )
        return cls(*_unpack(packed, n_slots), level, noise, between)


class ItemEffects:
    """The fold of residuals into posteriors: O(1) a residual, deterministic."""

    def __init__(self, n_slots: int, prior_sd: float, memory: float) -> None:
        """Start without residuals.

        Args:
            n_slots: places that items are hashed into.
            prior_sd: tau / sigma before much is known, above 0; what a reward is measured in does
                not matter to it.
            memory: impressions of an item that are remembered, at least 1.
        """
        self._counts = np.zeros(n_slots, dtype=np.float32)
        self._sums = np.zeros(n_slots, dtype=np.float32)
        self._prior = prior_sd**2
        self._kept = 1.0 - 1.0 / memory
        self._moments = Moments()

    def fold(self, slot: int, residual: float) -> None:
        """Move the beliefs by one residual, a reward less what was expected of it.

        Args:
            slot: of the item that was shown.
            residual: finite.
        """
        n, total = float(self._counts[slot]), float(self._sums[slot])
        off = residual - self._moments.mean
        surprise = off - self.mean(slot)
        self._moments = self._moved(n, total / n if n else 0.0, off, surprise)
        self._counts[slot] = n * self._kept + 1.0
        self._sums[slot] = total * self._kept + off

    def mean(self, slot: int) -> float:
        """Return the posterior mean of this item's own effect."""
        n, total = float(self._counts[slot]), float(self._sums[slot])
        return total / (n + self._moments.noise / self._between())

    def beliefs(self) -> ItemBeliefs:
        """Return what is believed now; it stays as it is when the fold moves on."""
        counts, sums, moments = self._counts.copy(), self._sums.copy(), self._moments
        return ItemBeliefs(counts, sums, moments.mean, moments.noise, self._between())

    def to_bytes(self) -> bytes:
        """Return all that `fold` has moved; equal folds give equal bytes."""
        return msgspec.msgpack.encode((self._moments, _pack(self._counts, self._sums)))

    def restore(self, data: bytes) -> None:
        """Become what `to_bytes` was called on, under the same arguments.

        Raises:
            ValueError: a part has the wrong length, or a number is not finite.
            msgspec.DecodeError: these are no bytes of ItemEffects.
        """
        moments, packed = msgspec.msgpack.decode(data, type=tuple[Moments, _Packed])
        if not all(map(math.isfinite, msgspec.structs.astuple(moments))):
            raise ValueError(f"expected finite moments, got {moments}")
        self._counts, self._sums = _unpack(packed, len(self._counts))
        self._moments = moments

    def _between(self) -> float:
        """Return tau^2: the prior's and the products', by what each rests on."""
        moments = self._moments
        prior, often = self._prior * moments.noise, PRIOR_ITEMS / (2.0 * self._prior)
        mixed = (often * prior + moments.between) / (often + moments.n_between)
        return max(mixed, LEAST_SHARE * prior)

    def _moved(self, n: float, own: float, off: float, surprise: float) -> Moments:
        """Return the moments after one more residual.

        Args:
            n: residuals of its item before it.
            own: their mean.
            off: what it differs by from the running mean.
            surprise: what it differs by from that and the posterior mean of its item.
        """
        known = self._moments
        pace = 1.0 / min(known.n_residuals + 1.0, MEAN_MEMORY)
        kept = 1.0 - 1.0 / VARIANCE_MEMORY
        n_noise = known.n_noise * kept + (n > 0.0)
        own_noise = (off - own) ** 2 * n / (n + 1.0)
        k = 1.0 / self._prior
        weight = n * k**2 / (n + k) ** 3
        return Moments(
            n_residuals=known.n_residuals + 1,
            mean=known.mean + pace * surprise,
            noise=(known.noise * known.n_noise * kept + own_noise) / n_noise,
            n_noise=n_noise,
            between=known.between * kept + weight * off * own,
            n_between=known.n_between * kept + weight,
        )


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """The places that hold something, ascending, and what they hold: little-endian, 4 bytes."""

    slots: bytes
    counts: bytes
    sums: bytes


def _pack(counts: Float32s, sums: Float32s) -> _Packed:
    slots = np.flatnonzero(counts)
    return _Packed(
        slots.astype("<u4").tobytes(),
        counts[slots].astype("<f4").tobytes(),
        sums[slots].astype("<f4").tobytes(),
    )


def _unpack(packed: _Packed, n_slots: int) -> tuple[Float32s, Float32s]:
    if len(packed.slots) % 4 or not len(packed.slots) == len(packed.counts) == len(packed.sums):
        raise ValueError(
            "expected 4 bytes an item of each of places, counts and sums, got "
            f"{len(packed.slots)}, {len(packed.counts)}, {len(packed.sums)}"
        )
    slots = np.frombuffer(packed.slots, dtype="<u4").astype(np.int64)
    if len(slots) and (slots[-1] >= n_slots or (np.diff(slots) <= 0).any()):
        raise ValueError(f"expected ascending places below {n_slots}; was the part verified?")
    some_counts = np.frombuffer(packed.counts, dtype="<f4")
    some_sums = np.frombuffer(packed.sums, dtype="<f4")
    if not ((some_counts > 0.0) & np.isfinite(some_counts) & np.isfinite(some_sums)).all():
        raise ValueError("expected finite counts above 0 and finite sums; was the part verified?")
    counts, sums = np.zeros((2, n_slots), dtype=np.float32)
    counts[slots], sums[slots] = some_counts, some_sums
    return counts, sums
