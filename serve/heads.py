"""The page cache: the user, session and slots of recent pages, which feedback is checked against.

Feedback names a decision, and its user and session stand in the page's record. Pages of this
process cost no read; unknown pages are read once per batch and remembered. Pages never change, so
the cache is never stale.
"""

from collections.abc import Collection
from typing import NamedTuple

from env.records import PageRecord
from env.vocabulary import PageId, SessionId, UserKey
from serve.reading import read
from serve.store import Store

MAX_HEADS = 20_000


class Head(NamedTuple):
    """The parts of a page that feedback needs."""

    user: UserKey
    session: SessionId
    slots: tuple[int, ...]


class Heads:
    """A bounded cache of the headers of recently used pages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heads: dict[PageId, Head] = {}

    def remember(self, page: PageRecord) -> Head:
        """Store a page's header, and evict the one that was used longest ago."""
        head = Head(page.user, page.session, tuple(drawn.slot for drawn in page.drawn))
        self._heads[page.page_id] = head
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        return head

    async def find(self, page_ids: Collection[PageId]) -> dict[PageId, Head]:
        """Return the headers of those pages that are in the log."""
        found = {key: head for key in page_ids if (head := self._heads.pop(key, None)) is not None}
        self._heads |= found
        unknown = [page_id for page_id in page_ids if page_id not in found]
        if unknown:
            pages = await read(self._store, lambda view: view.pages(unknown))
            found |= {page_id: self.remember(page) for page_id, page in pages.items()}
        return found
