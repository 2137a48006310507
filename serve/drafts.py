"""A pending page: a page between its draw and its commit, with the state it was drawn from.

While a page waits for the writer, its user may block a creator and an item may be taken down. The
commit then refuses the page, and the engine draws another one. Derivation and rejected
alternatives: `docs/decisions/serve-page-commit.md`.
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
        request: common prefix of the ids of all pages that answer the same request.
        state: state of the user at the draw.
        sequence: sequence number of the catalogue at the draw.
        items: items of the cards, as the catalogue had them.
        is_last: write the page even if its user's state has changed, as long as every item on it
            may still be shown.
        alike: result of `find_alike` if `is_last`; otherwise empty.
    """

    page: PageRecord
    request: str
    state: UserState
    sequence: int
    items: tuple[Item, ...]
    is_last: bool
    alike: ShortKeys

    def still_suits(self, now: UserState) -> bool:
        """Return whether the page may still be written, given its user's present state."""
        if now == self.state:
            return True
        if not self.is_last or _terms(now.profile) != _terms(self.state.profile):
            return False
        return not self._is_blocked_by(now)

    def _is_blocked_by(self, now: UserState) -> bool:
        """Return whether the user, in their present state, has blocked an item of the page."""
        if np.isin(self.alike, unwanted_keys(now)).any():
            return True
        creators, tags = frozenset(blocked_creators(now)), frozenset(now.blocked_tags)
        return any(
            item.creator in creators or not tags.isdisjoint(map(fold_tag, item.tags))
            for item in self.items
        )


class Moved(NamedTuple):
    """The present state, after a page was drawn from an older one."""

    state: UserState
    sequence: int


def find_alike(catalogue: Catalogue, page: PageRecord) -> ShortKeys:
    """Return the short keys of a page's items and of their near-duplicates, in any order."""
    found = [catalogue.index_of(card.item_id) for card in page.cards]
    index = np.array([index for index in found if index is not None], dtype=np.int64)
    alike = catalogue.alike(catalogue.duplicates[index])
    return catalogue.keys[alike].astype(np.uint32)


def _terms(profile: Profile) -> tuple[str, str, int]:
    """Return the fields of a profile on which eligibility depends, see `policies.eligibility`."""
    return profile.country, profile.language, profile.birth_year
