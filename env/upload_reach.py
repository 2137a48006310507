"""Construction of `Reach`: stage, shortfall and price of uploads by catalogue index.

The columns are computed in full after a fold; after changes of the catalogue alone, only the
changed items are updated. A launch that the fold has not seen yet gets the first pool and its full
guarantee at once, so an upload need not wait for the learner.
"""

import numpy as np

from env.audience_args import OPEN_LEVEL, FairStart
from env.catalogue import Catalogue
from env.content import home_country
from env.demand import HOUR_MS
from env.reach import Reach
from env.trials import Trial
from env.uploads import STOPPED, Uploads
from env.vocabulary import Ints


def reach_of(uploads: Uploads, args: FairStart, catalogue: Catalogue, now_ms: int) -> Reach:
    """Return the columns by catalogue index, including launches that the fold has not seen yet."""
    row_of = uploads.rows_in(catalogue)
    standing = np.array([*uploads.standing, OPEN_LEVEL], dtype=np.int64)[row_of]
    debts = np.zeros((3, len(uploads.standing) + 1))
    for trial in uploads.owing():
        debts[:, trial.row] = _debt(trial, now_ms)
    owed, due_ms, price = debts[:, row_of]
    new = catalogue.debuts[: len(row_of)] & (row_of < 0)
    for index in np.flatnonzero(new & catalogue.listed[: len(row_of)]).tolist():
        owed[index], due_ms[index] = _first_debt(args, catalogue, index, now_ms)
    stopped = standing >= STOPPED
    return Reach.of(np.where(stopped | new, 0, standing), stopped, owed, due_ms, price)


def reach_after(
    uploads: Uploads,
    args: FairStart,
    reach: Reach,
    catalogue: Catalogue,
    changed: Ints,
    now_ms: int,
) -> Reach:
    """Return the result of `reach_of` after changes of the catalogue alone, incrementally.

    `reach` is the previous result, after which nothing was folded; `changed` holds the ascending
    indices of the items that were put or taken down.
    """
    row_of = uploads.rows_in(catalogue)
    rows = [_row(uploads, args, catalogue, i, int(row_of[i]), now_ms) for i in changed.tolist()]
    return reach.changed(len(row_of), changed, rows)


def _row(
    uploads: Uploads, args: FairStart, catalogue: Catalogue, index: int, row: int, now_ms: int
) -> tuple[int, bool, float, float, float]:
    """Return the row of `Reach` of one item."""
    if row >= 0:
        standing, trial = uploads.standing[row], uploads.owing_in(row)
        stopped = standing >= STOPPED
        debt = (0.0, 0.0, 0.0) if trial is None else _debt(trial, now_ms)
        return 0 if stopped else standing, stopped, *debt
    if not catalogue.debuts[index]:
        return OPEN_LEVEL, False, 0.0, 0.0, 0.0
    if not catalogue.listed[index]:
        return 0, False, 0.0, 0.0, 0.0
    return 0, False, *_first_debt(args, catalogue, index, now_ms), 0.0


def _debt(trial: Trial, now_ms: int) -> tuple[float, float, float]:
    """Return a trial's shortfall with test impressions, its deadline and its price."""
    return trial.debt + trial.test(now_ms), trial.due_ms, trial.price(now_ms)


def _first_debt(
    args: FairStart, catalogue: Catalogue, index: int, now_ms: int
) -> tuple[float, float]:
    """Return shortfall and deadline of a launch that the fold has not seen yet."""
    owed = float(args.owed_in(home_country(catalogue.item(index))))
    return owed, now_ms + int(args.within_h * HOUR_MS) if owed else 0.0
