"""Filters: who of the proposed items may be a candidate for this person, and why the others not.

All filtering is done here, before anything is drawn; the page is never touched afterwards. Each
item that goes has one reason, the first that applies. Some rules are hard (an item that is
unlisted, of another market or of a blocked creator is never shown); the others give way, least
important first, when too little would be left, and the caller is told.

Rejected: a class a filter (the rules share the same few lookups), and dropping candidates until
none are left (an empty feed is worse than an item seen before).
"""

from dataclasses import dataclass

import numpy as np

from env import users
from env.catalogue import Catalogue
from env.open_cards import delivered_keys
from env.users import UserState
from env.vocabulary import Bools, Ints, Scene

REASONS = ("unlisted", "market", "blocked", "delivered", "seen", "duplicate", "creator")
"""Hard rules first; the rules from "delivered" on give way, the last first."""

N_HARD = REASONS.index("delivered")


@dataclass(frozen=True)
class Filtered:
    """What is left of the proposed items, and why the others went.

    Attributes:
        kept: shape (m,), catalogue indices, in the order of the proposal.
        rows: shape (m,), their places in the proposal.
        removed: shape (n - m,), catalogue indices, in the order of the proposal.
        reasons: shape (n - m,), codes into `REASONS`.
        relaxed: the rules that gave way.
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
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    index: Ints,
    *,
    at_least: int = 1,
    per_creator: int = 3,
) -> Filtered:
    """Return which of the proposed items may be shown to this person now.

    Args:
        user: who asks.
        scene: its country is the market, its time decides which pages are still open.
        catalogue: that `index` is of.
        index: shape (n,), distinct items, the most wanted first: of near-duplicates and of a
            creator's items the first are kept.
        at_least: while fewer are kept, rules that are not hard give way: the cap on a creator,
            near-duplicates, seen items, at last those of an open page; each only for as many
            items as are missing.
        per_creator: items of one creator that are kept at most, at least 1.
    """
    reason = _find_reasons(user, scene, catalogue, index, per_creator)
    relaxed = _give_way(reason, at_least)
    kept = reason < 0
    return Filtered(index[kept], np.flatnonzero(kept), index[~kept], reason[~kept], relaxed)


def known_items(user: UserState, catalogue: Catalogue, now_ms: int) -> Bools:
    """Return, shape (n_items,), what this person has seen or has on a page still open.

    With `blocked_items` a preview of `apply` over the whole catalogue, so that retrieval looks
    past what would go.
    """
    known = np.zeros(len(catalogue), dtype=np.bool_)
    known[_seen_index(user, catalogue)] = True
    delivered = np.fromiter(delivered_keys(user.pages, now_ms), dtype=np.uint64)
    known[catalogue.find(delivered.astype(np.uint32))] = True
    return known


def blocked_items(user: UserState, catalogue: Catalogue) -> Bools:
    """Return, shape (n_items,), what is of creators whom this person does not want."""
    return _blocked_creators(user, catalogue)[catalogue.creators]


def _find_reasons(
    user: UserState, scene: Scene, catalogue: Catalogue, index: Ints, per_creator: int
) -> Ints:
    """Return for each item the code of the first rule against it, -1 where there is none."""
    reason = np.full(len(index), -1, dtype=np.int64)
    keys, creators = catalogue.keys[index], catalogue.creators[index]

    def remove(name: str, goes: Bools) -> None:
        reason[goes & (reason < 0)] = REASONS.index(name)

    remove("unlisted", ~catalogue.listed[index])
    remove("market", ~catalogue.in_market(scene.country, index))
    remove("blocked", _blocked_creators(user, catalogue)[creators])
    remove("delivered", users.was_delivered(user, keys, scene.at_ms))
    remove("seen", users.was_seen(user, keys))
    remove("duplicate", _repeats_seen(user, catalogue, index))
    remove("duplicate", _nth_of_left(catalogue.duplicates[index], reason) >= 1)
    remove("creator", (_nth_of_left(creators, reason) >= per_creator) & (creators > 0))
    return reason


def _give_way(reason: Ints, at_least: int) -> tuple[str, ...]:
    """Keep in place, the last rules first, as many items as are missing; return those rules."""
    relaxed = []
    missing = at_least - np.count_nonzero(reason < 0)
    for code in range(len(REASONS) - 1, N_HARD - 1, -1):
        back = np.flatnonzero(reason == code)[: max(missing, 0)]
        if len(back):
            reason[back] = -1
            relaxed.append(REASONS[code])
            missing -= len(back)
    return tuple(relaxed)


def _nth_of_left(codes: Ints, reason: Ints) -> Ints:
    """Return, shape (n,), how many items still left with the same code stand before each."""
    so_far: dict[int, int] = {}
    nth = []
    for code, is_left in zip(codes.tolist(), (reason < 0).tolist(), strict=True):
        n = so_far.get(code, 0)
        nth.append(n)
        so_far[code] = n + is_left
    return np.array(nth, dtype=np.int64)


def _repeats_seen(user: UserState, catalogue: Catalogue, index: Ints) -> Bools:
    """Return, shape (n,), whether each is a near-duplicate of something seen."""
    seen = np.zeros(catalogue.n_duplicates, dtype=np.bool_)
    seen[catalogue.duplicates[_seen_index(user, catalogue)]] = True
    return seen[catalogue.duplicates[index]]


def _seen_index(user: UserState, catalogue: Catalogue) -> Ints:
    return catalogue.find(np.frombuffer(user.seen, dtype="<u4"))


def _blocked_creators(user: UserState, catalogue: Catalogue) -> Bools:
    """Return, by creator code, who is not wanted."""
    blocked = np.zeros(catalogue.n_creators, dtype=np.bool_)
    blocked[catalogue.creator_codes(user.blocked)] = True
    return blocked
