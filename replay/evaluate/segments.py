"""Segment reports: the same evaluation for one country, cohort, slot or hour.

A segment has its own gates, because a log that suffices overall may hold little of it. Among many
segments some differ by chance: one 95% interval in twenty misses.
"""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.estimators.choice import default
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import dr_gain, logged
from replay.estimators.intervals import Estimate
from replay.evaluate.gates import GateFailure, Gates
from replay.evaluate.health import WeightDiagnostics, weights_of


class SegmentReport(msgspec.Struct, frozen=True):
    """The evaluation of a policy on one segment of a log.

    `unsupported_share` is the target's probability on candidates that the log gave no chance; None
    if the log's distributions are unknown.
    """

    segment: str  # for example "country"
    value: str  # for example "MY"
    n: int  # decisions
    n_users: int  # users
    weights: WeightDiagnostics | None = None  # their diagnostics; None: one user only
    unsupported_share: float | None = None  # in [0, 1]
    logged: Estimate | None = None  # None: one user only
    estimate: Estimate | None = None  # by the default estimator; None: refused
    gain: Estimate | None = None  # paired gain of dr over the log; None: refused
    refusals: tuple[GateFailure, ...] = ()  # the gates that failed
    forced: bool = False  # a gate failed, so do not rely on the estimate


def segment_reports(
    segment: str,
    parts: Iterable[tuple[str, Bools]],
    columns: Columns,
    predictions: RewardPredictions,
    unsupported: Floats,
    *,
    gates: Gates,
    of_log: tuple[GateFailure, ...],
    level: float,
    force: bool,
) -> Iterator[SegmentReport]:
    """Yield the evaluation of a policy on each segment value.

    Args:
        parts: each value with the mask of its decisions, shape (n,).
        unsupported: likewise, see `replay.evaluate.targets.Replayed.unsupported`.
        gates: gates on the weights and the support.
        of_log: refusals of the whole log, which hold for every segment.
        force: estimate even if a gate fails; the part is marked.
    """
    for value, mask in parts:
        rows = np.flatnonzero(mask)
        predicted = RewardPredictions(predictions.chosen[rows], predictions.direct[rows])
        its = _rows(columns, rows)
        share = unsupported_share(its, unsupported[rows])
        yield _part(segment, value, its, predicted, share, gates, of_log, level, force)


def unsupported_share(columns: Columns, unsupported: Floats) -> float | None:
    """Return the mean unsupported probability, or None if the log's distributions are unknown.

    Args:
        unsupported: unsupported probability of the target, shape (n,); NaN if unknown.
    """
    known = np.isfinite(unsupported)
    counts = columns.row_weights[known]
    if not len(counts):
        return None
    return float((unsupported[known] * counts).sum() / counts.sum())


def _part(
    segment: str,
    value: str,
    columns: Columns,
    predictions: RewardPredictions,
    share: float | None,
    gates: Gates,
    of_log: tuple[GateFailure, ...],
    level: float,
    force: bool,
) -> SegmentReport:
    n, n_users = len(columns), len(np.unique(columns.user))
    if n_users < 2:
        alone = GateFailure("users", "at least 2", str(n_users), "take a longer log")
        refusals = (*of_log, alone)
        return SegmentReport(segment, value, n, n_users, unsupported_share=share, refusals=refusals)
    weights = weights_of(columns)
    refusals = (*of_log, *gates.weight_refusals(weights, share))
    shown = weights.ess > 0.0 and (force or not refusals)
    return SegmentReport(
        segment=segment,
        value=value,
        n=n,
        n_users=n_users,
        weights=weights,
        unsupported_share=share,
        logged=logged(columns, level),
        estimate=default(columns, predictions, level) if shown else None,
        gain=dr_gain(columns, predictions, level) if shown else None,
        refusals=refusals,
        forced=shown and bool(refusals),
    )


def _rows(columns: Columns, rows: Ints) -> Columns:
    weight = None if columns.row_weight is None else columns.row_weight[rows]
    user, reward = columns.user[rows], columns.reward[rows]
    return Columns(user, reward, columns.propensity[rows], columns.target[rows], weight)
