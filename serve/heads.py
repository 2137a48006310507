"""Whose page it was: what feedback needs of a page, remembered for the pages seen last.

Feedback names a decision; its person and session stand in the page's record. What a process drew
itself costs no read. What another replica drew is read once, with all else of the batch that is not
known, and remembered as well. Pages never change, so what is remembered is never wrong.
"""

from collections.abc import Collection
from typing import NamedTuple

from env.records import PageRecord
from env.vocabulary import PageId, SessionId, UserKey
from serve.reading import read
from serve.store import Store

MAX_HEADS = 20_000


class Head(NamedTuple):
    """What feedback about a page needs of it."""

    user: UserKey
    session: SessionId
    slots: tuple[int, ...]


class Heads:
    """The heads of the pages that were used last."""

    def __init__(self, store: Store) -> None:
        """Look up in this store what is not remembered."""
        self._store = store
        self._heads: dict[PageId, Head] = {}

    def remember(self, page: PageRecord) -> Head:
        """Keep a page's head, and let go of the one used longest ago."""
        head = Head(page.user, page.session, tuple(drawn.slot for drawn in page.drawn))
        self._heads[page.page_id] = head
        if len(self._heads) > MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        return head

    async def find(self, page_ids: Collection[PageId]) -> dict[PageId, Head]:
        """Return the heads of pages in the log; of others there are none."""
        found = {key: head for key in page_ids if (head := self._heads.pop(key, None)) is not None}
        self._heads |= found
        unknown = [page_id for page_id in page_ids if page_id not in found]
        if unknown:
            pages = await read(self._store, lambda view: view.pages(unknown))
            found |= {page_id: self.remember(page) for page_id, page in pages.items()}
        return found
