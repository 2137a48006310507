"""The default estimator: DRos (doubly robust with optimistic shrinkage), tuned by SLOPE.

It was selected in advance by `make study ARGS='default'` on simulated worlds, and is the same for
every log. Scores of all candidates, the role of the Open Bandit Dataset, and how to change the
default: `docs/decisions/default-estimator.md`.
"""

from collections.abc import Sequence

from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import ESTIMATORS, Estimator
from replay.estimators.intervals import LEVEL, Estimate
from replay.estimators.likelihood import cressie_read
from replay.estimators.tuning import tuned_dros

DEFAULT = "dros"
"""Key of the default in `replay.estimators.decisions.ESTIMATORS`."""


def default(columns: Columns, predictions: RewardPredictions, level: float = LEVEL) -> Estimate:
    """Return the estimate of the default estimator, with an interval no narrower than that of dr.

    Raises:
        ValueError: fewer than two users, or a level out of range.
    """
    return tuned_dros(columns, predictions, level)


def estimates_of(
    columns: Columns,
    predictions: RewardPredictions,
    level: float,
    reward_range: tuple[float, float] | None = None,
    further: Sequence[Estimator] = (),
) -> tuple[Estimate, ...]:
    """Return the estimate of every estimator, the default one first, further ones last.

    Args:
        reward_range: lowest and highest possible reward, used by the cautious interval; None if
            unknown: then the range of the log's rewards, 0 and 1.

    Raises:
        ValueError: the target never agrees with the log, or a further estimator fails.
    """
    first = default(columns, predictions, level)
    others = (
        estimator(columns, predictions, level)
        for name, estimator in ESTIMATORS.items()
        if name != DEFAULT
    )
    if reward_range is None:
        reward_range = min(float(columns.reward.min()), 0.0), max(float(columns.reward.max()), 1.0)
    own = (estimator(columns, predictions, level) for estimator in further)
    return (first, *others, cressie_read(columns, reward_range, level), *own)
