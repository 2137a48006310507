"""What counts as evidence for an upload under trial, and how it is summed up.

A few accounts must not be able to carry an upload, so what one source contributes is bounded by
what that source contributes to everything. Where n impressions count, a source with the share s of
all traffic may have sent max(at_least, slack * s * n); while it has sent more it is not heard, so
the harder it tries the less it moves. Sources are the cohort of young accounts and the address
block of a request, hashed into `N_BUCKETS` (of few impressions in a bucket chance makes many, so
there 2 sqrt(s n) are added). The share is the greater of that in the upload's home market and that
everywhere, a count of recent impressions; so where everybody is young, or all come through one
carrier, nothing is cut. A crowd that keeps within all shares gets in: up to slack * s of the
evidence, and trimming takes a part of that. An account counts once for an upload, between two
moves of it: its further impressions are no evidence, and do not count as sent either.

What passes is kept as a histogram of uplift of fixed size, each value split between the two
nearest nodes, so that the histogram's mean is the mean; it is read by a trimmed mean and the
variance of that (Tukey and McLaughlin, "Less vulnerable confidence and significance procedures
for location based on a single sample", Sankhya A, 1963). Trimming biases a skewed reward, the
same for all uploads, so only differences of trimmed means are used.

Rejected: the share in the viewer's country (a farm in a country without other traffic is all of
it), a bound on what counts instead of on what was sent (fakes then fill up each bound as it
grows: measured, 1,000 of them moved an upload by 1.5 to 2.4 standard deviations of uploads),
distinct counts of origins (their size grows with the audience), 32 buckets (20 origins fill half).
"""

import math
import zlib
from typing import NamedTuple

import msgspec
import numpy as np

from env.accounts import Accounts
from env.audience_args import Guards
from env.origins import N_BUCKETS, Origins
from env.vocabulary import Scene, UserKey

LOW, HIGH, N_NODES = -2.0, 4.0, 25
_STEP = (HIGH - LOW) / (N_NODES - 1)

_FADE_AT = 131_072.0
"""Impressions of a market after which all its counts are halved."""
_ALLOWANCE = 20.0
"""Impressions of its own that a source starts with: a share of few impressions tells nothing."""
_SDS_OF_CHANCE = 2.0
_MAX_MARKETS = 300
_TOTAL, _YOUNG, _FIRST_BUCKET = 0, 1, 2
_N_COUNTS = _FIRST_BUCKET + N_BUCKETS
_EVERYWHERE = "*"


class Source(NamedTuple):
    """Where an impression comes from, with shares of traffic in (0, 1]."""

    bucket: int  # -1: the origin is unknown
    origin_share: float
    young: bool
    young_share: float


class Traffic:
    """How much of all impressions each source makes, by market."""

    def __init__(self, counts: dict[str, list[float]] | None = None) -> None:
        """Start without impressions, or where `counts` left off."""
        self.counts: dict[str, list[float]] = counts or {}

    def fold(self, scene: Scene, young_days: int) -> None:
        """Count an impression in the viewer's country and everywhere."""
        bucket, young = _bucket(scene.origin), scene.tenure_days < young_days
        for row in (self._row(scene.country), self._row(_EVERYWHERE)):
            row[_TOTAL] += 1.0
            row[_YOUNG] += young
            if bucket >= 0:
                row[_FIRST_BUCKET + bucket] += 1.0
            if row[_TOTAL] >= _FADE_AT:
                row[:] = [count * 0.5 for count in row]

    def source(self, scene: Scene, young_days: int, home: str) -> Source:
        """Return where an impression comes from, for an upload from the country `home`.

        >>> Traffic().source(Scene(0, tenure_days=40), young_days=7, home="GB")
        Source(bucket=-1, origin_share=1.0, young=False, young_share=1.0)
        """
        markets = (_EVERYWHERE, home) if home else (_EVERYWHERE,)
        rows = [self.counts[market] for market in markets if market in self.counts]
        bucket, young = _bucket(scene.origin), scene.tenure_days < young_days
        origin_share = _share(rows, _FIRST_BUCKET + bucket) if bucket >= 0 else 1.0
        return Source(bucket, origin_share, young, _share(rows, _YOUNG) if young else 1.0)

    def to_stored(self) -> dict[str, bytes]:
        """Return the counts; the same stream of impressions gives the same."""
        return {market: np.array(row, dtype="<f8").tobytes() for market, row in self.counts.items()}

    @classmethod
    def from_stored(cls, stored: dict[str, bytes]) -> "Traffic":
        """Return the traffic that `to_stored` wrote.

        Raises:
            ValueError: a market's row is of another length.
        """
        counts = {market: np.frombuffer(row, "<f8").tolist() for market, row in stored.items()}
        for market, row in counts.items():
            if len(row) != _N_COUNTS:
                raise ValueError(f"market {market}: expected {_N_COUNTS} counts, got {len(row)}")
        return cls(counts)

    def _row(self, market: str) -> list[float]:
        row = self.counts.get(market)
        if row is not None:
            return row
        if len(self.counts) >= _MAX_MARKETS and market not in ("", _EVERYWHERE):
            return self._row("")
        row = self.counts[market] = [0.0] * _N_COUNTS
        return row


class Evidence(msgspec.Struct, array_like=True, gc=False):
    """The evidence for one upload; at most some 3 KB, however many people saw it.

    Attributes:
        counted: impressions that count, with a known reward or not.
        young: those of young accounts, cut off or not.
        cut: impressions that a guard cut off.
        origins: those of each bucket of origins, cut off or not.
        nodes: the histogram of uplift over [LOW, HIGH]; empty before the first.
        accounts: whose impressions were counted since the upload's last move.
    """

    counted: float = 0.0
    young: float = 0.0
    cut: int = 0
    origins: Origins = msgspec.field(default_factory=Origins)
    nodes: list[float] = []
    accounts: Accounts = msgspec.field(default_factory=Accounts)

    def admit(self, source: Source, guards: Guards, user: UserKey) -> bool:
        """Count an impression, or cut it off; return whether it counts.

        Args:
            source: where it comes from.
            guards: bounds.
            user: whose it is; empty where that is unknown, which is no account.
        """
        is_account = guards.enabled and user != ""
        if is_account and user in self.accounts:
            self.cut += 1
            return False
        self.young += source.young
        if source.bucket >= 0:
            self.origins.note(source.bucket)
        counts = self._has_room(source, guards) or not guards.enabled
        self.counted += counts
        self.cut += not counts
        if counts and is_account:
            self.accounts.note(user)
        return counts

    def add(self, uplift: float) -> None:
        """Add the uplift of an impression that counts."""
        if not self.nodes:
            self.nodes = [0.0] * N_NODES
        add_uplift(self.nodes, uplift)

    def forget_half(self) -> None:
        """Let all evidence weigh half, and every account count again."""
        self.counted *= 0.5
        self.young *= 0.5
        self.origins.forget_half()
        self.nodes = [0.5 * n for n in self.nodes]
        self.accounts = Accounts()

    def _has_room(self, source: Source, guards: Guards) -> bool:
        n, least = self.counted + 1.0, guards.at_least
        if source.young and self.young > max(least, guards.slack * source.young_share * n):
            return False
        if source.bucket < 0:
            return True
        expected = source.origin_share * n
        chance = _SDS_OF_CHANCE * math.sqrt(expected)
        return self.origins.of(source.bucket) <= max(least, guards.slack * expected + chance)


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


def _bucket(origin: str) -> int:
    return zlib.crc32(origin.encode()) % N_BUCKETS if origin else -1


def _share(rows: list[list[float]], column: int) -> float:
    shares = [(row[column] + _ALLOWANCE) / (row[_TOTAL] + _ALLOWANCE) for row in rows]
    return max(shares, default=1.0)
