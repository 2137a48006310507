"""This module keeps a replica's nearest-neighbour index current.

Building the index of a large catalogue takes seconds, so a low-priority thread builds it beside
serving and swaps it in whole; changes made meanwhile are in the new index's tail. A page uses
either the old index or the new one. Rejected alternatives: `docs/decisions/serve-feed-pipeline.md`.
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
    """Builds an index for a large catalogue, and a new one once the catalogue has changed."""

    def __init__(self, pipeline: Pipeline, *, least_items: int = LEAST_ITEMS) -> None:
        """Start without an index; a catalogue below `least_items` is scanned."""
        self._pipeline = pipeline
        self._least_items = least_items
        self._cells: Cells | None = None

    def run(self, stop: Event, *, poll_s: float = POLL_S) -> None:
        """Keep the index current until told to stop."""
        _step_back()
        while not stop.wait(poll_s):
            self.poll()

    def poll(self) -> bool:
        """Build an index if one is due; return whether one was."""
        catalogue = self._pipeline.catalogue
        if len(catalogue.debuts) < self._least_items:
            return False
        if self._cells is not None and not self._cells.is_due(catalogue):
            return False
        cells = Cells.build(catalogue, self._pipeline.served.states.last_aligned)
        self._follow(cells)
        self._pipeline.look_in(cells)
        self._follow(cells)  # a version swapped in meanwhile followed the old index
        self._cells = cells
        logger.info("indexed items=%d", len(cells.worth))
        return True

    def _follow(self, cells: Cells) -> None:
        """Update an index to the version that is served now, so that no page has to."""
        items = self._pipeline.served.states.last_aligned
        if items is not None:
            cells.follow(items)


def _step_back() -> None:
    """Lower this thread's priority, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
