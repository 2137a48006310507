"""How much of all impressions each source makes, by market, and how much it made earlier.

A source is the cohort of young accounts, a bucket of hashed address blocks, or all that tells no
address. What an upload may have from one is measured by the share that the source had *before the
upload was born*: a crowd that comes for the upload must not raise its own allowance by coming. At
a birth, and daily, the counts are frozen, if that was not done within `_FREEZE_EVERY_MS`, and the
latest `_MAX_FROZEN` such states are kept; an upload goes by the last one before its birth, or by
the oldest, which is two days old or more. Counts fade by a factor of e in three days.

Where little was counted the share is shrunk: in a market towards that everywhere, and that towards
what is counted now, each by as much as `_PRIOR` impressions weigh. So a new installation goes by
its present traffic, and what is not yet a market by the others; all that are none yet are bounded
together, or who claims hundreds of countries would have an allowance in each. Where everybody is
young, or all come through one carrier, nothing is cut. Of the young the share at home holds: fakes
in one market open no other. Of a block it is the greater one of that and the share everywhere: at
home many a block was not seen yet.

What is out of trial has no evidence of its own to guard, and yet everything is learned from whoever
comes to it: a crowd that skips all of it makes the one upload look better. So the young teach as
much as they usually do, and in a surge no more (`Traffic.admit`): fakes can have only the young's
part of an ordinary day, and of a campaign's newcomers as many are heard. *Usual* is what it was two
days ago. Verdicts need a fair sample of what is ordinary, so they leave out all of a source that
makes much more of its market than usual (`Traffic.is_usual`).

What that leaves open: who makes a market of fakes first and uploads then, who keeps coming for
longer than frozen states go back, and what old accounts teach. What it costs: where the share of a
source really rises (a campaign; a new proxy hides where all come from; a market opens with new
users only) the earlier share holds until it has risen, which takes up to three days:
`Guards.enabled` is the way out.

Rejected: the share at the time of the impression (1,000 fakes who ask for 24 cards each are most of
a small market for some hours), a share frozen in each upload (256 numbers, for thousands of uploads
that are mostly alike), counts that fade by their number (a large installation forgets within
hours), and a longer memory (what really changed would be held up for a week). In `admit`: to hear
nothing of what is not usual (a campaign would teach nothing for days), and to bound blocks of
addresses too (users come with some 24 cards at once: in a market of thousands much of what is
honest is too much of some block). Verdicts that go by `admit`: of a surge they would hear a part,
which moves all uploads alike, and of old accounts from a few blocks everything.
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
        held: a byte for each impression, its bucket; or all counts, 2 bytes each, as soon as there
            are as many bytes.
    """

    held: bytearray = msgspec.field(default_factory=bytearray)

    def of(self, bucket: int) -> int:
        """Return how many impressions came from a bucket.

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
        """Let each bucket have half of its impressions, rounded down."""
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
"""Column of what tells no address."""

EVERYWHERE = "*"
"""Name of the row that counts all."""

_FROZEN_ROW = struct.Struct(f"<{N_COUNTS + 1}f")


class Frozen(msgspec.Struct, frozen=True, array_like=True):
    """The counts as they were.

    Attributes:
        at_ms: when.
        rows: by market, float32: all counts, and those of no known address.
    """

    at_ms: int
    rows: dict[str, bytes]

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
        """Return a count; 0 where the market was not there."""
        row = self.rows.get(market)
        return float(struct.unpack_from("<f", row, 4 * column)[0]) if row is not None else 0.0

    def in_small(self, column: int, below: float) -> float:
        """Return a count over the markets with fewer impressions, and where none is told.

        Args:
            column: of a row.
            below: impressions of the least market that does not count.
        """
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
    """Return the columns of the sources of an impression."""
    origin = origin_column(bucket_of(scene.origin))
    return (origin, YOUNG) if scene.tenure_days < young_days else (origin,)


def origin_column(bucket: int) -> int:
    """Return the column of a bucket; -1: of what tells no address."""
    return FIRST_BUCKET + bucket if bucket >= 0 else UNKNOWN


def count_in(row: list[float], column: int) -> float:
    """Return a count of a row."""
    return _unknown(row) if column == UNKNOWN else row[column]


def bucket_of(origin: str) -> int:
    """Return the bucket of a block of addresses; -1: it is not told."""
    return zlib.crc32(origin.encode()) % N_BUCKETS if origin else -1


def _unknown(row: list[float]) -> float:
    return max(row[TOTAL] - sum(row[FIRST_BUCKET:]), 0.0)


_HOUR_MS = 3_600_000

_FREEZE_EVERY_MS = 6 * _HOUR_MS

_MAX_FROZEN = 8

_FADE_MS = 3 * 24 * _HOUR_MS

_PRIOR = 200.0
"""Impressions: with fewer of its own, a share is rather that of what is around."""

_SDS_OF_CHANCE = 2.0

_ALLOWANCE = 20.0
"""Impressions of its own that a source starts with: a share of few impressions tells nothing."""

_MAX_MARKETS = 300

_USUAL_MS = (_MAX_FROZEN - 1) * _FREEZE_EVERY_MS  # before the last frozen state


class Heard(NamedTuple):
    """Of what is out of trial, impressions in a market since the counts were last frozen."""

    n: int = 0  # that all may be learned from
    young: int = 0  # of these
    unheard: int = 0  # of young accounts, that nothing may


class Source(NamedTuple):
    """Where an impression comes from, with shares of earlier traffic in (0, 1]."""

    bucket: int  # -1: the origin is unknown
    origin_share: float
    young: bool
    young_share: float


class Traffic:
    """Counts of impressions by market and source, what they were, and who was heard.

    Attributes:
        counts: all impressions, as they came, by market.
        frozen: what the counts were, the latest last.
        heard: since then, by market.
        usual: some two days older than the last of the frozen, or the oldest; None: there is none.
    """

    def __init__(
        self,
        counts: dict[str, list[float]] | None = None,
        frozen: list[Frozen] | None = None,
        heard: dict[str, Heard] | None = None,
    ) -> None:
        """Start without impressions, or where these left off."""
        self.counts: dict[str, list[float]] = counts or {}
        self.frozen: list[Frozen] = frozen or []
        self.heard: dict[str, Heard] = heard or {}
        self._look()

    def fold(self, scene: Scene, young_days: int) -> None:
        """Count an impression in the viewer's country and everywhere."""
        bucket, young = bucket_of(scene.origin), scene.tenure_days < young_days
        for row in (self._row(scene.country), self._row(EVERYWHERE)):
            row[TOTAL] += 1.0
            row[YOUNG] += young
            if bucket >= 0:
                row[FIRST_BUCKET + bucket] += 1.0

    def freeze(self, now_ms: int) -> None:
        """Remember the counts as they are now, unless that was done lately."""
        if self.frozen and now_ms - self.frozen[-1].at_ms < _FREEZE_EVERY_MS:
            return
        if self.frozen:
            kept = math.exp(-(now_ms - self.frozen[-1].at_ms) / _FADE_MS)
            for row in self.counts.values():
                row[:] = [kept * count for count in row]
        self.frozen = [*self.frozen, Frozen.of(now_ms, self.counts)][-_MAX_FROZEN:]
        self.heard = {}
        self._look()

    def source(self, scene: Scene, young_days: int, home: str, born_ms: int) -> Source:
        """Return where an impression comes from.

        Args:
            scene: of the impression, which was counted already.
            young_days: accounts younger than this are one source.
            home: country of the upload; empty where unknown.
            born_ms: when it was uploaded.

        >>> Traffic().source(Scene(0, tenure_days=40), young_days=7, home="GB", born_ms=0)
        Source(bucket=-1, origin_share=1.0, young=False, young_share=1.0)
        """
        bucket, young = bucket_of(scene.origin), scene.tenure_days < young_days
        earlier = self._earlier(born_ms)
        origin_share = self._share(origin_column(bucket), home, earlier)
        young_share = self._share(YOUNG, home, earlier) if young else 1.0
        return Source(bucket, origin_share, young, young_share)

    def is_usual(self, scene: Scene, young_days: int, slack: float) -> bool:
        """Return whether no source of an impression makes much more of its market than it did.

        What came since the counts were last frozen is held against what is usual; before they were
        everything is.

        Args:
            scene: of the impression, which was counted already.
            young_days: accounts younger than this are one source.
            slack: how many times its share a source may have.
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
        """Return whether all may be learned from an impression of what is out of trial.

        They may while the young are no more of what was heard in their market since the counts were
        last frozen than they usually are, or no more than usually come in that time: where the old
        stay away the young teach as much as before. Until there is a frozen state all is usual.

        Args:
            scene: of the impression, which was counted already.
            young_days: accounts younger than this are one source.
            slack: how many times as much as usual they may be.
            now_ms: the clock.
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
        """Return the counts; the same stream of impressions gives the same."""
        return pack_rows(self.counts)

    @classmethod
    def from_stored(
        cls, stored: dict[str, bytes], frozen: list[Frozen], heard: dict[str, Heard]
    ) -> "Traffic":
        """Return the traffic with these counts of `to_stored`, these earlier ones, and `heard`.

        Raises:
            ValueError: a market's row is of another length.
        """
        for each in frozen:
            each.require_rows()
        return cls(unpack_rows(stored), list(frozen), heard)

    def _look(self) -> None:
        """Look at what is usual by now."""
        self.usual: Frozen | None = (
            self._earlier(self.frozen[-1].at_ms - _USUAL_MS) if self.frozen else None
        )
        self._young_of_small = self.usual.in_small(YOUNG, _PRIOR) if self.usual else 0.0

    def _market(self, scene: Scene) -> str:
        """Return the market that a scene is judged by; empty: all those that were too small."""
        usual, country = self.usual, scene.country
        return country if usual is not None and usual.count(country, TOTAL) >= _PRIOR else ""

    def _young_of(self, n: int, market: str, now_ms: int) -> float:
        """Return how many young ones there usually are among n that are heard, or by now."""
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
    """Return how many a source may have where so many are expected."""
    return max(_ALLOWANCE, slack * expected + _SDS_OF_CHANCE * math.sqrt(expected))
