"""What the engine needs of whatever draws its pages, so that a test can draw them otherwise."""

from typing import Protocol

from env.catalogue import Catalogue
from env.records import PageRecord
from env.users import UserState
from env.vocabulary import PageId, SessionId, UserKey
from serve.folds import Folds
from serve.wire import FeedRequest


class PageMaker(Protocol):
    """Draws pages from a catalogue that the engine keeps up with the log."""

    @property
    def catalogue(self) -> Catalogue:
        """The items, read by the maker and moved by the engine only."""
        ...

    @property
    def folds(self) -> Folds:
        """What the log says about items and uploads, as of the version that pages are drawn by."""
        ...

    def page(
        self,
        request: FeedRequest,
        user: UserKey,
        state: UserState,
        *,
        session: SessionId,
        page_id: PageId,
        now_ms: int,
        origin: str,
    ) -> PageRecord | None:
        """Return a page of at least one card, drawn under this id; None: nothing may be shown.

        `origin` is the pseudonym of the block of addresses that the request comes from.
        """
        ...

    def committed(self, page: PageRecord) -> None:
        """Learn that a page which was drawn here is in the log, so that its person gets it."""
        ...
