"""The estimates of all estimators from one log, the default one first.

The others are shown for comparison, not as a menu to choose from afterwards
(`docs/decisions/default-estimator.md`).
"""

from replay.columns import Columns, Predictions
from replay.default import DEFAULT, default
from replay.estimators import ESTIMATORS
from replay.intervals import Estimate
from replay.likelihood import cressie_read


def estimates_of(
    columns: Columns,
    predictions: Predictions,
    level: float,
    reward_range: tuple[float, float] | None = None,
) -> tuple[Estimate, ...]:
    """Return the estimate of every estimator, the default one first.

    Args:
        reward_range: lowest and highest possible reward, used by the cautious interval; None if
            unknown: then the range of the log's rewards, 0 and 1.

    Raises:
        ValueError: the target never agrees with the log.
    """
    first = default(columns, predictions, level)
    others = (
        estimator(columns, predictions, level)
        for name, estimator in ESTIMATORS.items()
        if name != DEFAULT
    )
    if reward_range is None:
        reward_range = min(float(columns.reward.min()), 0.0), max(float(columns.reward.max()), 1.0)
    return (first, *others, cressie_read(columns, reward_range, level))
