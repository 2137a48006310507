"""How often intervals held a known truth, and what they cost: one row an estimator and setting."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from replay.intervals import Estimate


class Covered(msgspec.Struct, frozen=True):
    """What many logs of one setting gave for one estimator.

    Attributes:
        setting: of the log and of the target.
        estimator: its name.
        truth: the exact value.
        n_runs: logs.
        coverage: share of the intervals that held the truth.
        bias_se: mean error, in standard errors of this mean.
        relative_bias: mean error by the truth.
        relative_rmse: root mean square error by the truth.
        relative_half_width: median half width of the intervals by the truth.
        ess: median effective sample size.
    """

    setting: str
    estimator: str
    truth: float
    n_runs: int
    coverage: float
    bias_se: float
    relative_bias: float
    relative_rmse: float
    relative_half_width: float
    ess: float


def tally(setting: str, truth: float, estimates: Sequence[Estimate]) -> Covered:
    """Return the row of one estimator's estimates of one truth, at least two of them."""
    errors = np.array([estimate.value - truth for estimate in estimates])
    halves = np.array([(estimate.high - estimate.low) / 2.0 for estimate in estimates])
    held = [estimate.low <= truth <= estimate.high for estimate in estimates]
    return Covered(
        setting=setting,
        estimator=estimates[0].estimator,
        truth=truth,
        n_runs=len(estimates),
        coverage=float(np.mean(held)),
        bias_se=float(errors.mean() / (errors.std(ddof=1) / np.sqrt(len(errors)))),
        relative_bias=float(errors.mean() / truth),
        relative_rmse=float(np.sqrt((errors**2).mean()) / truth),
        relative_half_width=float(np.median(halves) / truth),
        ess=float(np.median([estimate.ess for estimate in estimates])),
    )


def count_in_band(
    cells: Iterable[Covered], estimators: Iterable[str], low: float, high: float
) -> int:
    """Return how many rows of these estimators have a coverage in [low, high]."""
    names = set(estimators)
    return sum(cell.estimator in names and low <= cell.coverage <= high for cell in cells)
