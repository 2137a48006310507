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
    """A page that is not in the log yet, with the state it was drawn from."""

    page: PageRecord
    request: str  # common prefix of the ids of all pages that answer the same request
    state: UserState  # of the user, at the draw
    sequence: int  # of the catalogue, at the draw
    items: tuple[Item, ...]  # of the cards, as the catalogue had them
    is_last: bool  # write it despite a changed state, if every item may still be shown
    alike: ShortKeys  # result of `find_alike` if `is_last`; otherwise empty

    def still_suits(self, now: UserState) -> bool:
        """Return whether the page may still be written, given its user's present state."""
        if now == self.state:
            return True
        if not self.is_last or _terms(now.profile) != _terms(self.state.profile):
            return False
        return not self._is_blocked_by(now)

    def _is_blocked_by(self, now: UserState) -> bool:
        if np.isin(self.alike, unwanted_keys(now)).any():
            return True
        creators, tags = frozenset(blocked_creators(now)), frozenset(now.blocked_tags)
        return any(
            item.creator in creators or not tags.isdisjoint(map(fold_tag, item.tags))
            for item in self.items
        )


class Moved(NamedTuple):
    """The state that a pending page should have been drawn from: the user's and the catalogue's."""

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
