"""The folds of the log that an audit asks, wherever they were taken from."""

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
    """Audiences and item states at one offset of the log, and the items.

    Attributes:
        args: of the audiences.
        version: of the policy with which they were published; 0: nothing was.
        offset: of the last line that is folded in.
    """

    audiences: Audiences
    states: ItemStates
    catalogue: Catalogue
    args: AudienceArgs
    version: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Shown:
    """What an audit takes of the items at once, as they may change while it is made.

    Attributes:
        market: home of the items in `exposed`; empty: all homes.
        exposed: impressions of listed items.
        ids: of all items, n of them.
        duplicates: shape (n,), code that near-duplicates share.
        listed: shape (n,).
    """

    market: str
    exposed: Exposed
    ids: tuple[ItemId, ...]
    duplicates: Ints
    listed: Bools

    @classmethod
    def of(cls, folds: Folds, market: str = "") -> "Shown":
        """Take it for one home, or for all (empty)."""
        catalogue = folds.catalogue
        exposed = Exposed.of(folds.states, catalogue, market)
        duplicates, listed = catalogue.duplicates.copy(), catalogue.listed.copy()
        return cls(market, exposed, tuple(catalogue.ids), duplicates, listed)

    def gone(self, uploads: Iterable[ItemId]) -> frozenset[ItemId]:
        """Return those of the uploads of which no near-duplicate is listed any more."""
        there = np.isin(self.duplicates, np.unique(self.duplicates[self.listed]))
        return frozenset(uploads) & frozenset(compress(self.ids, (~there).tolist()))
