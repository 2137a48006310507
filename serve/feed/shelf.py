"""The item service of one process: writes go to the store, lookups to the in-memory catalogue.

Every process holds the whole catalogue as columns. A change of an item appends a record. Other
processes see its offset in their next read of a user and apply the log's tail before they answer.

See also `docs/decisions/serve-feed-pipeline.md`.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event, get_native_id

import numpy as np

from env.items.catalogue import Catalogue
from env.records import ItemRecord, LogLine, ProjectionRecord
from env.vocabulary import Item, ItemId
from policies.candidates.cells import LEAST_ITEMS, ClusterIndex
from serve.content.titles import TextsEncoder, content_blocks
from serve.feed.pipeline import Pipeline
from serve.store.ledger import WritePath, put_items, remove_item
from serve.store.store import NotKept, Store, off_loop, read
from serve.store.totals import OtherLengthError
from serve.wire.codec import ProblemError
from serve.wire.items import FoundResponse, ItemBody, ItemsRequest, ItemsResponse

logger = logging.getLogger(__name__)
POLL_S = 1.0
NICE = 10


class Indexing:
    """Builds an index for a large catalogue, and a new one once the catalogue has changed."""

    def __init__(self, pipeline: Pipeline, *, least_items: int = LEAST_ITEMS) -> None:
        """Start without an index; a catalogue below `least_items` is scanned."""
        self._pipeline = pipeline
        self._least_items = least_items
        self._cells: ClusterIndex | None = None

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
        cells = ClusterIndex.build(catalogue, self._pipeline.served.states.last_aligned)
        self._follow(cells)
        self._pipeline.look_in(cells)
        self._follow(cells)  # a version swapped in meanwhile followed the old index
        self._cells = cells
        logger.info("indexed items=%d", len(cells.worth))
        return True

    def _follow(self, cells: ClusterIndex) -> None:
        """Update an index to the version that is served now, so that no page has to."""
        items = self._pipeline.served.states.last_aligned
        if items is not None:
            cells.follow(items)


def _step_back() -> None:
    """Lower this thread's priority, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)


REFRESH_LINES = 256


class ItemService:
    """Puts, gets, searches and deletes items for the API."""

    def __init__(
        self,
        store: Store,
        ledger: WritePath,
        catalogue: Catalogue,
        *,
        now_ms: Callable[[], int],
        titles: TextsEncoder | None = None,
    ) -> None:
        """Bring the catalogue up to the log's end; from now on only this object updates it.

        `titles` embeds titles into the items' features; None leaves them out.
        """
        self._store = store
        self._ledger = ledger
        self._catalogue = catalogue
        self._now_ms = now_ms
        self._titles = titles
        self._refreshing = asyncio.Lock()
        while self._apply(self._read_changes()) == REFRESH_LINES:
            pass

    def __len__(self) -> int:
        return len(self._catalogue)

    @property
    def n_listed(self) -> int:
        """The number of items that may be shown, as far as this process has applied the log."""
        return int(np.count_nonzero(self._catalogue.listed))

    async def put(self, item_id: ItemId, body: ItemBody) -> Item:
        """Put one item; return its present state, once it is on disk.

        Raises:
            ProblemError: 422, the id differs from the path's, or the vector's length from the
                catalogue's.
        """
        if body.item_id not in (None, item_id):
            raise ProblemError(422, f"expected {item_id}, as in the path", "item_id")
        try:
            await self._put([body.item(item_id)])
        except OtherLengthError as error:
            raise ProblemError(422, str(error), "vector") from error
        return await self.get(item_id)

    async def put_many(self, request: ItemsRequest) -> ItemsResponse:
        """Put all items or none; return the counts of changes, once they are on disk.

        Raises:
            ProblemError: 422, a vector has another length than those of the catalogue.
        """
        items = [body.item(ItemId(body.item_id or "")) for body in request.items]
        try:
            return await self._put(items)
        except OtherLengthError as error:
            raise ProblemError(422, str(error), f"items[{error.place}].vector") from error

    async def get(self, item_id: ItemId) -> Item:
        """Return an item.

        Raises:
            ProblemError: 404, the item is unknown.
        """
        found = await read(self._store, lambda view: view.find_items([item_id]))
        item = found.get(item_id)
        if item is None:
            raise _unknown(item_id)
        return item

    async def delete(self, item_id: ItemId) -> None:
        """Remove an item for good, on every replica.

        Raises:
            ProblemError: 404, the item is unknown.
        """
        work = partial(remove_item, item_id=item_id, at_ms=self._now_ms())
        if not await self._ledger.commit(work, durable=True):
            raise _unknown(item_id)
        await self._catch_up()

    async def search(self, text: str, limit: int) -> FoundResponse:
        """Return items in which every word of `text` begins a word, the best match first.

        Raises:
            ProblemError: 501, the store has no text index.
        """
        try:
            return FoundResponse(tuple(await asyncio.to_thread(self._search, text, limit)))
        except NotKept as error:
            raise ProblemError(501, str(error)) from error

    async def refresh(self, offset: int) -> None:
        """Apply item changes up to an offset at least, in steps that yield to other requests."""
        if self._catalogue.sequence < offset:
            await self._catch_up()

    async def _catch_up(self) -> None:
        async with self._refreshing:
            while await self._apply_some() == REFRESH_LINES:  # noqa: ASYNC110  # yields to other requests
                await asyncio.sleep(0)

    async def _put(self, items: Sequence[Item]) -> ItemsResponse:
        projections = self._catalogue.projections
        blocks = await asyncio.to_thread(content_blocks, items, self._titles, projections)
        work = partial(
            put_items,
            items=items,
            blocks=blocks,
            at_ms=self._now_ms(),
            are_new=True,
            projections=projections,
        )
        answer = await self._ledger.commit(work, durable=True)
        await self._catch_up()
        return answer

    def _search(self, text: str, limit: int) -> list[Item]:
        with self._store.view() as view:
            return view.search(text, limit)

    async def _apply_some(self) -> int:
        return self._apply(await off_loop(self._store, self._read_changes))

    def _read_changes(self) -> list[LogLine]:
        return list(self._store.item_lines(self._catalogue.sequence, REFRESH_LINES))

    def _apply(self, lines: Sequence[LogLine]) -> int:
        for line in lines:
            if isinstance(line.record, ItemRecord | ProjectionRecord):
                self._catalogue.apply(line.record, sequence=line.offset)
        return len(lines)


def _unknown(item_id: ItemId) -> ProblemError:
    return ProblemError(404, f"no item {item_id}", "item_id")
