"""Who is looked at for the best matches, where that is not all items: those an index says.

Exact re-ranking is retrieval's: an index only says among which items to look, so what it adds to a
page is speed and what it can take away is a few of the matches (its recall). On a small catalogue
there is none and all items are looked at, which is then faster too.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from env.catalogue import Catalogue
from env.items import Aligned
from env.vocabulary import Bools, Float32s, Ints


class Nearest(Protocol):
    """Finds where the best matches are."""

    def near(
        self,
        catalogue: Catalogue,
        items: Aligned,
        interests: Mapping[str, Float32s],
        wanted: Bools,
        n_wanted: int,
        n: int,
        rng: np.random.Generator,
    ) -> dict[str, Ints] | None:
        """Return the items among which the n best matches of each interest are; None: all.

        Args:
            catalogue: all items.
            items: what the log says of them.
            interests: vectors by source; the long interest's match is added to the mean reward.
            wanted: shape (n_items,), the items that may be found.
            n_wanted: how many these are.
            n: how many are needed, at most n_wanted.
            rng: decides between equals.

        Returns:
            For each interest wanted items, distinct, n of them at least.
        """
        ...

    def follow(self, items: Aligned) -> None:
        """Work out what the first search in a version of the states needs; on any thread."""
        ...
