"""Delivery guarantees of uploads: deadlines, shortfalls, and how well the guarantee was kept.

Deadlines are judged by the fold's clock, the latest time in the log, so nothing becomes late while
there is no traffic.

See also `docs/decisions/audit-fair-start.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.fair_start.reach import UploadState
from env.vocabulary import Bools, Floats, ItemId
from serve.audit.response import GuaranteeBody, UploadBody


@dataclass(frozen=True)
class WaitingTimes:
    """The estimated distribution of waiting times.

    Attributes:
        times: shape (k,), rising: waits that ended.
        share: shape (k,), rising in (0, 1]: estimated share of waits no longer than that.
    """

    times: Floats
    share: Floats

    @classmethod
    def of(cls, hours: Floats, ended: Bools) -> "WaitingTimes":
        """Return the product-limit estimate (Kaplan and Meier, JASA 53, 1958).

        Args:
            hours: shape (n,), waited so far.
            ended: shape (n,), whether the wait is over.
        """
        times, counts = np.unique(hours[ended], return_counts=True)
        waiting = len(hours) - np.searchsorted(np.sort(hours), times, side="left")
        left: Floats = np.cumprod(1.0 - counts / waiting, dtype=np.float64)
        return cls(times, 1.0 - left)

    def quantile(self, part: float) -> float | None:
        """Return the least time by which this share is fulfilled, or None if it is not."""
        place = int(np.searchsorted(self.share, part - 1e-12))
        return float(self.times[place]) if place < len(self.times) else None

    def longest(self) -> float | None:
        """Return the longest wait that ended."""
        return float(self.times[-1]) if len(self.times) else None

    def curve(self, hours: Sequence[float]) -> tuple[float, ...]:
        """Return the fulfilled share at each of these times."""
        steps = np.concatenate([[0.0], self.share])
        places = np.searchsorted(self.times, np.array(hours), side="right")
        return tuple(steps[places].round(6).tolist())


HOUR_MS = 3_600_000
CURVE_SPANS = 1.5
"""Span of the delivery curve, in multiples of `FairStart.within_h`."""

CURVE_STEPS = 96


@dataclass(frozen=True, slots=True)
class ReservationNeed:
    """The present need of a home country for reserved cards.

    Attributes:
        home: country; empty: all homes, or the unknown one.
        share: share of cards reserved; None: several homes have no common share.
        overdrawn: whether it is over-committed in at least one of its languages.
        needed: share needed in the worst language; 0 where it is within the budget.
        unreachable: whether uploads are late although cards are reserved.
    """

    home: str
    share: float | None
    overdrawn: bool
    needed: float = 0.0
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """Deadlines of the delivery guarantee.

    Attributes:
        clock_ms: latest time in the log.
        within_h: hours from upload to the deadline.
        gone: uploads that can no longer be shown and have no guarantee left.
    """

    clock_ms: int
    within_h: float
    gone: frozenset[ItemId] = frozenset()

    def due_ms(self, upload: UploadState) -> int:
        """Return the deadline of an upload."""
        return upload.born_ms + int(self.within_h * HOUR_MS)

    def is_over(self, upload: UploadState) -> bool:
        """Return whether an upload is past its deadline."""
        return self.clock_ms >= self.due_ms(upload)

    def is_late(self, upload: UploadState) -> bool:
        """Return whether an upload is past its deadline with a shortfall."""
        waits = upload.owed > 0 and not upload.paid_ms and upload.item_id not in self.gone
        return waits and self.is_over(upload)

    def floor(self, uploads: Sequence[UploadState], need: ReservationNeed) -> GuaranteeBody:
        """Return the delivery of the guarantee to these uploads."""
        promised = [u for u in uploads if u.owed > 0]
        owing = [u for u in promised if u.paid_ms or u.item_id not in self.gone]
        over = [u for u in owing if self.is_over(u)]
        met = sum(0 < u.paid_ms <= self.due_ms(u) for u in over)
        waits = self._waits(owing)
        curve_h = CURVE_SPANS * self.within_h
        return GuaranteeBody(
            market=need.home,
            uploads=len(owing),
            owed=sum(u.owed for u in owing),
            paid=sum(min(u.impressions - u.n_cut, u.owed) for u in owing),
            full=sum(u.paid_ms > 0 for u in owing),
            over=len(over),
            met=met,
            met_share=met / len(over) if over else None,
            late=sum(map(self.is_late, over)),
            withdrawn=len(promised) - len(owing),
            p50_h=waits.quantile(0.5),
            p90_h=waits.quantile(0.9),
            max_h=waits.longest(),
            curve=waits.curve(np.linspace(0.0, curve_h, CURVE_STEPS + 1).tolist()),
            curve_h=curve_h,
            share=need.share,
            overdrawn=need.overdrawn,
            needed=need.needed if need.needed and np.isfinite(need.needed) else None,
            unreachable=need.unreachable,
        )

    def upload(self, upload: UploadState) -> UploadBody:
        """Return one upload as the audit reports it."""
        waited_h = (upload.paid_ms - upload.born_ms) / HOUR_MS
        return UploadBody(
            item_id=upload.item_id,
            creator=upload.creator,
            country=upload.country,
            language=upload.language,
            born_ms=upload.born_ms,
            owed=upload.owed,
            due_ms=self.due_ms(upload),
            impressions=upload.impressions,
            paid_ms=upload.paid_ms,
            hours_to_paid=waited_h if upload.paid_ms else None,
            late=self.is_late(upload),
            gone=upload.item_id in self.gone,
            level=upload.level,
            level_ms=upload.level_ms,
            stopped=upload.stopped,
            counted=upload.n_counted,
            cut=upload.n_cut,
            uplift=upload.uplift,
            uplift_sd=upload.uplift_sd,
            chance=upload.chance,
        )

    def _waits(self, owing: Sequence[UploadState]) -> WaitingTimes:
        ended: Bools = np.array([u.paid_ms > 0 for u in owing], dtype=np.bool_)
        waited_ms = [(u.paid_ms or self.clock_ms) - u.born_ms for u in owing]
        return WaitingTimes.of(np.array(waited_ms, dtype=np.float64) / HOUR_MS, ended)
