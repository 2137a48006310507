"""Inequality of impressions: the Lorenz curve, its Gini index, and the share of the bottom 80%.

All listed items are counted, and no small-sample correction is applied. Rejected alternatives:
`docs/decisions/audit-fair-start.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

import numpy as np

from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.vocabulary import Bools, Floats, Ints, ItemId
from serve.audit.response import ExposureBody
from serve.learn.served import Folds

BOTTOM = 0.8
_STEPS = 100


def gini(amounts: Floats | Ints) -> float | None:
    """Return the Gini index of amounts, half their relative mean difference.

    With x sorted up and i from 1 to n: G = 2 sum_i i x_i / (n sum_i x_i) - (n + 1) / n; in [0, 1 -
    1/n]. (Sen, "On Economic Inequality", 1973, section 2.)

    Args:
        amounts: shape (n,), at least 0.

    Returns:
        None where the sum is 0.

    >>> gini(np.array([1.0, 1.0])), gini(np.array([0.0, 0.0, 0.0, 8.0]))
    (0.0, 0.75)
    """
    n, total = len(amounts), float(amounts.sum())
    if not total:
        return None
    ranks = np.arange(1, n + 1)
    return float(2.0 * (ranks @ np.sort(amounts)) / (n * total) - (n + 1) / n)


def lorenz(amounts: Floats, shares: Floats) -> Floats:
    """Return the share of the sum held by the given shares of the holders, the poorest first.

    The curve is linear between holders; the area between it and the diagonal is half of `gini`.

    Args:
        amounts: shape (n,), at least 0, with a sum above 0.
        shares: shape (k,), in [0, 1].

    Returns:
        Shape (k,), in [0, 1].
    """
    sums = np.concatenate([[0.0], np.cumsum(np.sort(amounts))])
    parts: Floats = np.interp(shares, np.linspace(0.0, 1.0, len(sums)), sums / sums[-1])
    return parts


def measure_exposure(impressions: Floats) -> ExposureBody:
    """Return the spread of these impressions, shape (n,)."""
    spread = gini(impressions)
    even = np.linspace(0.0, 1.0, _STEPS + 1)
    return ExposureBody(
        n=len(impressions),
        n_shown=int(np.count_nonzero(impressions)),
        impressions=int(impressions.sum()),
        gini=spread,
        bottom_share=(
            None if spread is None else float(lorenz(impressions, np.array([BOTTOM]))[0])
        ),
        lorenz=() if spread is None else tuple(lorenz(impressions, even).round(6).tolist()),
    )


@dataclass(frozen=True, slots=True)
class Exposed:
    """Impressions of the listed items, as columns of one length."""

    impressions: Floats  # (n,) counts
    creators: Ints  # (n,) code, 0 where unknown

    @classmethod
    def of(cls, states: ItemStates, catalogue: Catalogue, market: str) -> "Exposed":
        """Return the listed items of a home country, or of all (empty)."""
        ours = catalogue.listed
        if market:
            ours = ours & (catalogue.countries == catalogue.codes.country(market))
        return cls(states.aligned(catalogue).impressions[ours], catalogue.creators[ours])

    def videos(self) -> ExposureBody:
        """Return the spread of impressions over videos."""
        return measure_exposure(self.impressions)

    def by_creator(self) -> ExposureBody:
        """Return the spread over creators; videos of unknown ones are left out."""
        known = self.creators > 0
        makers, places = np.unique(self.creators[known], return_inverse=True)
        totals: Floats = np.zeros(len(makers))
        np.add.at(totals, places, self.impressions[known])
        return measure_exposure(totals)


@dataclass(frozen=True)
class ItemColumns:
    """A copy of the item columns that an audit reads, since they may change meanwhile.

    Attributes:
        market: home country of the items in `exposed`; empty: all.
        duplicates: shape (n,), code shared by near-duplicates.
        listed: shape (n,).
    """

    market: str
    exposed: Exposed
    ids: tuple[ItemId, ...]
    duplicates: Ints
    listed: Bools

    @classmethod
    def of(cls, folds: Folds, market: str = "") -> "ItemColumns":
        """Copy the columns for one home country, or for all (empty)."""
        catalogue = folds.catalogue
        exposed = Exposed.of(folds.states, catalogue, market)
        duplicates, listed = catalogue.duplicates.copy(), catalogue.listed.copy()
        return cls(market, exposed, tuple(catalogue.ids), duplicates, listed)

    def gone(self, uploads: Iterable[ItemId]) -> frozenset[ItemId]:
        """Return the uploads of which no near-duplicate is listed any more."""
        there = np.isin(self.duplicates, np.unique(self.duplicates[self.listed]))
        return frozenset(uploads) & frozenset(compress(self.ids, (~there).tolist()))
