"""Keeps a replica's index of the best matches current: made beside serving, swapped in whole.

The index of a large catalogue takes seconds to make, so it is made on a thread of its own, at a low
priority, from columns that the engine's thread goes on moving; what changes meanwhile is in the new
index's tail. A page looks into one index, the old one or the new one.

Rejected: a process of its own (the columns would have to be sent there and the index back, a
second copy of each), and an index on disk (it is made anew as fast as it is verified).
"""

import logging
import os
import sys
from threading import Event, get_native_id

from policies.cells import LEAST_ITEMS, Cells
from serve.pipeline import Pipeline

logger = logging.getLogger(__name__)

POLL_S = 1.0
NICE = 10


class Indexing:
    """Makes an index where the catalogue is large, and another one where it has moved on."""

    def __init__(self, pipeline: Pipeline, *, least_items: int = LEAST_ITEMS) -> None:
        """Make none yet.

        Args:
            pipeline: looks into the index; its catalogue is what is in it.
            least_items: below which all items are looked at.
        """
        self._pipeline = pipeline
        self._least_items = least_items
        self._cells: Cells | None = None

    def run(self, stop: Event, *, poll_s: float = POLL_S) -> None:
        """Keep it current until told to stop."""
        _step_back()
        while not stop.wait(poll_s):
            self.poll()

    def poll(self) -> bool:
        """Make an index if one is due; return whether one was."""
        catalogue = self._pipeline.catalogue
        if len(catalogue.debuts) < self._least_items:
            return False
        if self._cells is not None and not self._cells.is_due(catalogue):
            return False
        cells = Cells.build(catalogue, self._pipeline.served.states.last_aligned)
        self._follow(cells)
        self._pipeline.look_in(cells)
        self._follow(cells)  # what was swapped in until now has followed the index before
        self._cells = cells
        logger.info("indexed items=%d", len(cells.worth))
        return True

    def _follow(self, cells: Cells) -> None:
        """Have an index follow the version that is served now, for which no page is to wait."""
        items = self._pipeline.served.states.last_aligned
        if items is not None:
            cells.follow(items)


def _step_back() -> None:
    """Let requests go before this thread, where the system tells threads apart."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
