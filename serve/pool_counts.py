"""Counts of uploads in the pools, and of impressions that the guards removed."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence

from env.audience_args import N_LEVELS
from env.reach import UploadState
from env.traffic import Heard
from serve.audit_wire import CutBody, DayBody, GuardsBody, PoolsBody, SurgeBody
from serve.breakout import has_reached

SHOWN_REASONS = 20
SHOWN_DAYS = 14
SHOWN_CUTS = 10


def count_pools(uploads: Sequence[UploadState]) -> PoolsBody:
    """Return the counts by level, and the reasons for stopping."""
    levels = range(N_LEVELS)
    going = Counter(u.level for u in uploads if not u.stopped)
    ended = Counter(u.level for u in uploads if u.stopped)
    reasons = Counter(u.stopped for u in uploads if u.stopped)
    return PoolsBody(
        at=tuple(going[k] for k in levels),
        reached=tuple(sum(has_reached(u, k) for u in uploads) for k in levels),
        stopped=tuple(ended[k] for k in levels),
        spent=tuple(sum(bool(u.stopped) and _highest(u) == k for u in uploads) for k in levels),
        reasons=dict(reasons.most_common(SHOWN_REASONS)),
        days=_days(uploads),
    )


def count_cuts(uploads: Sequence[UploadState], heard: Mapping[str, Heard]) -> GuardsBody:
    """Return the impressions that guards removed from the evidence and from training.

    Args:
        heard: impressions of items out of trial, by market.
    """
    by_cut = sorted((u for u in uploads if u.n_cut), key=lambda u: (-u.n_cut, u.item_id))
    return GuardsBody(
        counted=sum(u.n_counted for u in uploads),
        cut=sum(u.n_cut for u in uploads),
        items=tuple(CutBody(u.item_id, u.n_counted, u.n_cut) for u in by_cut[:SHOWN_CUTS]),
        surges=_surges(heard),
    )


def _surges(heard: Mapping[str, Heard]) -> tuple[SurgeBody, ...]:
    surges = (SurgeBody(market, h.young, h.unheard) for market, h in heard.items() if h.unheard)
    return tuple(sorted(surges, key=lambda s: (-s.unheard, s.market))[:SHOWN_CUTS])


def _highest(upload: UploadState) -> int:
    return max(level for level in range(N_LEVELS) if has_reached(upload, level))


def _days(uploads: Sequence[UploadState]) -> tuple[DayBody, ...]:
    counts = Counter(
        (_day(at_ms), level)
        for upload in uploads
        for level, at_ms in enumerate(upload.level_ms)
        if level and at_ms
    )
    days = sorted({day for day, _ in counts})[-SHOWN_DAYS:]
    return tuple(DayBody(d, (counts[d, 1], counts[d, 2], counts[d, 3])) for d in days)


def _day(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).date().isoformat()
