"""Quality of the pools' promotions against later evidence: precision, recall and false kills.

An upload's present uplift says whether it belongs to the best tenth of all uploads with enough
evidence. That is the feed's judgement of itself, not the truth, which only the simulation knows.
Limits of the measure: `docs/decisions/audit-breakout.md`.
"""

from collections.abc import Sequence

import numpy as np

from env.reach import UploadState
from serve.audit_wire import BreakoutBody

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
