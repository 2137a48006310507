"""Filters: they remove proposed items that the user must not see and give a reason for each.

All filtering happens before anything is drawn. Hard rules never give way; soft rules give way,
least important first, when too few items remain, and the caller is told. Rejected alternatives:
`docs/decisions/eligibility.md`.
"""

from dataclasses import dataclass

import numpy as np

from env.arrays.index_sets import is_among
from env.items.catalogue import Catalogue
from env.vocabulary import Bools, Ints
from policies.candidates.context import UserHistory
from policies.candidates.eligibility import REASONS as INELIGIBLE
from policies.candidates.eligibility import Eligible
from policies.candidates.retrieval import first_indices

REASONS = (
    *INELIGIBLE,
    "blocked",
    "delivered",
    "seen",
    "duplicate",
    "creator",
    "recent",
)
"""Reasons for removal, hard rules first; the rules from "delivered" on give way here, the last
first. "language", and "pool" for stopped items, give way in the eligibility rules."""

N_HARD = REASONS.index("delivered")


@dataclass(frozen=True)
class Filtered:
    """The remaining items, and the reasons for which the others were removed."""

    kept: Ints  # (m,) catalogue indices, in the order of the proposal
    rows: Ints  # (m,) their indices in the proposal
    removed: Ints  # (n - m,) catalogue indices, in the order of the proposal
    reasons: Ints  # (n - m,) codes into `REASONS`
    relaxed: tuple[str, ...]  # the rules that gave way, those of `Eligible.relaxed` included

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
        counts = np.bincount(self.reasons, minlength=len(REASONS)).tolist()
        return {reason: n for reason, n in zip(REASONS, counts, strict=True) if n}


def filter_candidates(
    known: UserHistory,
    eligible: Eligible,
    catalogue: Catalogue,
    index: Ints,
    *,
    at_least: int = 1,
    per_creator: int = 3,
) -> Filtered:
    """Return the proposed items that may be shown to a user now.

    Args:
        known: the user's history in the catalogue, at the scene's time.
        index: shape (n,), distinct items, the most wanted first: of near-duplicates and of a
            creator's items the first are kept.
        at_least: while fewer are kept, soft rules give way, each for only as many items as are
            missing: the pause of a creator or sound, the cap on a creator, near-duplicates, seen
            items, at last items of an open page.
        per_creator: items of one creator that are kept at most, at least 1.
    """
    reason = _find_reasons(known, eligible, catalogue, index, per_creator)
    relaxed = (*eligible.relaxed, *_give_way(reason, at_least))
    kept = reason < 0
    return Filtered(index[kept], kept.nonzero()[0], index[~kept], reason[~kept], relaxed)


def _find_reasons(
    known: UserHistory, eligible: Eligible, catalogue: Catalogue, index: Ints, per_creator: int
) -> Ints:
    """Return the code of the first rule against each item, -1 where there is none."""
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
    """Relax the last rules first, in place, until enough items are kept; return them."""
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
    """Return, shape (n,), which remaining items repeat the code of an earlier remaining item."""
    left = (reason < 0).nonzero()[0]
    repeats = np.zeros(len(codes), dtype=np.bool_)
    repeats[left] = True
    repeats[left[first_indices(codes[left])]] = False
    return repeats


def _nth_of_left(codes: Ints, reason: Ints) -> Ints:
    """Return, shape (n,), how many earlier remaining items have the same code; 0 if removed."""
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
