"""The protocol through which the engine draws pages, so that a test can draw them otherwise."""

from typing import Protocol

from env.catalogue import Catalogue
from env.records import PageRecord
from env.users import UserState
from env.vocabulary import PageId, SessionId, UserKey
from serve.folds import Folds
from serve.wire import FeedRequest


class PageMaker(Protocol):
    """Draws pages from a catalogue that the engine keeps current with the log."""

    @property
    def catalogue(self) -> Catalogue:
        """The items; only the engine updates them."""
        ...

    @property
    def folds(self) -> Folds:
        """The item statistics and audiences of the version that draws the pages."""
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
        """Return a page of at least one card, drawn under this id; None: no item may be shown.

        `origin` is the pseudonym of the address block that the request comes from.
        """
        ...

    def committed(self, page: PageRecord) -> None:
        """Learn that a page that was drawn here is in the log and will be delivered."""
        ...
