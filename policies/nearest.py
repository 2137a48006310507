"""The protocol of an index that narrows the search for the best matches.

Retrieval ranks the items that an index names exactly, so an index adds speed and can only cost
recall. A small catalogue is searched without one.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from env.catalogue import Catalogue
from env.items import Aligned
from env.vocabulary import Bools, Float32s, Ints


class Nearest(Protocol):
    """Finds items among which the best matches are."""

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
        """Return wanted items that contain the n best matches of each interest; None: search all.

        Args:
            interests: vectors by source; the long interest's match is added to the mean reward.
            wanted: shape (n_items,), the items that may be found.
            n: number of items needed, at most n_wanted.

        Returns:
            For each interest at least n distinct wanted items.
        """
        ...

    def follow(self, items: Aligned) -> None:
        """Prepare the first search in a version of the states; any thread may call it."""
        ...
