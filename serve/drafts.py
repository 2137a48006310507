"""A page between its draw and its commit: what it was drawn from, so that a commit can refuse it.

While a page waits for the writer, its person may block somebody, turn a card away or say that they
are younger, and an item may be taken down, by another request or another replica. Whoever was told
that this is done must not see it on a page afterwards, and nothing may be taken off a page that is
drawn; so such a page is never written, and another one is drawn. What else a person does meanwhile
has a page drawn again too, but not the last time: that page is only a little out of date.

Rejected: drawing inside the transaction (one page at a time, for all replicas), and comparing the
catalogue's sequence alone (a bulk of uploads would have every page drawn again that was waiting,
though none of them is on it), and working out anew, inside the transaction, what the person may be
shown (the writer would wait for the catalogue's columns, which another thread moves).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from env.catalogue import Catalogue
from env.content import fold_tag
from env.records import PageRecord
from env.users import UserState, blocked_creators, unwanted_keys
from env.vocabulary import Item, Profile, ShortKeys


@dataclass(frozen=True, slots=True)
class Draft:
    """A page that is not in the log yet.

    Attributes:
        page: as drawn.
        request: how the ids of all pages begin that answer the same request, this one's included.
        state: of its person.
        sequence: of the catalogue.
        items: of its cards, as the catalogue had them.
        is_last: it is written even if its person has changed, as long as everything on it may
            still be shown to them.
        alike: what `find_alike` says of the last one; of others nobody asks.
    """

    page: PageRecord
    request: str
    state: UserState
    sequence: int
    items: tuple[Item, ...]
    is_last: bool
    alike: ShortKeys

    def still_suits(self, now: UserState) -> bool:
        """Return whether the page may still be written for its person as they are now."""
        if now == self.state:
            return True
        if not self.is_last or _terms(now.profile) != _terms(self.state.profile):
            return False
        return not self._is_blocked_by(now)

    def _is_blocked_by(self, now: UserState) -> bool:
        """Return whether the person, as they are now, wants no more of something that is on it."""
        if np.isin(self.alike, unwanted_keys(now)).any():
            return True
        creators, tags = frozenset(blocked_creators(now)), frozenset(now.blocked_tags)
        return any(
            item.creator in creators or not tags.isdisjoint(map(fold_tag, item.tags))
            for item in self.items
        )


class Moved(NamedTuple):
    """What is true now, after a page was drawn from something else."""

    state: UserState
    sequence: int


def find_alike(catalogue: Catalogue, page: PageRecord) -> ShortKeys:
    """Return the short keys of a page's items and of their near-duplicates, in any order."""
    found = [catalogue.index_of(card.item_id) for card in page.cards]
    index = np.array([index for index in found if index is not None], dtype=np.int64)
    alike = catalogue.alike(catalogue.duplicates[index])
    return catalogue.keys[alike].astype(np.uint32)


def _terms(profile: Profile) -> tuple[str, str, int]:
    """Return all of a profile that what may be shown hangs on, see `policies.eligibility`."""
    return profile.country, profile.language, profile.birth_year
