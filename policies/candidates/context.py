"""The history of a user in catalogue indices, looked up once a page for retrieval and filters.

A user's state holds item keys and names; a page needs catalogue indices and codes. The recent
history is short and looked up anew. The sets of what was seen earlier change once in some hundred
cards, and a catalogue grows by single items. So their indices are cached by the sets' bytes, and
only changed items are looked up again.
"""

from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from env.arrays.index_sets import distinct, is_among
from env.items.catalogue import Catalogue
from env.items.content import MAX_TAGS, fold_tag
from env.users import state as users
from env.users.interests import Tally
from env.users.open_cards import OpenCard, is_open
from env.users.seen import Fingerprints, SeenSet, fingerprints, unpack
from env.users.state import UserState
from env.vocabulary import Bools, Ints, ShortKeys

CREATOR_GAP = 10
"""Cards before a creator or a sound may come again."""

_NOTHING = np.zeros(0, dtype=np.int64)
MAX_BYTES = 1 << 26
"""Upper bound on the cache of one catalogue: about 170 users with 20,000 cards each, whose
arrays take 20 bytes a card."""


@dataclass(slots=True)
class _Found:
    values: Fingerprints  # (n,) ascending
    n_changes: int  # changes of the catalogue that are in `index`
    direct: Ints  # items that have one of them
    index: Ints  # these and their copies, ascending

    @property
    def n_bytes(self) -> int:
        return self.values.nbytes + self.direct.nbytes + self.index.nbytes


class SeenIndex:
    """A cache of the items in sets of fingerprints, for one catalogue."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Start empty."""
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._found: OrderedDict[tuple[bytes, ...], _Found] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """Size of the cached arrays in bytes."""
        return self._n_bytes

    def find(self, sets: tuple[SeenSet, ...], catalogue: Catalogue) -> Ints:
        """Return the items in these sets and their copies, ascending."""
        key = tuple(some.packed for some in sets)
        found = self._found.pop(key, None)
        if found is None:
            values = np.unique(np.concatenate([unpack(some.packed, some.n) for some in sets]))
            found = _Found(values, 0, _NOTHING, _NOTHING)
        else:
            self._n_bytes -= found.n_bytes
        _follow(found, catalogue)
        self._found[key] = found
        self._n_bytes += found.n_bytes
        while self._n_bytes > self._max_bytes and len(self._found) > 1:
            self._n_bytes -= self._found.popitem(last=False)[1].n_bytes
        return found.index


_indices: WeakKeyDictionary[Catalogue, SeenIndex] = WeakKeyDictionary()


def seen_earlier(sets: tuple[SeenSet, ...], catalogue: Catalogue) -> Ints:
    """Return the items in these sets and their copies, ascending; the array is not to be changed.

    An item counts as seen if it has the fingerprint of one that was.
    """
    if not sets:
        return _NOTHING
    return _indices.setdefault(catalogue, SeenIndex()).find(sets, catalogue)


def _follow(found: _Found, catalogue: Catalogue) -> None:
    """Look up the items that changed; all of them at first."""
    n_changes = catalogue.n_changes
    if found.n_changes == n_changes:
        return
    if not found.n_changes:
        changed = np.arange(len(catalogue))
    else:
        changed = catalogue.changed_since(found.n_changes)
    short = fingerprints(catalogue.keys[changed].astype(np.uint32))
    values = found.values
    is_seen = values.take(values.searchsorted(short), mode="clip") == short
    found.direct = distinct(np.concatenate([found.direct, changed[is_seen]]))
    found.index = catalogue.with_copies(found.direct)
    found.n_changes = n_changes


@dataclass(frozen=True, slots=True)
class UserHistory:
    """A user's history in the catalogue's indices and codes."""

    user: UserState
    catalogue: Catalogue
    # Indices of items that were seen lately or are on an open page, and of their copies, ascending.
    items: Ints
    earlier: Ints  # indices of all items seen before those, and of their copies, ascending
    own: Ints  # indices of the user's own uploads, ascending
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
        cls,
        user: UserState,
        catalogue: Catalogue,
        now_ms: int,
        creator_gap: int = CREATOR_GAP,
        own: Ints = _NOTHING,
    ) -> "UserHistory":
        """Look up a user's history.

        Args:
            user: its sets of items seen earlier are unpacked once for many pages.
            catalogue: of the items.
            now_ms: decides which pages are still open.
            creator_gap: a creator or sound is recent if it was among this many of the last cards,
                delivered ones counted as the latest; for a followed creator half of that.
            own: indices of the user's own uploads, ascending.
        """
        seen = catalogue.find(users.seen_keys(user))
        delivered = catalogue.find(users.delivered_keys(user, now_ms))
        items = catalogue.with_copies(np.concatenate([seen, delivered]))
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
            seen_earlier(user.seen_sets, catalogue),
            own,
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
        for index in (self.earlier, self.items, self.own, self.blocked):
            new[index] = False
        return new

    def again(self, allowed: Bools) -> Ints:
        """Return the allowed items in the history that are not blocked, the first seen first.

        Items on an open page and copies of seen items come last.
        """
        sets = [seen_earlier((some,), self.catalogue) for some in self.user.seen_sets]
        recent = _in_order(users.seen_keys(self.user), self.seen, self.catalogue)
        index = np.concatenate([*sets, recent, self.items])
        last = np.full(len(self.catalogue), -1, dtype=np.int64)
        last[index[::-1]] = np.arange(len(index))[::-1]  # copies of copies stand where first met
        if len(recent):  # an item that came again is as recent as its last time
            last[recent] = len(index) - len(self.items) - len(recent) + np.arange(len(recent))
        allowed = allowed.copy()
        for out in (self.own, self.blocked):
            allowed[out] = False
        again = np.flatnonzero((last >= 0) & allowed)
        ordered: Ints = again[last[again].argsort(kind="stable")]
        return ordered

    def is_seen(self, index: Ints) -> Bools:
        """Return, shape of `index`, which items, or copies of them, the user has ever seen."""
        earlier = self.earlier
        found = is_among(index, self.items)
        if len(earlier):
            found |= earlier.take(earlier.searchsorted(index), mode="clip") == index
        return found

    def n_new(self, allowed: Bools, n_allowed: int) -> int:
        """Return how many of the n_allowed allowed items are new to the user."""
        if len(self.earlier):
            return int(np.count_nonzero(self.new(allowed)))
        return n_allowed - int(np.count_nonzero(allowed[self._out()]))

    def n_wanted(self, allowed: Bools, n_allowed: int) -> int:
        """Return how many allowed items the user has not blocked, seen ones included."""
        return n_allowed - int(np.count_nonzero(allowed[self._unwanted()]))

    def _out(self) -> Ints:
        unwanted = self._unwanted()
        return distinct(np.concatenate([self.items, unwanted])) if len(unwanted) else self.items

    def _unwanted(self) -> Ints:
        if not len(self.own):
            return self.blocked
        return distinct(np.concatenate([self.own, self.blocked]))

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


def _in_order(short_keys: ShortKeys, index: Ints, catalogue: Catalogue) -> Ints:
    """Return items in the order of their short keys."""
    places = {key: place for place, key in enumerate(short_keys.tolist())}
    keys = catalogue.keys[index].astype(np.uint32).tolist()
    ordered: Ints = index[np.argsort([places[key] for key in keys], kind="stable")]
    return ordered


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
