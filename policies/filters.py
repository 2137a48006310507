"""Filters: who of the proposed items may be a candidate for this person, and why the others not.

All filtering is done here, before anything is drawn; the page is never touched afterwards. Each
item that goes has one reason, the first that applies. Some rules are hard (an item that is not
eligible, or of a creator or with a tag that is blocked, is never shown); the others give way, least
important first, when too little would be left, and the caller is told.

Rejected: a class a filter (the rules share the same few lookups), and dropping candidates until
none are left (an empty feed is worse than an item seen before).
"""

from dataclasses import dataclass

import numpy as np

from env.catalogue import Catalogue
from env.index_sets import is_among
from env.vocabulary import Bools, Ints
from policies.distinct import first_places
from policies.eligible import REASONS as INELIGIBLE
from policies.eligible import Eligible
from policies.known import Known

REASONS = (
    *INELIGIBLE,
    "blocked",
    "delivered",
    "seen",
    "duplicate",
    "creator",
    "recent",
)
"""Hard rules first; the rules from "delivered" on give way here, the last first.

Of those before, "language" and what "pool" says of stopped items give way in eligibility.
"""

N_HARD = REASONS.index("delivered")


@dataclass(frozen=True)
class Filtered:
    """What is left of the proposed items, and why the others went.

    Attributes:
        kept: shape (m,), catalogue indices, in the order of the proposal.
        rows: shape (m,), their places in the proposal.
        removed: shape (n - m,), catalogue indices, in the order of the proposal.
        reasons: shape (n - m,), codes into `REASONS`.
        relaxed: the rules that gave way; "language" and "pool" are those of `Eligible.relaxed`.
    """

    kept: Ints
    rows: Ints
    removed: Ints
    reasons: Ints
    relaxed: tuple[str, ...]

    @property
    def degraded(self) -> str:
        """Why the page is less than asked for; empty if it is not.

        >>> empty = np.zeros(0, dtype=np.int64)
        >>> Filtered(empty, empty, empty, empty, ("creator", "seen")).degraded
        'gave way: creator, seen'
        """
        return f"gave way: {', '.join(self.relaxed)}" if self.relaxed else ""

    def counts(self) -> dict[str, int]:
        """Return how many items were removed, by reason."""
        counts = np.bincount(self.reasons, minlength=len(REASONS)).tolist()
        return {reason: n for reason, n in zip(REASONS, counts, strict=True) if n}


def apply(
    known: Known,
    eligible: Eligible,
    catalogue: Catalogue,
    index: Ints,
    *,
    at_least: int = 1,
    per_creator: int = 3,
) -> Filtered:
    """Return which of the proposed items may be shown to a person now.

    Args:
        known: what of the catalogue the person knows, as of the scene's time.
        eligible: what of the catalogue may be shown there.
        catalogue: that `index` is of.
        index: shape (n,), distinct items, the most wanted first: of near-duplicates and of a
            creator's items the first are kept.
        at_least: while fewer are kept, rules that are not hard give way: the pause of a creator
            or sound, the cap on a creator, near-duplicates, seen items, at last those of an open
            page; each only for as many items as are missing.
        per_creator: items of one creator that are kept at most, at least 1.
    """
    reason = _find_reasons(known, eligible, catalogue, index, per_creator)
    relaxed = (*eligible.relaxed, *_give_way(reason, at_least))
    kept = reason < 0
    return Filtered(index[kept], kept.nonzero()[0], index[~kept], reason[~kept], relaxed)


def _find_reasons(
    known: Known, eligible: Eligible, catalogue: Catalogue, index: Ints, per_creator: int
) -> Ints:
    """Return for each item the code of the first rule against it, -1 where there is none."""
    reason = eligible.reason[index].astype(np.int64)
    creators, duplicates = catalogue.creators[index], catalogue.duplicates[index]

    def remove(name: str, goes: Bools) -> None:
        if np.count_nonzero(goes):
            reason[goes & (reason < 0)] = REASONS.index(name)

    if len(known.blocked) or known.blocked_tags:
        remove("blocked", known.is_blocked(catalogue, index))
    remove("delivered", is_among(index, known.delivered))
    remove("seen", is_among(index, known.seen))
    remove("duplicate", is_among(duplicates, catalogue.duplicates[known.seen]))
    remove("duplicate", _repeats(duplicates, reason))
    nth = _nth_of_left(creators, reason)
    remove("creator", (nth >= per_creator) & (creators > 0))
    remove("recent", is_among(creators, known.recent_creators))
    if len(known.recent_sounds):
        remove("recent", is_among(catalogue.sounds[index], known.recent_sounds))
    return reason


def _give_way(reason: Ints, at_least: int) -> tuple[str, ...]:
    """Keep in place, the last rules first, as many items as are missing; return those rules."""
    relaxed = []
    missing = at_least - np.count_nonzero(reason < 0)
    if missing <= 0:
        return ()
    for code in range(len(REASONS) - 1, N_HARD - 1, -1):
        back = np.flatnonzero(reason == code)[: max(missing, 0)]
        if len(back):
            reason[back] = -1
            relaxed.append(REASONS[code])
            missing -= len(back)
    return tuple(relaxed)


def _repeats(codes: Ints, reason: Ints) -> Bools:
    """Return, shape (n,), which of those left have the code of one left before them."""
    left = (reason < 0).nonzero()[0]
    repeats = np.zeros(len(codes), dtype=np.bool_)
    repeats[left] = True
    repeats[left[first_places(codes[left])]] = False
    return repeats


def _nth_of_left(codes: Ints, reason: Ints) -> Ints:
    """Return, shape (n,), how many of those left with the same code stand before each one left.

    It is 0 for those that are not left.
    """
    nth = np.zeros(len(codes), dtype=np.int64)
    left = (reason < 0).nonzero()[0]
    order = codes[left].argsort(kind="stable")
    places = left[order]
    grouped = codes[places]
    rank = np.arange(len(places))
    begins = rank.copy()
    begins[1:][grouped[1:] == grouped[:-1]] = 0
    nth[places] = rank - np.maximum.accumulate(begins)
    return nth
