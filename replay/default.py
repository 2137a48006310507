"""The default estimator: DRos (doubly robust with optimistic shrinkage), tuned by SLOPE.

It was selected in advance by `nextswipe bench default` on simulated worlds, and is the same for
every log. Scores of all candidates, the role of the Open Bandit Dataset, and how to change the
default: `docs/decisions/default-estimator.md`.
"""

from replay.columns import Columns, Predictions
from replay.intervals import LEVEL, Estimate
from replay.tuning import tuned_dros

DEFAULT = "dros"
"""Key of the default in `replay.estimators.ESTIMATORS`."""


def default(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the estimate of the default estimator, with an interval no narrower than that of dr.

    Raises:
        ValueError: fewer than two users, or a level out of range.
    """
    return tuned_dros(columns, predictions, level)
