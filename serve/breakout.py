"""Whether the pools promoted what later evidence calls good: precision, recall, false kills.

An upload that was promoted early on little evidence is judged by what is known of it now: is its
uplift among the best tenth of all uploads with enough evidence? That is the feed's own judgement
of itself. It says whether early verdicts agree with late ones, not whether either is true: an
upload that was stopped gathers no more evidence, so a false kill can be missed; one that came to
the open pool gathers no more either; and what was promoted because it was lucky still has that
luck in its evidence (half of it is forgotten at each promotion for that reason). The truth is
known in simulation only, where `nextswipe bench breakout` compares with it.

Young uploads count as not promoted (yet), so recall is low while many are new.
"""

from collections.abc import Sequence

import numpy as np

from env.reach import UploadState
from serve.audit_wire import BreakoutBody

BEST_PART = 0.1
AT_LEAST = 10
"""Judged uploads below which there is no best tenth."""

PROVEN = 2
"""The level at which an upload has broken out of its home."""


def judge_breakout(uploads: Sequence[UploadState], at_least: int) -> BreakoutBody:
    """Return how the promotions of these uploads look from now.

    Args:
        uploads: all of them.
        at_least: counted impressions that are enough evidence, `Pools.at_least`; an upload that
            was ever promoted had them, though half of its evidence was forgotten then.
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
    """Return whether an upload ever came to a level; all were at 0."""
    return upload.level >= level or (level == 0 or upload.level_ms[level] > 0)
