"""Quality of the pools' promotions against later evidence: precision, recall and false kills.

An upload's present uplift says whether it belongs to the best tenth of all uploads with enough
evidence. That is the feed's judgement of itself, not the truth, which only the simulation knows.
Limits of the measure: `docs/decisions/audit-breakout.md`.
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from env.fair_start.reach import UploadState
from env.fair_start.settings import N_LEVELS
from env.fair_start.traffic import Heard
from serve.audit.response import (
    BreakoutBody,
    DayBody,
    FilteredUploadBody,
    GuardsBody,
    PoolsBody,
    SurgeBody,
)

BEST_PART = 0.1
AT_LEAST = 10
"""Judged uploads below which there is no best tenth."""

PROVEN = 2
"""Level at which an upload has broken out of its home country."""


def judge_breakout(uploads: Sequence[UploadState], at_least: int) -> BreakoutBody:
    """Return the promotions of these uploads in hindsight.

    Args:
        at_least: counted impressions that are enough evidence, `Pools.at_least`; a promoted upload
            had them, though half of its evidence was forgotten then.
    """
    judged = [u for u in uploads if u.n_counted >= at_least or has_reached(u, 1)]
    promoted = {u.item_id for u in judged if has_reached(u, PROVEN)}
    if len(judged) < AT_LEAST:
        return BreakoutBody(len(judged), None, 0, len(promoted), None, None, 0)
    n_best = int(np.ceil(BEST_PART * len(judged)))
    bar = sorted(u.uplift for u in judged)[-n_best]
    best = [u for u in judged if u.uplift >= bar]
    found = sum(u.item_id in promoted for u in best)
    return BreakoutBody(
        judged=len(judged),
        bar=bar,
        best=len(best),
        promoted=len(promoted),
        precision=found / len(promoted) if promoted else None,
        recall=found / len(best),
        false_kills=sum(bool(u.stopped) and u.level == 0 for u in best),
    )


def has_reached(upload: UploadState, level: int) -> bool:
    """Return whether an upload ever reached a level; all started at 0."""
    return upload.level >= level or (level == 0 or upload.level_ms[level] > 0)


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
        items=tuple(
            FilteredUploadBody(u.item_id, u.n_counted, u.n_cut) for u in by_cut[:SHOWN_CUTS]
        ),
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
