"""Counts cards that were drawn for somebody who is outside of their pool, page by page.

An upload in pools 0 and 1 is for its home, in pool 2 for its home and the neighbours; a stopped one
is for nobody. The pool is that of the version that the page was drawn with; what its people saw of
the page does not matter.
"""

import numpy as np

from env.audience_args import OPEN_LEVEL, Pools
from env.records import PageRecord
from serve.pipeline import Pipeline

PROVEN_LEVEL = 2
"""The pool that opens the neighbours."""


class ReachWatch:
    """Sees pages, see `serve.bench.served_world.Witness`.

    Attributes:
        outside: cards drawn for somebody outside of their pool.
        stopped: cards of uploads that were stopped.
        on_trial: cards of uploads below the open pool: what could have been either.
    """

    def __init__(self, pools: Pools) -> None:
        """Start without a page.

        Args:
            pools: whose neighbours count.
        """
        self.outside = self.stopped = self.on_trial = 0
        self._neighbours = pools.neighbours

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """Count a page's cards."""
        catalogue = pipeline.catalogue
        reach = pipeline.served.audiences.aligned(catalogue)
        index = [catalogue.index_of(card.item_id) for card in page.cards]
        known = np.array([k for k in index if k is not None], dtype=np.int64)
        self.stopped += int(np.count_nonzero(reach.stopped[known]))
        for k in known[reach.level[known] < OPEN_LEVEL].tolist():
            self.on_trial += 1
            home, country = catalogue.item(k).country, page.scene.country
            if home and country != home:
                near = self._neighbours.get(home, ()) if reach.level[k] == PROVEN_LEVEL else ()
                self.outside += country not in near
