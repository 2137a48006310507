"""Whose page it was: what feedback needs of a page, remembered for the pages seen last.

Feedback names a decision; its person and session stand in the page's record. Most feedback comes
for pages that the same process made a moment ago, so it costs no read. Pages never change, so
what is remembered is never wrong.
"""

from typing import NamedTuple

from env.records import PageRecord
from env.vocabulary import PageId, SessionId, UserKey
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

    def find(self, page_id: PageId) -> Head | None:
        """Return the head of a page in the log, or None."""
        head = self._heads.pop(page_id, None)
        if head is not None:
            self._heads[page_id] = head
            return head
        with self._store.view() as view:
            page = view.page(page_id)
        return None if page is None else self.remember(page)
