"""The one estimator that a user gets without choosing: DRos, tuned by SLOPE.

Registered before any real log was looked at: shrinkage, grid and width were chosen by
`nextswipe bench default`, on simulated worlds and nothing else. Score is the geometric mean over
its 16 worlds of the root mean square relative error, mean the arithmetic one (10 seeds, 10 logs
each, first seed 1):

    candidate                       score    mean
    dros 1.5 (the default)          .1434   .2398
    dros 1.0                        .1462   .2596
    dros 2.0                        .1467   .2376
    switch-dr 1.0                   .1468   .2645
    switch-dr 1.5                   .1521   .2672
    switch-dr, intervals 1.0        .1635   .2583
    dros, intervals 1.0             .1719   .2521
    sndr                            .1772   .4627
    snips                           .1780   .4633
    dr                              .1807   .4667
    ips                             .2104   .4658
    dm                              .3097   .3429

Where a log has much to say it is dr (equal to two digits in the worlds with frequent rewards,
within a tenth with some 60 effective likes); where the largest weights are about to decide, it
leans on the model (with sampler logs of 10,000 impressions dr is off by 140%, it by 60%). In
between it pays for the choice: up to a tenth with some 17 effective likes. To change it is to
register anew: run the command, and say so in the changelog.
"""

from replay.columns import Columns, Predictions
from replay.intervals import LEVEL, Estimate
from replay.tuning import tuned_dros

DEFAULT = "dros"
"""Its name in `replay.estimators.ESTIMATORS`."""


def default(columns: Columns, predictions: Predictions, level: float = LEVEL) -> Estimate:
    """Return the estimate of the default estimator, with an interval no narrower than that of dr.

    Args:
        columns: of a log.
        predictions: of a model that was not fitted on them.
        level: of the interval, in (0, 1).

    Raises:
        ValueError: fewer than two people, or a level out of range.
    """
    return tuned_dros(columns, predictions, level)
