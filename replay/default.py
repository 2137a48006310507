"""The one estimator that a user gets without choosing: DRos, tuned by SLOPE.

Kind of shrinkage, grid and width are those that did best in `nextswipe bench default`, on simulated
worlds; what of a real log went into them stands below. Score is the geometric mean over its 16
worlds of the root mean square relative error, mean the arithmetic one (40 seeds, 10 logs each, as
the command runs them):

    candidate                       score    mean
    dros 1.5 (the default)          .1403   .2280
    dros 1.75                       .1429   .2333
    switch-dr 1.5                   .1447   .2343
    dros 2.0                        .1472   .2415
    dros 1.25                       .1506   .2782
    dros 1.0                        .1512   .2811
    switch-dr 1.0                   .1520   .2824
    switch-dr, intervals 1.0        .1737   .3036
    switch-dr, intervals 1.5        .1779   .2511
    dros, intervals 1.0             .1811   .2948
    dros, intervals 1.5             .1915   .2597
    sndr                            .1949   .5764
    snips                           .1950   .5774
    dr                              .2033   .6313
    ips                             .2376   .6411
    dm                              .3148   .3504

Where a log has much to say it is dr (within a twentieth in the worlds with frequent rewards and in
those with some 70 effective likes or more); where a few weights are about to decide, it leans on
the model (with the sampler's logs of 10,000 impressions dr is off by 180 to 290%, it by 50%). In
between it pays for the choice: a seventh with some 17 to 30 effective likes.

What of the Open Bandit Dataset went into this, the only real log that did:

- Eight of the 16 worlds are very close to it: catalogues of 34 and of 80 items (as its campaigns
  of men and of all have), with .006 and .004 clicks an impression, uniform and Thompson sampling
  asked about each other, four of them with 10,000 impressions as in its sample. Their clicks are
  drawn, none is the dataset's; but a good figure there says little of logs of another kind.
- A run on it showed that errors of differences were too small where few large weights had a
  click. The floor under them (`replay.tuning`) came of that; it was kept because it made score and
  mean of the simulated worlds better (with 10 seeds .1368 and .2203, for .1434 and .2398), and
  nothing was chosen by its figures on that log.

On the campaigns of all and of women, each policy asked about from the other's log, its mean
relative error is .211 (`nextswipe evaluate --obd`). The bar set beforehand was at most .21: it is
missed, by .001, and the default was not changed to pass it. To change the default is to register
anew: run the command, and say so in the changelog.
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
