"""Health of a log for a target: the figures on which `replay.evaluate.gates` decides.

Figures of the weights exist for segments of a log as well; coverage, calibration, arms and drift
only for the whole log.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from env.vocabulary import Floats, Ints
from replay.estimators.columns import Columns
from replay.estimators.intervals import clustered_se, count_users, effective_sample_size
from replay.evaluate.calibration import ArmSizes, Calibration, chi_square_tail

_DAY_MS = 86_400_000
N_PERIODS = 10
"""Periods into which a log is divided to test whether its reward drifts."""

MIN_PERIOD = 50
"""Decisions that each period needs for its mean reward to be nearly normal."""

MIN_PERIOD_REWARDS = 5.0
"""Effective rewards that each period must expect without drift, for the same reason."""

WEIGHT_EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class WeightDiagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """Diagnostics of the importance weights of some decisions.

    The mean weight is 1 in expectation if propensities are exact and the log supports the target;
    otherwise it is lower by the unsupported share. A reward counts if it is not the most common
    one; `effective_rewards` weights such decisions by importance weight and by distance from that
    reward.
    """

    n: int  # decisions
    n_users: int  # users
    ess: float  # effective sample size of the weights, in decisions
    ess_share: float  # ess / n, a measure of how similar the two policies are
    mean_weight: float  # close to 1 in a usable log
    mean_weight_se: float  # its standard error, clustered by user
    max_weight: float  # the largest weight
    max_weight_share: float  # largest share of all weight on one decision
    max_user_share: float  # largest share of all weight on one user
    min_propensity: float  # the smallest of the log
    n_rewards: int  # decisions possible under the target whose reward counts
    effective_rewards: float  # for rare likes, about how many of them count


class WeightShape(msgspec.Struct, frozen=True):
    """A histogram of the weights on a logarithmic scale."""

    edges: tuple[float, ...]  # lower edges; the last cell is open
    decisions: tuple[float, ...]  # share of the decisions in each cell
    weight: tuple[float, ...]  # share of the weight in each cell


class Period(msgspec.Struct, frozen=True):
    """A period of a log."""

    first_ms: int  # time of its first decision
    n: int  # decisions
    reward: float  # mean reward
    se: float  # its standard error, clustered by user
    mean_weight: float  # mean weight of the target


class Drift(msgspec.Struct, frozen=True):
    """A chi-square test of whether the reward stayed the same over time.

    It uses the pooled variance, since a period without a reward has none of its own. Users in
    several periods make the p-value a little too large.
    """

    periods: tuple[Period, ...]  # equal numbers of decisions, in order of time
    p_value: float  # that the rewards differ by chance


class LogHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a log that do not depend on the target.

    Censoring can depend on the card, so a large share may bias every estimate. Each decision
    without a user counts as a user, so intervals are too narrow if users return.
    """

    n_pages: int  # pages
    seen_share: float  # of drawn decisions; the others are no rows
    censored_share: float  # of seen decisions, those whose end is unknown
    first_ms: int  # time of the first page; 0 in a log without times
    last_ms: int  # time of the last page; 0 in a log without times
    n_unnamed: int = 0  # decisions without a user
    n_dangling: int = 0  # outcomes whose decision is not in the log; no rows
    calibration: Calibration | None = None  # None if there are too few draws
    arms: ArmSizes | None = None  # sizes of the arms; None without an experiment
    per_day: float = 0.0  # decisions a day, at the rate of the last 24 hours; 0: no times


class EvaluationHealth(WeightDiagnostics, frozen=True, kw_only=True):
    """The health of a log for one target policy.

    `unsupported_share` is the target's probability on candidates that the log gave no chance. It
    and the largest possible weight, over all other candidates, are None if the log's distributions
    are unknown.
    """

    log: LogHealth  # figures that do not depend on the target
    shape: WeightShape  # histogram of the weights
    unsupported_share: float | None = None  # in [0, 1]
    largest_possible_weight: float | None = None  # drawn or not
    drift: Drift | None = None  # None without times, or if too short


def weights_of(columns: Columns) -> WeightDiagnostics:
    """Return the diagnostics of decisions of at least two users (else ValueError)."""
    counts = columns.row_weights
    weights, n = columns.per_row(columns.weights), len(columns)
    total = max(float(weights.sum()), float(np.finfo(float).tiny))
    mean, ess = float(weights.sum() / counts.sum()), effective_sample_size(weights)
    differences = _differences(columns.reward)
    influence = (weights - mean * counts) * (n / float(counts.sum()))
    return WeightDiagnostics(
        n=n,
        n_users=count_users(columns.user),
        ess=ess,
        ess_share=ess / n,
        mean_weight=mean,
        mean_weight_se=clustered_se(influence, columns.user),
        max_weight=float(columns.weights.max()),
        max_weight_share=float(weights.max()) / total,
        max_user_share=float(np.bincount(columns.user, weights=weights).max()) / total,
        min_propensity=float(columns.propensity.min()),
        n_rewards=int(np.count_nonzero(differences * weights)),
        effective_rewards=effective_sample_size(weights * differences),
    )


def shape_of(columns: Columns) -> WeightShape:
    """Return the histogram of the weights."""
    weights = columns.weights
    cell = np.searchsorted(WEIGHT_EDGES, weights, side="right") - 1
    decisions = np.bincount(cell, weights=columns.row_weights, minlength=len(WEIGHT_EDGES))
    weight = np.bincount(cell, weights=columns.per_row(weights), minlength=len(WEIGHT_EDGES))
    return WeightShape(WEIGHT_EDGES, _shares(decisions), _shares(weight))


def drift_of(columns: Columns, at_ms: Ints) -> Drift | None:
    """Return the drift test, or None without times or with too little data in each period.

    Args:
        at_ms: shape (n,).
    """
    n_rewards = effective_sample_size(columns.per_row(_differences(columns.reward)))
    too_few = len(columns) < N_PERIODS * MIN_PERIOD or n_rewards < N_PERIODS * MIN_PERIOD_REWARDS
    if too_few or int(at_ms.min()) == int(at_ms.max()):
        return None
    parts = np.array_split(np.argsort(at_ms, kind="stable"), N_PERIODS)
    if any(len(np.unique(columns.user[rows])) < 2 for rows in parts):
        return None
    periods = tuple(_period(columns, at_ms, rows) for rows in parts)
    size = np.array([float(columns.row_weights[rows].sum()) for rows in parts])
    reward, se = np.array([(p.reward, p.se) for p in periods]).T
    variance = float(((se * size) ** 2).sum() / size.sum())  # of one decision, clustered by user
    middle = float((reward * size).sum() / size.sum())
    chi_square = float((size * (reward - middle) ** 2).sum() / variance)
    return Drift(periods, chi_square_tail(chi_square, N_PERIODS - 1))


def per_day(at_ms: Ints) -> float:
    """Return the decisions of the last 24 hours of a log, or a shorter one's at that rate.

    Args:
        at_ms: shape (n,), n at least 1.

    Returns:
        0 where all decisions have the same time.
    """
    last = int(at_ms.max())
    span_ms = min(last - int(at_ms.min()), _DAY_MS)
    if not span_ms:
        return 0.0
    return float(np.count_nonzero(at_ms >= last - span_ms)) * _DAY_MS / span_ms


def _differences(reward: Floats) -> Floats:
    """Return the distance of each reward from the most common one, shape (n,)."""
    values, counts = np.unique(reward, return_counts=True)
    differences: Floats = np.abs(reward - values[np.argmax(counts)])
    return differences


def _period(columns: Columns, at_ms: Ints, rows: Ints) -> Period:
    reward, counts = columns.reward[rows], columns.row_weights[rows]
    total = float(counts.sum())
    mean = float((reward * counts).sum() / total)
    influence = counts * (reward - mean) * (len(rows) / total)
    return Period(
        first_ms=int(at_ms[rows].min()),
        n=len(rows),
        reward=mean,
        se=clustered_se(influence, np.unique(columns.user[rows], return_inverse=True)[1]),
        mean_weight=float((columns.weights[rows] * counts).sum() / total),
    )


def _shares(counts: npt.NDArray[np.number]) -> tuple[float, ...]:
    total = max(float(counts.sum()), float(np.finfo(float).tiny))
    return tuple(float(count) / total for count in counts)
