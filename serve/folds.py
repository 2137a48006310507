"""Folded states of the log that an audit reads, from a snapshot or from the log."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

import numpy as np

from env.audience_args import AudienceArgs
from env.audiences import Audiences
from env.catalogue import Catalogue
from env.items import ItemStates
from env.vocabulary import Bools, Ints, ItemId
from serve.exposure import Exposed


@dataclass(frozen=True, slots=True)
class Folds:
    """Audiences and item states at one offset of the log, and the catalogue.

    Attributes:
        args: arguments of the audiences.
        version: version of the published policy; 0: none was published.
        offset: last log line folded in.
    """

    audiences: Audiences
    states: ItemStates
    catalogue: Catalogue
    args: AudienceArgs
    version: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Shown:
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
    def of(cls, folds: Folds, market: str = "") -> "Shown":
        """Copy the columns for one home country, or for all (empty)."""
        catalogue = folds.catalogue
        exposed = Exposed.of(folds.states, catalogue, market)
        duplicates, listed = catalogue.duplicates.copy(), catalogue.listed.copy()
        return cls(market, exposed, tuple(catalogue.ids), duplicates, listed)

    def gone(self, uploads: Iterable[ItemId]) -> frozenset[ItemId]:
        """Return the uploads of which no near-duplicate is listed any more."""
        there = np.isin(self.duplicates, np.unique(self.duplicates[self.listed]))
        return frozenset(uploads) & frozenset(compress(self.ids, (~there).tolist()))
