"""Traffic guards: the share of each market's impressions that each source sends, now and earlier.

A source is the new accounts, a bucket of address blocks, or all requests without an address. An
upload's evidence is bounded by the shares before its launch, and training outside of trials by the
usual share of new accounts, so that a crowd of fake accounts cannot raise its own allowance.
Derivation, known gaps, costs and rejected alternatives: `docs/decisions/traffic-guards.md`.
"""

import math
import struct
import zlib
from typing import NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Scene

N_BUCKETS = 256
_WIDTH = 2
_N_BYTES = _WIDTH * N_BUCKETS
_MOST = 65_535


class Origins(msgspec.Struct, array_like=True, gc=False):
    """Impressions by bucket.

    Attributes:
        held: the bucket of each impression, a byte each, or all counters, 2 bytes each, once that
            is no longer.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)

    def of(self, bucket: int) -> int:
        """Return the number of impressions from a bucket.

        >>> origins = Origins()
        >>> origins.note(7)
        >>> origins.of(7), origins.of(8)
        (1, 0)
        """
        if len(self.held) < _N_BYTES:
            return self.held.count(bucket)
        return int.from_bytes(self.held[_WIDTH * bucket : _WIDTH * (bucket + 1)], "little")

    def note(self, bucket: int) -> None:
        """Count an impression of a bucket, in [0, N_BUCKETS)."""
        if len(self.held) < _N_BYTES:
            self.held.append(bucket)
            if len(self.held) == _N_BYTES:
                self.held = _packed([self.held.count(each) for each in range(N_BUCKETS)])
        else:
            count = min(self.of(bucket) + 1, _MOST)
            self.held[_WIDTH * bucket : _WIDTH * (bucket + 1)] = count.to_bytes(_WIDTH, "little")

    def forget_half(self) -> None:
        """Halve each bucket's count, rounded down."""
        counts = [self.of(bucket) // 2 for bucket in range(N_BUCKETS)]
        if sum(counts) < _N_BYTES:
            self.held = bytearray(b for b, count in enumerate(counts) for _ in range(count))
        else:
            self.held = _packed(counts)


def _packed(counts: list[int]) -> bytearray:
    return bytearray(np.array(counts, dtype="<u2").tobytes())


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


_HOUR_MS = 3_600_000
_FREEZE_EVERY_MS = 6 * _HOUR_MS
_MAX_FROZEN = 8
_FADE_MS = 3 * 24 * _HOUR_MS
_PRIOR = 200.0
"""Impressions that the prior share weighs as much as."""

_SDS_OF_CHANCE = 2.0
_ALLOWANCE = 20.0
"""Impressions that any source may send: a share of few impressions means nothing."""

_MAX_MARKETS = 300
_USUAL_MS = (_MAX_FROZEN - 1) * _FREEZE_EVERY_MS  # before the last frozen state


class Heard(NamedTuple):
    """A market's impressions outside of trials since the counts were last frozen."""

    n: int = 0  # that learners may train on
    young: int = 0  # of these, from new accounts, from new accounts, from new accounts
    unheard: int = 0  # from new accounts, that learners may not train on


class TrafficSource(NamedTuple):
    """Source of an impression, with its shares of earlier traffic in (0, 1]."""

    bucket: int  # -1: the origin is unknown
    origin_share: float
    young: bool
    young_share: float


class Traffic:
    """Counts of impressions by market and source, earlier counts, and accepted impressions.

    Attributes:
        counts: current counts by market, fading.
        frozen: earlier counts, the latest last.
        heard: impressions outside of trials since the last of these, by market.
        usual: counts some two days older than the last frozen ones, or the oldest; None without
            any.
    """

    def __init__(
        self,
        counts: dict[str, list[float]] | None = None,
        frozen: list[Frozen] | None = None,
        heard: dict[str, Heard] | None = None,
    ) -> None:
        self.counts: dict[str, list[float]] = counts or {}
        self.frozen: list[Frozen] = frozen or []
        self.heard: dict[str, Heard] = heard or {}
        self._look()

    def fold(self, scene: Scene, young_days: int) -> None:
        """Count an impression in the user's country and everywhere."""
        bucket, young = bucket_of(scene.origin), scene.tenure_days < young_days
        for row in (self._row(scene.country), self._row(EVERYWHERE)):
            row[TOTAL] += 1.0
            row[YOUNG] += young
            if bucket >= 0:
                row[FIRST_BUCKET + bucket] += 1.0

    def freeze(self, now_ms: int) -> None:
        """Store the current counts, unless that was done within `_FREEZE_EVERY_MS`."""
        if self.frozen and now_ms - self.frozen[-1].at_ms < _FREEZE_EVERY_MS:
            return
        if self.frozen:
            kept = math.exp(-(now_ms - self.frozen[-1].at_ms) / _FADE_MS)
            for row in self.counts.values():
                row[:] = [kept * count for count in row]
        self.frozen = [*self.frozen, Frozen.of(now_ms, self.counts)][-_MAX_FROZEN:]
        self.heard = {}
        self._look()

    def source(self, scene: Scene, young_days: int, home: str, born_ms: int) -> TrafficSource:
        """Return the source of an impression, which must be counted already.

        Args:
            scene: of the impression.
            young_days: accounts younger than this are one source.
            home: country of the upload; empty where unknown.
            born_ms: launch time of the upload.

        >>> Traffic().source(Scene(0, tenure_days=40), young_days=7, home="GB", born_ms=0)
        TrafficSource(bucket=-1, origin_share=1.0, young=False, young_share=1.0)
        """
        bucket, young = bucket_of(scene.origin), scene.tenure_days < young_days
        earlier = self._earlier(born_ms)
        origin_share = self._share(origin_column(bucket), home, earlier)
        young_share = self._share(YOUNG, home, earlier) if young else 1.0
        return TrafficSource(bucket, origin_share, young, young_share)

    def is_usual(self, scene: Scene, young_days: int, slack: float) -> bool:
        """Return whether no source of an impression sends much more of its market than usual.

        Impressions since the counts were last frozen are compared with `slack` times the usual
        shares; before any frozen counts everything is usual. The impression must be counted
        already.
        """
        if not self.frozen:
            return True
        market, last = self._market(scene), self.frozen[-1]
        counted_as = market or EVERYWHERE
        row = self.counts[counted_as]
        n = max(row[TOTAL] - last.count(counted_as, TOTAL), 0.0)  # frozen counts are rounded
        for column in columns_of(scene, young_days):
            sent = count_in(row, column) - last.count(counted_as, column)
            if sent > _most(n * self._share(column, market, self.usual), slack):
                return False
        return True

    def admit(self, scene: Scene, young_days: int, slack: float, now_ms: int) -> bool:
        """Return whether learners may train on an impression outside of trials, counted already.

        They may while the new accounts among the accepted impressions of its market since the last
        frozen counts are at most `slack` times their usual part, or `slack` times as many as
        usually come in that time. Before any frozen counts everything is accepted.
        """
        if not self.frozen:
            return True
        market = self._market(scene)
        n, n_young, unheard = self.heard.get(market, Heard())
        young = scene.tenure_days < young_days
        if young and n_young + 1 > _most(self._young_of(n + 1, market, now_ms), slack):
            self.heard[market] = Heard(n, n_young, unheard + 1)
            return False
        self.heard[market] = Heard(n + 1, n_young + young, unheard)
        return True

    def to_stored(self) -> dict[str, bytes]:
        """Return the counts; the same stream of impressions gives the same counts."""
        return pack_rows(self.counts)

    @classmethod
    def from_stored(
        cls, stored: dict[str, bytes], frozen: list[Frozen], heard: dict[str, Heard]
    ) -> "Traffic":
        """Return the traffic with these counts of `to_stored`, frozen counts and `heard`.

        Raises:
            ValueError: a market's row is of another length.
        """
        for each in frozen:
            each.require_rows()
        return cls(unpack_rows(stored), list(frozen), heard)

    def _look(self) -> None:
        """Update the counts that are taken as usual."""
        self.usual: Frozen | None = (
            self._earlier(self.frozen[-1].at_ms - _USUAL_MS) if self.frozen else None
        )
        self._young_of_small = self.usual.in_small(YOUNG, _PRIOR) if self.usual else 0.0

    def _market(self, scene: Scene) -> str:
        """Return the market that a scene is judged by; empty for all those too small."""
        usual, country = self.usual, scene.country
        return country if usual is not None and usual.count(country, TOTAL) >= _PRIOR else ""

    def _young_of(self, n: int, market: str, now_ms: int) -> float:
        """Return the usual number of new accounts among n accepted impressions, or by this time."""
        usual, since_ms = self.usual, now_ms - self.frozen[-1].at_ms
        come = usual.count(market, YOUNG) if market and usual else self._young_of_small
        return max(n * self._share(YOUNG, market, usual), come * since_ms / _FADE_MS)

    def _earlier(self, born_ms: int) -> Frozen | None:
        before = [frozen for frozen in self.frozen if frozen.at_ms <= born_ms]
        return before[-1] if before else next(iter(self.frozen), None)

    def _share(self, column: int, home: str, earlier: Frozen | None) -> float:
        now = self._share_now(column)
        if earlier is None:
            return now
        everywhere = _shrunk(earlier, EVERYWHERE, column, now)
        if not home:
            return everywhere
        at_home = _shrunk(earlier, home, column, everywhere)
        return at_home if column == YOUNG else max(at_home, everywhere)

    def _share_now(self, column: int) -> float:
        row = self.counts.get(EVERYWHERE)
        if row is None:
            return 1.0
        return (count_in(row, column) + _ALLOWANCE) / (row[TOTAL] + _ALLOWANCE)

    def _row(self, market: str) -> list[float]:
        row = self.counts.get(market)
        if row is not None:
            return row
        if len(self.counts) >= _MAX_MARKETS and market not in ("", EVERYWHERE):
            return self._row("")
        row = self.counts[market] = [0.0] * N_COUNTS
        return row


def _shrunk(earlier: Frozen, market: str, column: int, towards: float) -> float:
    count, total = earlier.count(market, column), earlier.count(market, TOTAL)
    most = min(count + _SDS_OF_CHANCE * math.sqrt(count), total)
    return (most + _PRIOR * towards) / (total + _PRIOR)


def _most(expected: float, slack: float) -> float:
    """Return the most impressions a source may send where so many are expected."""
    return max(_ALLOWANCE, slack * expected + _SDS_OF_CHANCE * math.sqrt(expected))
