"""The history of a user in catalogue indices, looked up once a page for retrieval and filters.

A user's state holds item keys and names; a page needs catalogue indices and codes. The history is
short, so it is held as indices and no page scans a column of the whole catalogue. Keys are compared
by their low 32 bits, so one unseen item in four million counts as seen.
"""

from dataclasses import dataclass

import numpy as np

from env.arrays.index_sets import distinct, is_among
from env.items.catalogue import Catalogue
from env.items.content import MAX_TAGS, fold_tag
from env.users import state as users
from env.users.interests import Tally
from env.users.open_cards import OpenCard, is_open
from env.users.state import UserState
from env.vocabulary import Bools, Ints

CREATOR_GAP = 10
"""Cards before a creator or a sound may come again."""

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class UserHistory:
    """A user's history in the catalogue's indices and codes."""

    user: UserState
    catalogue: Catalogue
    items: Ints  # indices of items that were seen or are on an open page, ascending
    seen: Ints  # indices of recently seen items
    delivered: Ints  # indices of items on an open page
    # Indices of unwanted items, ascending: those of a blocked creator, with a blocked tag, or
    # similar to an item marked as not interesting.
    blocked: Ints
    blocked_tags: frozenset[str]  # blocked tags, folded
    recent_creators: Ints  # codes of creators among the last cards
    recent_sounds: Ints  # codes of sounds among the last cards

    @classmethod
    def of(
        cls, user: UserState, catalogue: Catalogue, now_ms: int, creator_gap: int = CREATOR_GAP
    ) -> "UserHistory":
        """Look up a user's history.

        Args:
            now_ms: decides which pages are still open.
            creator_gap: a creator or sound is recent if it was among this many of the last cards,
                delivered ones counted as the latest; for a followed creator half of that.
        """
        seen = catalogue.find(users.seen_keys(user))
        delivered = catalogue.find(users.delivered_keys(user, now_ms))
        items = distinct(np.concatenate([seen, delivered]))
        coming = [
            card
            for page in user.pages
            if is_open(page, now_ms)
            for card in page.cards
            if not card.impressed
        ]
        tags = frozenset(user.blocked_tags)
        blocked = _find_blocked(user, catalogue, tags)
        creators = _recent_creators(user, coming, creator_gap)
        sounds = _within(user.sounds, [c.sound for c in coming], user.n_cards, creator_gap)
        return cls(
            user,
            catalogue,
            items,
            seen,
            delivered,
            blocked,
            tags,
            catalogue.codes.creators(creators),
            catalogue.codes.sounds(sounds) if sounds else _NOTHING,
        )

    def new(self, allowed: Bools) -> Bools:
        """Return, shape (n_items,), which allowed items are neither in the history nor blocked."""
        new = allowed.copy()
        new[self.items] = False
        new[self.blocked] = False
        return new

    def again(self, allowed: Bools) -> Ints:
        """Return the allowed items in the history that are not blocked, ascending."""
        again = self.items[allowed[self.items]]
        if not len(self.blocked):
            return again
        return again[~is_among(again, self.blocked)]

    def n_new(self, allowed: Bools, n_allowed: int) -> int:
        """Return how many of the n_allowed allowed items are new to the user."""
        return n_allowed - int(np.count_nonzero(allowed[self._out()]))

    def n_wanted(self, allowed: Bools, n_allowed: int) -> int:
        """Return how many allowed items the user has not blocked, seen ones included."""
        return n_allowed - int(np.count_nonzero(allowed[self.blocked]))

    def _out(self) -> Ints:
        return (
            distinct(np.concatenate([self.items, self.blocked]))
            if len(self.blocked)
            else self.items
        )

    def is_blocked(self, index: Ints) -> Bools:
        """Return, shape of `index`, which items are blocked, by all of their tags.

        The catalogue's columns hold an item's first tags only; items with more are looked up.
        """
        catalogue, blocked = self.catalogue, is_among(index, self.blocked)
        if not self.blocked_tags:
            return blocked
        for row in np.flatnonzero(~blocked & (catalogue.n_tags_of[index] >= MAX_TAGS)):
            tags = map(fold_tag, catalogue.item(int(index[row])).tags)
            blocked[row] = not self.blocked_tags.isdisjoint(tags)
        return blocked


def _find_blocked(user: UserState, catalogue: Catalogue, tags: frozenset[str]) -> Ints:
    """Return the blocked items, and near-duplicates of unwanted ones."""
    blocked: list[Ints] = []
    unwanted = catalogue.find(users.unwanted_keys(user))
    if creators := users.blocked_creators(user):
        blocked.append(catalogue.of_creators(catalogue.codes.creators(creators)))
    if len(unwanted):
        blocked.append(catalogue.alike(catalogue.duplicates[unwanted]))
    if tags:
        codes = catalogue.codes.tags(sorted(tags))
        blocked.append(catalogue.of_tags(codes[codes > 0]))
    return distinct(np.concatenate(blocked)) if blocked else _NOTHING


def _recent_creators(user: UserState, coming: list[OpenCard], gap: int) -> set[str]:
    """Return recent creators; a followed creator is recent for half the gap only."""
    names: list[str] = [card.creator for card in coming]
    recent = _within(user.creators, names, user.n_cards, gap)
    if not recent or not (followed := users.followed(user).intersection(recent)):
        return recent
    return recent - followed | followed & _within(user.creators, names, user.n_cards, gap // 2)


def _within(shown: tuple[Tally, ...], coming: list[str], n_cards: int, gap: int) -> set[str]:
    """Return the names among the last `gap` cards, delivered ones counted as the latest."""
    if gap <= 0:
        return set()
    since = n_cards + len(coming) - gap
    names = {tally.name for tally in shown if tally.at > since}
    names.update(coming[-gap:])
    names.discard("")
    return names
