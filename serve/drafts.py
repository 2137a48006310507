"""A page between its draw and its commit: what it was drawn from, so that a commit can refuse it.

While a page waits for the writer, its person may block somebody and an item may be taken down, by
another request or another replica. Whoever was told that this is done must not see it on a page
afterwards, and nothing may be taken off a page that is drawn; so such a page is never written, and
another one is drawn.

Rejected: drawing inside the transaction (one page at a time, for all replicas), and comparing the
catalogue's sequence alone (a bulk of uploads would have every page drawn again that was waiting,
though none of them is on it).
"""

from dataclasses import dataclass
from typing import NamedTuple

from env.content import fold_tag
from env.records import PageRecord
from env.users import UserState
from env.vocabulary import Item


@dataclass(frozen=True, slots=True)
class Draft:
    """A page that is not in the log yet.

    Attributes:
        page: as drawn.
        request: how the ids of all pages begin that answer the same request, this one's included.
        state: of its person.
        sequence: of the catalogue.
        items: of its cards, as the catalogue had them.
    """

    page: PageRecord
    request: str
    state: UserState
    sequence: int
    items: tuple[Item, ...]

    def is_blocked_by(self, now: UserState) -> bool:
        """Return whether the person, as they are now, has blocked something that is on it."""
        tags = frozenset(now.blocked_tags)
        return any(
            item.creator in now.blocked or not tags.isdisjoint(map(fold_tag, item.tags))
            for item in self.items
        )


class Moved(NamedTuple):
    """What is true now, after a page was drawn from something else."""

    state: UserState
    sequence: int
