"""Health of a log: the figures by which a reader judges whether an estimate means anything.

The usual limits (at least 500 effective decisions, no weight above 5% of all, a mean weight in
[.9, 1.1]) are not applied here: these are figures, a gate is a decision about them.
"""

import msgspec
import numpy as np

from replay.dataset import Dataset
from replay.estimators import Columns
from replay.intervals import clustered_se, count_users, effective_sample_size


class Health(msgspec.Struct, frozen=True):
    """How well a log can speak about a target policy.

    Attributes:
        n: decisions.
        n_users: people.
        n_pages: pages.
        ess: effective sample size of the weights, in decisions.
        ess_share: of n; how much alike the two policies are.
        mean_weight: 1 in expectation, if the propensities are exact and nothing that the target
            does was impossible in the log; below 1 by the share that was.
        mean_weight_se: its standard error, clustered by person.
        max_weight: the largest weight.
        max_weight_share: of all weight; how much one decision says.
        max_user_share: of all weight, the person with the most of it.
        min_propensity: the smallest of the log.
        seen_share: of the decisions drawn; the others are no rows.
        censored_share: of the decisions seen. Whether a card is censored can depend on the card,
            so that a large share may bias every estimate alike.
        first_ms: time of the first page.
        last_ms: time of the last page.
    """

    n: int
    n_users: int
    n_pages: int
    ess: float
    ess_share: float
    mean_weight: float
    mean_weight_se: float
    max_weight: float
    max_weight_share: float
    max_user_share: float
    min_propensity: float
    seen_share: float
    censored_share: float
    first_ms: int
    last_ms: int


def health_of(dataset: Dataset, columns: Columns) -> Health:
    """Return the health of a log for the target that the columns were made with.

    Args:
        dataset: as read; its coverage is that of the whole log.
        columns: one row a row of the dataset.
    """
    weights, total = columns.weights, max(float(columns.weights.sum()), np.finfo(float).tiny)
    ess, mean = effective_sample_size(weights), float(weights.mean())
    pages = np.unique(dataset.page)
    drawn_ms = [dataset.pages[place].at_ms for place in pages]
    coverage = dataset.coverage
    return Health(
        n=len(columns),
        n_users=count_users(columns.user),
        n_pages=len(pages),
        ess=ess,
        ess_share=ess / len(columns),
        mean_weight=mean,
        mean_weight_se=clustered_se(weights - mean, columns.user),
        max_weight=float(weights.max()),
        max_weight_share=float(weights.max()) / total,
        max_user_share=float(np.bincount(columns.user, weights=weights).max()) / total,
        min_propensity=float(columns.propensity.min()),
        seen_share=coverage.seen / max(coverage.drawn, 1),
        censored_share=coverage.censored / max(coverage.seen, 1),
        first_ms=min(drawn_ms),
        last_ms=max(drawn_ms),
    )
