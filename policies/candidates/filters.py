"""Filters: they remove proposed items that the user must not see and give a reason for each.

A filter is a class with a name and a method `removes`, and a line in `FILTERS`. All filtering
happens before anything is drawn. Hard rules never give way; soft rules give way, least important
first, when too few items remain, and the caller is told. Rejected alternatives:
`docs/decisions/eligibility.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.arrays.index_sets import first_indices, is_among
from env.items.topics import topics
from env.vocabulary import Bools, Ints
from policies.candidates.eligibility import REASONS as INELIGIBLE
from policies.candidates.query import Filter, Query


@dataclass(frozen=True)
class Blocked:
    """What the user has blocked, or is similar to what they do not want."""

    name: str = "blocked"
    is_hard: bool = True

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove blocked items."""
        return query.history.is_blocked(index)


@dataclass(frozen=True)
class Own:
    """The user's own uploads."""

    name: str = "own"
    is_hard: bool = True

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove the user's own uploads."""
        return is_among(index, query.history.own)


@dataclass(frozen=True)
class Delivered:
    """Items on an open page."""

    name: str = "delivered"
    is_hard: bool = False

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove items on an open page."""
        return is_among(index, query.history.delivered)


@dataclass(frozen=True)
class Seen:
    """Items that the user has ever seen, and copies of them."""

    name: str = "seen"
    is_hard: bool = False

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove seen items."""
        return query.history.is_seen(index)


@dataclass(frozen=True)
class Duplicate:
    """Near-duplicates of seen items, and of items that come earlier."""

    name: str = "duplicate"
    is_hard: bool = False

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove all but the first of near-duplicates."""
        codes = query.catalogue.duplicates
        duplicates = codes[index]
        known = is_among(duplicates, codes[query.history.seen])
        return known | _repeats(duplicates, left & ~known)


@dataclass(frozen=True)
class CreatorCap:
    """Items of a creator beyond `per_creator`, or beyond twice that of topics insisted on.

    A topic may have few creators, and a user who insists on it would see no more of it.
    """

    name: str = "creator"
    is_hard: bool = False

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove all but the first of a creator's items; unknown creators have no cap."""
        creators = query.catalogue.creators[index]
        nth = _nth_of_left(creators, left)
        most = query.settings.per_creator * (1 + _is_insisted(query, index))
        beyond: Bools = (nth >= most) & (creators > 0)
        return beyond


@dataclass(frozen=True)
class Recent:
    """Items whose creator or sound was among the user's last cards."""

    name: str = "recent"
    is_hard: bool = False

    def removes(self, query: Query, index: Ints, left: Bools) -> Bools:
        """Remove items of recent creators and sounds, unless the user insists on their topic."""
        history, catalogue = query.history, query.catalogue
        recent = is_among(catalogue.creators[index], history.recent_creators)
        if len(history.recent_sounds):
            recent |= is_among(catalogue.sounds[index], history.recent_sounds)
        return recent & ~_is_insisted(query, index)


_SUITABLE: Sequence[Filter] = (Blocked(), Own(), Delivered(), Seen(), Duplicate())
_PAUSE = Recent()
FILTERS: Sequence[Filter] = (*_SUITABLE, CreatorCap(), _PAUSE)
"""The filters in their order: the first that removes an item is the reason that is counted. Soft
rules give way from the last to the first."""

REASONS = (*INELIGIBLE, *(rule.name for rule in FILTERS))
"""Reasons for removal. "language", and "pool" for stopped items, give way in the eligibility
rules."""


@dataclass(frozen=True)
class Filtered:
    """The remaining items, and the reasons for which the others were removed."""

    kept: Ints  # (m,) catalogue indices, in the order of the proposal
    rows: Ints  # (m,) their indices in the proposal
    removed: Ints  # (n - m,) catalogue indices, in the order of the proposal
    reasons: Ints  # (n - m,) codes into `names`
    relaxed: tuple[str, ...]  # the rules that gave way, those of `Eligible.relaxed` included
    names: tuple[str, ...] = ()  # reasons for removal

    @property
    def degraded(self) -> str:
        """The reason why the page is less than requested; empty if it is not.

        >>> empty = np.zeros(0, dtype=np.int64)
        >>> Filtered(empty, empty, empty, empty, ("creator", "seen")).degraded
        'gave way: creator, seen'
        """
        return f"gave way: {', '.join(self.relaxed)}" if self.relaxed else ""

    def counts(self) -> dict[str, int]:
        """Return the number of removed items by reason."""
        counts = np.bincount(self.reasons, minlength=len(self.names)).tolist()
        return {reason: n for reason, n in zip(self.names, counts, strict=True) if n}


def filter_candidates(query: Query, index: Ints, filters: Sequence[Filter] = FILTERS) -> Filtered:
    """Return the proposed items that may be shown to a user now.

    While fewer than `query.size` are kept, soft rules give way, each for only as many items as are
    missing: the pause of a creator or sound, the cap on a creator, near-duplicates, seen items, at
    last items of an open page.

    Args:
        query: gives the user's history and the eligible items.
        index: shape (n,), distinct items, the most wanted first: of near-duplicates and of a
            creator's items the first are kept.
        filters: applied in this order.
    """
    names = (*INELIGIBLE, *(rule.name for rule in filters))
    reason = _find_reasons(query, index, filters)
    relaxed = (*query.eligible.relaxed, *_give_way(reason, filters, query.size))
    kept = reason < 0
    return Filtered(index[kept], kept.nonzero()[0], index[~kept], reason[~kept], relaxed, names)


def suitable(query: Query, index: Ints) -> Ints:
    """Return the items that no filter but the cap on a creator removes, in their order."""
    return index[_find_reasons(query, index, (*_SUITABLE, _PAUSE)) < 0]


def _find_reasons(query: Query, index: Ints, filters: Sequence[Filter]) -> Ints:
    """Return the code of the first rule against each item, -1 where there is none."""
    reason = query.eligible.reason[index].astype(np.int64)
    left = reason < 0
    for code, rule in enumerate(filters, len(INELIGIBLE)):
        goes = rule.removes(query, index, left) & left
        if np.count_nonzero(goes):
            reason[goes] = code
            left = left & ~goes
    return reason


def _give_way(reason: Ints, filters: Sequence[Filter], at_least: int) -> tuple[str, ...]:
    """Relax the last soft rules first, in place, until enough items are kept; return them."""
    relaxed = []
    missing = at_least - np.count_nonzero(reason < 0)
    if missing <= 0:
        return ()
    for code, rule in reversed([*enumerate(filters, len(INELIGIBLE))]):
        if rule.is_hard:
            continue
        back = np.flatnonzero(reason == code)[: max(missing, 0)]
        if len(back):
            reason[back] = -1
            relaxed.append(rule.name)
            missing -= len(back)
    return tuple(relaxed)


def _is_insisted(query: Query, index: Ints) -> Bools:
    """Return, shape (n,), which items are of a topic that the user insists on."""
    insisted, _ = query.insisted
    if not len(insisted):
        return np.zeros(len(index), dtype=np.bool_)
    return is_among(topics(query.catalogue, index), insisted)


def _repeats(codes: Ints, left: Bools) -> Bools:
    """Return, shape (n,), which remaining items repeat the code of an earlier remaining item."""
    rows = left.nonzero()[0]
    repeats = np.zeros(len(codes), dtype=np.bool_)
    repeats[rows] = True
    repeats[rows[first_indices(codes[rows])]] = False
    return repeats


def _nth_of_left(codes: Ints, left: Bools) -> Ints:
    """Return, shape (n,), how many earlier remaining items have the same code; 0 if removed."""
    nth = np.zeros(len(codes), dtype=np.int64)
    rows = left.nonzero()[0]
    order = codes[rows].argsort(kind="stable")
    places = rows[order]
    grouped = codes[places]
    rank = np.arange(len(places))
    begins = rank.copy()
    begins[1:][grouped[1:] == grouped[:-1]] = 0
    nth[places] = rank - np.maximum.accumulate(begins)
    return nth
