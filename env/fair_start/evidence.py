"""What counts as evidence for an upload under trial, and how it is summed up.

A few accounts must not be able to carry an upload, so what one source contributes is bounded by
what that source contributed to everything before the upload was born (`env.fair_start.traffic`). A
source with the share s of that traffic may have sent max(at_least, slack * s * n + 2 sqrt(s n)) of
n
impressions: all that it sent, and those of the others that count. (The root is for chance: of 100
honest impressions 15 may be young where 9 in 100 are.) While it has sent more it is not heard, so
the harder it tries the less it moves. Sources are the cohort of young accounts, and the address
block of a request, hashed into `N_BUCKETS`, or that none is told. Where everybody is young, or all
come through one carrier, nothing is cut.
What is too much of one source is not held against the others that it is of as well. A crowd that
keeps within all shares gets in: up to slack * s of the evidence, and trimming takes a part of that.
So does one of old accounts from everywhere. An account counts once for an upload, between two moves
of it: its further impressions are no evidence, and do not count as sent either.

What passes is kept as a histogram of uplift of fixed size, each value split between the two
nearest nodes, so that the histogram's mean is the mean; it is read by a trimmed mean and the
variance of that (Tukey and McLaughlin, "Less vulnerable confidence and significance procedures
for location based on a single sample", Sankhya A, 1963). Trimming biases a skewed reward, the
same for all uploads, so only differences of trimmed means are used.

Rejected: the share in the viewer's country (a farm in a country without other traffic is all of
it), a bound on what counts instead of on what was sent (fakes then fill up each bound as it
grows: measured, 1,000 of them moved an upload by 1.5 to 2.4 standard deviations of uploads), n of
what counts alone (a source of more than a third of all would never be heard again once it was too
much), distinct counts of origins (their size grows with the audience), 32 buckets (20 origins fill
half).
"""

import math
from bisect import bisect_left
from typing import NamedTuple

import msgspec

from env.fair_start.settings import Guards
from env.fair_start.traffic import Origins, Source
from env.records import item_key
from env.vocabulary import UserKey

N_BITS = 16_384

_N_BYTES = N_BITS // 8

_PLACE_BYTES = 2


class Accounts(msgspec.Struct, array_like=True, gc=False):
    """Accounts by their places in the filter, one by one while that takes less than its bits.

    Attributes:
        held: the places that are taken, rising, 2 bytes each; or all bits, as soon as there are
            as many bytes.
        n: how many places are taken.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)
    n: int = 0

    def __contains__(self, user: UserKey) -> bool:
        """Tell whether an account was noted, or shares its place with one that was."""
        place = _place(user)
        if len(self.held) == _N_BYTES:
            return bool(self.held[place >> 3] >> (place & 7) & 1)
        rank = self._rank(place)
        return rank < self.n and self._nth(rank) == place

    def note(self, user: UserKey) -> None:
        """Remember an account that is not among these."""
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
    """The evidence for one upload; at most some 3 KB, however many users saw it.

    Attributes:
        counted: impressions that count, with a known reward or not.
        young: those that young accounts sent, see `admit`.
        cut: impressions that a guard cut off.
        origins: those that each bucket of origins sent.
        nodes: the histogram of uplift over [LOW, HIGH]; empty before the first.
        accounts: whose impressions were counted since the upload's last move.
        unknown: impressions that came from unknown origins.
        cut_young: of what young accounts sent, what was cut off because of that.
        cut_unknown: the same of unknown origins.
        cut_origins: the same of each bucket.
    """

    counted: float = 0.0
    young: float = 0.0
    cut: int = 0
    origins: Origins = msgspec.field(default_factory=Origins)
    nodes: list[float] = []
    accounts: Accounts = msgspec.field(default_factory=Accounts)
    unknown: float = 0.0
    cut_young: float = 0.0
    cut_unknown: float = 0.0
    cut_origins: Origins = msgspec.field(default_factory=Origins)

    def admit(self, source: Source, guards: Guards, user: UserKey) -> bool:
        """Count an impression, or cut it off; return whether it counts.

        What is cut off is held against the source that it was too much of, and not against the
        others it is of as well: young fakes do not silence the carrier that they come through.

        Args:
            source: where it comes from.
            guards: bounds.
            user: whose it is; empty where that is unknown, which is no account.
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

    def hears(self, source: Source, guards: Guards) -> bool:
        """Return whether an impression from there would count now, of an account not yet counted.

        Args:
            source: where it would come from.
            guards: bounds.
        """
        fits = self._fits_young(source, guards) and self._fits_origin(source, guards)
        return fits or not guards.enabled

    def add(self, uplift: float) -> None:
        """Add the uplift of an impression that counts."""
        if not self.nodes:
            self.nodes = [0.0] * N_NODES
        add_uplift(self.nodes, uplift)

    def forget_half(self) -> None:
        """Let all evidence weigh half, and every account count again."""
        self.counted *= 0.5
        self.young *= 0.5
        self.unknown *= 0.5
        self.cut_young *= 0.5
        self.cut_unknown *= 0.5
        self.origins.forget_half()
        self.cut_origins.forget_half()
        self.nodes = [0.5 * n for n in self.nodes]
        self.accounts = Accounts()

    def _fits_young(self, source: Source, guards: Guards) -> bool:
        if not source.young:
            return True
        return self._fits(self.young, self.cut_young, source.young_share, guards)

    def _fits_origin(self, source: Source, guards: Guards) -> bool:
        if source.bucket < 0:
            sent, cut = self.unknown, self.cut_unknown
        else:
            sent, cut = self.origins.of(source.bucket), self.cut_origins.of(source.bucket)
        return self._fits(sent, cut, source.origin_share, guards)

    def _fits(self, sent: float, cut: float, share: float, guards: Guards) -> bool:
        """Return whether a source may send one more, of whose part `cut` were cut off."""
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
    """A trimmed mean and what is needed of its error."""

    n: float
    mean: float
    variance: float  # of one impression: that of the trimmed mean is variance / n


def add_uplift(nodes: list[float], uplift: float) -> None:
    """Split a weight of 1 between the two nearest nodes; what is outside stands at the end."""
    place = (min(max(uplift, LOW), HIGH) - LOW) / _STEP
    node = min(int(place), N_NODES - 2)
    part = place - node
    nodes[node] += 1.0 - part
    nodes[node + 1] += part


def summarise(nodes: list[float], trim: float) -> Summary:
    """Return the trimmed mean of a histogram, the part `trim` of it cut at each end.

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
