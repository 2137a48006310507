"""Parts of a log: the same question about one country, one cohort, one slot, one hour.

A part has its own gates, since a log that can answer for everybody may have next to nothing of
somebody. Of many parts some differ by chance: one interval in twenty misses.
"""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints
from replay.columns import Columns, Predictions
from replay.default import default
from replay.estimators import dr_gain, logged
from replay.gates import Gates, Refusal
from replay.health import Weights, weights_of
from replay.intervals import Estimate


class Part(msgspec.Struct, frozen=True):
    """What a part of a log says about a policy.

    Attributes:
        segment: for example "country".
        value: for example "MY".
        n: decisions.
        n_users: users.
        weights: what they are worth here; None: decisions of one user only.
        unsupported_share: of the target's probability here, what lies on candidates that the log
            gave none; None: the log's distributions are not known.
        logged: what was earned here; None: decisions of one user only.
        estimate: by the default estimator; None where the part was refused.
        gain: over what was logged by dr, paired; None likewise.
        refusals: the gates that it did not pass.
        forced: the estimate is there although it did not pass.
    """

    segment: str
    value: str
    n: int
    n_users: int
    weights: Weights | None = None
    unsupported_share: float | None = None
    logged: Estimate | None = None
    estimate: Estimate | None = None
    gain: Estimate | None = None
    refusals: tuple[Refusal, ...] = ()
    forced: bool = False


def parts_of(
    segment: str,
    parts: Iterable[tuple[str, Bools]],
    columns: Columns,
    predictions: Predictions,
    unsupported: Floats,
    *,
    gates: Gates,
    of_log: tuple[Refusal, ...],
    level: float,
    force: bool,
) -> Iterator[Part]:
    """Yield what each part of a log says about a policy.

    Args:
        segment: what the parts are of.
        parts: each value with the mask of its decisions, shape (n,).
        columns: of the whole log.
        predictions: likewise.
        unsupported: likewise, see `replay.replaying.Replayed.unsupported`.
        gates: that a part must pass by its weights and its support.
        of_log: refusals of the whole log, which hold for every part.
        level: of the intervals, in (0, 1).
        force: estimate where a part does not pass; it is marked.
    """
    for value, mask in parts:
        rows = np.flatnonzero(mask)
        predicted = Predictions(predictions.chosen[rows], predictions.direct[rows])
        its = _rows(columns, rows)
        share = unsupported_share(its, unsupported[rows])
        yield _part(segment, value, its, predicted, share, gates, of_log, level, force)


def unsupported_share(columns: Columns, unsupported: Floats) -> float | None:
    """Return the mean of what the log gave no chance; None: its distributions are not known.

    Args:
        columns: n decisions.
        unsupported: of the target's probability at each, shape (n,); NaN where not known.
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
    predictions: Predictions,
    share: float | None,
    gates: Gates,
    of_log: tuple[Refusal, ...],
    level: float,
    force: bool,
) -> Part:
    n, n_users = len(columns), len(np.unique(columns.user))
    if n_users < 2:
        alone = Refusal("people", "at least 2", str(n_users), "take a longer log")
        refusals = (*of_log, alone)
        return Part(segment, value, n, n_users, unsupported_share=share, refusals=refusals)
    weights = weights_of(columns)
    refusals = (*of_log, *gates.weight_refusals(weights, share))
    shown = weights.ess > 0.0 and (force or not refusals)
    return Part(
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
