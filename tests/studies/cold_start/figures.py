"""What an arm did in one replicate, and what that comes to over replicates.

    regret      expected reward of the best candidate minus that of the one shown, a card
    gini        of impressions over the uploads whose life ended
    p_20        share of them that had 20 impressions or more in their life
    breakout    of them, those with 2.5 even shares of impressions or more; recall: the part of the
                best tenth that did; precision: the part of these that is of the best tenth

Replicates are independent, so intervals are Student's t over them. Arms see the same replicates,
so the ratio of two arms' regrets has the interval of the paired differences a - ratio b (Cochran,
"Sampling Techniques", 3rd ed., section 2.11).
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.intervals import t_quantile
from serve.audit.exposure import gini

ENOUGH = 20
BREAKOUT_SHARES = 2.5
BEST = 0.1
LEVEL = 0.95


class Run(msgspec.Struct, frozen=True):
    """An arm in one replicate; the last three are counts of uploads whose life ended.

    Attributes:
        hits: that broke out and are of the best tenth.
        broke_out: that broke out.
        best: of the best tenth.
    """

    reward: float
    regret: float
    gini: float
    p_20: float
    hits: int
    broke_out: int
    best: int


class Span(msgspec.Struct, frozen=True):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class ArmFigures(msgspec.Struct, frozen=True):
    """An arm over replicates.

    Attributes:
        recall: of breakouts, None where no upload ended.
        precision: of breakouts, None where none broke out.
    """

    name: str
    replicates: int
    reward: Span
    regret: Span
    gini: Span
    p_20: Span
    recall: float | None
    precision: float | None


def run_of(
    reward: float, regret: float, impressions: Ints, quality: Floats, even_share: float
) -> Run:
    """Return an arm's run.

    Args:
        reward: expected, mean of the cards.
        regret: mean of the cards.
        impressions: of the uploads whose life ended, shape (m,), m at least 1.
        quality: of the same.
        even_share: impressions of an upload where all are shown alike.
    """
    broke_out = impressions >= BREAKOUT_SHARES * even_share
    best = quality >= np.quantile(quality, 1.0 - BEST)
    return Run(
        reward=reward,
        regret=regret,
        gini=gini(impressions) or 0.0,
        p_20=float(np.mean(impressions >= ENOUGH)),
        hits=int(np.count_nonzero(broke_out & best)),
        broke_out=int(np.count_nonzero(broke_out)),
        best=int(np.count_nonzero(best)),
    )


def figures_of(name: str, runs: Sequence[Run]) -> ArmFigures:
    """Return what the runs of an arm come to."""
    hits, broke_out, best = (
        sum(getattr(run, field) for run in runs) for field in ("hits", "broke_out", "best")
    )
    return ArmFigures(
        name=name,
        replicates=len(runs),
        reward=_mean([run.reward for run in runs]),
        regret=_mean([run.regret for run in runs]),
        gini=_mean([run.gini for run in runs]),
        p_20=_mean([run.p_20 for run in runs]),
        recall=hits / best if best else None,
        precision=hits / broke_out if broke_out else None,
    )


def regret_ratio(one: Sequence[Run], other: Sequence[Run]) -> Span:
    """Return the ratio of two arms' regrets on the same replicates.

    Raises:
        ValueError: not the same number of runs.
    """
    a = np.array([run.regret for run in one])
    b = np.array([run.regret for run in other])
    if a.shape != b.shape:
        raise ValueError(f"expected runs of the same replicates, got {len(a)} and {len(b)}")
    ratio = float(a.mean() / b.mean())
    half = _half(a - ratio * b) / float(b.mean())
    return Span(ratio, ratio - half, ratio + half)


def _mean(values: Sequence[float]) -> Span:
    array = np.array(values)
    mean, half = float(array.mean()), _half(array)
    return Span(mean, mean - half, mean + half)


def _half(values: Floats) -> float:
    """Return the half width of a mean's interval; of one value there is none, and it is 0."""
    n = len(values)
    return t_quantile(LEVEL, n - 1) * float(values.std(ddof=1)) / n**0.5 if n > 1 else 0.0
