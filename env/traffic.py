"""Traffic guards: the share of each market's impressions that each source sends, now and earlier.

A source is the new accounts, a bucket of address blocks, or all requests without an address. An
upload's evidence is bounded by the shares before its launch, and training outside of trials by the
usual share of new accounts, so that a crowd of fake accounts cannot raise its own allowance.
Derivation, known gaps, costs and rejected alternatives: `docs/decisions/traffic-guards.md`.
"""

import math
from typing import NamedTuple

from env.traffic_rows import (
    EVERYWHERE,
    FIRST_BUCKET,
    N_COUNTS,
    TOTAL,
    YOUNG,
    Frozen,
    bucket_of,
    columns_of,
    count_in,
    origin_column,
    pack_rows,
    unpack_rows,
)
from env.vocabulary import Scene

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
    young: int = 0  # of these, from new accounts
    unheard: int = 0  # from new accounts, that learners may not train on


class Source(NamedTuple):
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

    def source(self, scene: Scene, young_days: int, home: str, born_ms: int) -> Source:
        """Return the source of an impression, which must be counted already.

        Args:
            scene: of the impression.
            young_days: accounts younger than this are one source.
            home: country of the upload; empty where unknown.
            born_ms: launch time of the upload.

        >>> Traffic().source(Scene(0, tenure_days=40), young_days=7, home="GB", born_ms=0)
        Source(bucket=-1, origin_share=1.0, young=False, young_share=1.0)
        """
        bucket, young = bucket_of(scene.origin), scene.tenure_days < young_days
        earlier = self._earlier(born_ms)
        origin_share = self._share(origin_column(bucket), home, earlier)
        young_share = self._share(YOUNG, home, earlier) if young else 1.0
        return Source(bucket, origin_share, young, young_share)

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
