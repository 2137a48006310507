"""The guarded evidence of one upload under trial, and its summary by a trimmed mean.

`Evidence` bounds the impressions that one traffic source may contribute by its share of the traffic
before the upload's launch, and counts each account once. Accepted impressions enter a histogram of
uplift of fixed size. Bound, estimator, known gaps and rejected alternatives:
`docs/decisions/upload-evidence.md`.
"""

import math
from bisect import bisect_left
from typing import NamedTuple

import msgspec

from env.fair_start.settings import Guards
from env.fair_start.traffic import Origins, TrafficSource
from env.records import item_key
from env.vocabulary import UserKey

N_BITS = 16_384
_N_BYTES = N_BITS // 8
_PLACE_BYTES = 2


class Accounts(msgspec.Struct, array_like=True, gc=False):
    """A set of accounts: a sorted list of positions while that is short, then a bit array.

    Attributes:
        held: taken positions in ascending order, 2 bytes each, or the whole bit array once that is
            no longer.
        n: number of positions taken; at half of `N_BITS` the set is cleared.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)
    n: int = 0

    def __contains__(self, user: UserKey) -> bool:
        """Tell whether an account was noted, or shares its position with one that was."""
        place = _place(user)
        if len(self.held) == _N_BYTES:
            return bool(self.held[place >> 3] >> (place & 7) & 1)
        rank = self._rank(place)
        return rank < self.n and self._nth(rank) == place

    def note(self, user: UserKey) -> None:
        """Add an account that is not in the set."""
        place = _place(user)
        if self.n == N_BITS // 2:
            self.held, self.n = bytearray(), 0
        if len(self.held) == _N_BYTES:
            _set(self.held, place)
        else:
            at = _PLACE_BYTES * self._rank(place)
            self.held[at:at] = place.to_bytes(_PLACE_BYTES, "little")
        self.n += 1
        if len(self.held) == _N_BYTES == _PLACE_BYTES * self.n:
            self._spread()

    def _spread(self) -> None:
        bits = bytearray(_N_BYTES)
        for rank in range(self.n):
            _set(bits, self._nth(rank))
        self.held = bits

    def _rank(self, place: int) -> int:
        return bisect_left(range(self.n), place, key=self._nth)

    def _nth(self, rank: int) -> int:
        at = _PLACE_BYTES * rank
        return int.from_bytes(self.held[at : at + _PLACE_BYTES], "little")


def _set(bits: bytearray, place: int) -> None:
    bits[place >> 3] |= 1 << (place & 7)


def _place(user: UserKey) -> int:
    return item_key(user) % N_BITS


LOW, HIGH, N_NODES = -2.0, 4.0, 25
_STEP = (HIGH - LOW) / (N_NODES - 1)
_SDS_OF_CHANCE = 2.0


class Evidence(msgspec.Struct, array_like=True, gc=False):
    """The evidence of one upload; at most some 3 KB, however many users saw it."""

    counted: float = 0.0  # accepted impressions, with a known reward or not
    young: float = 0.0  # impressions sent by new accounts, see `admit`
    cut: int = 0  # impressions that a guard filtered
    # impressions sent by each bucket of origins
    origins: Origins = msgspec.field(default_factory=Origins)
    nodes: list[float] = []  # histogram of uplift over [LOW, HIGH]; empty before the first
    # accounts counted since the upload's last move
    accounts: Accounts = msgspec.field(default_factory=Accounts)
    unknown: float = 0.0  # impressions sent from unknown origins
    cut_young: float = 0.0  # impressions of new accounts filtered because of these
    cut_unknown: float = 0.0  # the same for unknown origins
    cut_origins: Origins = msgspec.field(default_factory=Origins)  # the same for each bucket

    def admit(self, source: TrafficSource, guards: Guards, user: UserKey) -> bool:
        """Count an impression or filter it; return whether it counts.

        A filtered impression is charged only to the source that exceeded its bound, not to its
        other sources: young fakes do not rate-limit the carrier that they come through.

        Args:
            source: traffic source of the impression.
            guards: bounds.
            user: account; empty where unknown, which is never deduplicated.
        """
        is_account = guards.enabled and user != ""
        if is_account and user in self.accounts:
            self.cut += 1
            return False
        fits_young = self._fits_young(source, guards)
        fits_origin = self._fits_origin(source, guards)
        counts = (fits_young and fits_origin) or not guards.enabled
        if source.young and (counts or not fits_young):
            self._note_young(cut=not counts)
        if counts or not fits_origin:
            self._note_origin(source.bucket, cut=not counts)
        self.counted += counts
        self.cut += not counts
        if counts and is_account:
            self.accounts.note(user)
        return counts

    def hears(self, source: TrafficSource, guards: Guards) -> bool:
        """Return whether an impression from this source, by an uncounted account, would count."""
        fits = self._fits_young(source, guards) and self._fits_origin(source, guards)
        return fits or not guards.enabled

    def add(self, uplift: float) -> None:
        """Add the uplift of an accepted impression."""
        if not self.nodes:
            self.nodes = [0.0] * N_NODES
        add_uplift(self.nodes, uplift)

    def move(self, before: float, after: float) -> None:
        """Replace an added uplift by another one."""
        if self.nodes:
            move_uplift(self.nodes, before, after)

    def forget_half(self) -> None:
        """Halve the weight of all evidence and let every account count again."""
        self.counted *= 0.5
        self.young *= 0.5
        self.unknown *= 0.5
        self.cut_young *= 0.5
        self.cut_unknown *= 0.5
        self.origins.forget_half()
        self.cut_origins.forget_half()
        self.nodes = [0.5 * n for n in self.nodes]
        self.accounts = Accounts()

    def _fits_young(self, source: TrafficSource, guards: Guards) -> bool:
        if not source.young:
            return True
        return self._fits(self.young, self.cut_young, source.young_share, guards)

    def _fits_origin(self, source: TrafficSource, guards: Guards) -> bool:
        if source.bucket < 0:
            sent, cut = self.unknown, self.cut_unknown
        else:
            sent, cut = self.origins.of(source.bucket), self.cut_origins.of(source.bucket)
        return self._fits(sent, cut, source.origin_share, guards)

    def _fits(self, sent: float, cut: float, share: float, guards: Guards) -> bool:
        """Return whether a source may send one more impression, `cut` of its own being filtered."""
        expected = share * (self.counted + cut + 1.0)
        chance = _SDS_OF_CHANCE * math.sqrt(expected)
        return sent + 1.0 <= max(guards.at_least, guards.slack * expected + chance)

    def _note_young(self, *, cut: bool) -> None:
        self.young += 1.0
        self.cut_young += cut

    def _note_origin(self, bucket: int, *, cut: bool) -> None:
        if bucket < 0:
            self.unknown += 1.0
            self.cut_unknown += cut
            return
        self.origins.note(bucket)
        if cut:
            self.cut_origins.note(bucket)


class Summary(NamedTuple):
    """A trimmed mean with its sample size and variance."""

    n: float
    mean: float
    variance: float  # of one impression: that of the trimmed mean is variance / n


def add_uplift(nodes: list[float], uplift: float, weight: float = 1.0) -> None:
    """Split a weight between the two nearest nodes; values outside count at the end."""
    node, part = _node(uplift)
    nodes[node] += weight * (1.0 - part)
    nodes[node + 1] += weight * part


def move_uplift(nodes: list[float], before: float, after: float) -> None:
    """Move a weight of 1, or what the nodes of `before` still hold of it, to another uplift.

    They hold less once evidence was forgotten, or the baseline of the uplift has changed. No node
    falls below 0, and their sum stays.
    """
    node, part = _node(before)
    low, high = min(1.0 - part, nodes[node]), min(part, nodes[node + 1])
    nodes[node] -= low
    nodes[node + 1] -= high
    add_uplift(nodes, after, low + high)


def _node(uplift: float) -> tuple[int, float]:
    """Return the node at or below an uplift, and the share of the next one."""
    place = (min(max(uplift, LOW), HIGH) - LOW) / _STEP
    node = min(int(place), N_NODES - 2)
    return node, place - node


def summarise(nodes: list[float], trim: float) -> Summary:
    """Return the trimmed mean of a histogram, with the fraction `trim` cut at each end.

    The variance is that of the winsorised values over (1 - 2 trim)^2.

    >>> summarise([0.0] * 8 + [5.0, 0.0, 5.0] + [0.0] * 14, trim=0.1).mean
    0.25
    """
    n = sum(nodes)
    if n <= 0.0:
        return Summary(0.0, 0.0, 0.0)
    low, high = trim * n, (1.0 - trim) * n
    below = total = squares = 0.0
    first = last = 0.0
    for node, weight in enumerate(nodes):
        kept = min(below + weight, high) - max(below, low)
        if kept > 0.0:
            value = LOW + node * _STEP
            first = value if below <= low else first
            last = value
            total += kept * value
            squares += kept * value * value
        below += weight
    mean = total / (high - low)
    tails = low * (first + last)
    centre = (total + tails) / n
    spread = (squares + low * (first * first + last * last)) / n - centre * centre
    return Summary(n, mean, max(spread, 0.0) / (1.0 - 2.0 * trim) ** 2)
