"""Answers of the eligibility rules: a reason code for each item, strict or relaxed.

An answer covers all items and is updated where items change. Relaxed answers, where soft rules gave
way, are computed on first use, since most pages never need them. Rejected alternatives:
`docs/decisions/eligibility.md`.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from env.columns import grown
from env.vocabulary import Bools, Ints

Codes = npt.NDArray[np.int8]

REASONS = ("unlisted", "market", "rating", "pool", "language")
"""Reasons against an item; the first that applies is stored. "language" is a soft rule, and so is
"pool" for stopped items."""
UNLISTED, MARKET, RATING, POOL, LANGUAGE = range(len(REASONS))
NOTHING = np.int8(-1)
"""Code of an eligible item."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The eligible items in one state of catalogue and reach; read-only.

    It is valid for the page at hand only: the next request may update it.
    """

    allowed: Bools  # (n,) one for each item of the catalogue
    reason: Codes  # (n,) codes into `REASONS`, -1 where an item is allowed
    n_allowed: int  # number of allowed items
    # Rules that gave way: "language" if items in other languages than the market's are allowed,
    # "pool" if items that were stopped at home are.
    relaxed: tuple[str, ...] = ()

    @classmethod
    def of(cls, reason: Codes, relaxed: tuple[str, ...] = ()) -> "Eligible":
        """Return the answer with these reasons, shape (n,)."""
        allowed = reason < 0
        return cls(allowed, reason, int(np.count_nonzero(allowed)), relaxed)

    def moved(self, index: Ints, reason: Codes, n: int) -> "Eligible":
        """Return the answer for n items with new reasons for some, which include all new items."""
        allowed, reasons = grown(self.allowed, n), grown(self.reason, n)
        allowed[len(self.allowed) :] = False
        n_allowed = self.n_allowed - int(np.count_nonzero(allowed[index]))
        allowed[index], reasons[index] = reason < 0, reason
        n_allowed += int(np.count_nonzero(allowed[index]))
        return Eligible(allowed, reasons, n_allowed, self.relaxed)


class Answers:
    """The strict and the relaxed answers for one kind of request."""

    def __init__(self, reason: Codes, n_changes: int, n_steps: int) -> None:
        """Start from the reasons against each item, shape (n,), after these changes and steps."""
        self.strict = Eligible.of(reason)
        self.n_changes, self.n_steps = n_changes, n_steps
        self._wide: Eligible | None = None
        self._last: Eligible | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the arrays in bytes, without their spare capacity."""
        held = {id(some): some for some in (self.strict, self._wide, self._last) if some}
        return sum(some.allowed.nbytes + some.reason.nbytes for some in held.values())

    def move(self, index: Ints, reason: Codes, is_back: Bools, n: int) -> None:
        """Replace the reasons of some of n items, which include all new items.

        Args:
            index: shape (m,), distinct.
            reason: shape (m,), against each.
            is_back: shape (m,), items that are stopped and would otherwise reach these users.
        """
        strict, wide, last = self.strict, self._wide, self._last
        self.strict = strict.moved(index, reason, n)
        if wide is not None:
            foreign = reason == LANGUAGE
            self._wide = _follow(wide, strict, self.strict, index, reason, foreign, LANGUAGE)
            reason = np.where(foreign, NOTHING, reason)
        if wide is None or self._wide is None or last is None:
            self._last = None
        else:
            back = is_back & (reason == POOL)
            self._last = _follow(last, wide, self._wide, index, reason, back, POOL)

    @property
    def wide(self) -> Eligible:
        """The answer with all languages allowed; the strict one if that changes nothing."""
        if self._wide is None:
            foreign = self.strict.reason == LANGUAGE
            if foreign.any():
                reason = np.where(foreign, NOTHING, self.strict.reason)
                self._wide = Eligible.of(reason, (REASONS[LANGUAGE],))
            else:
                self._wide = self.strict
        return self._wide

    def last(self, stopped_here: Ints) -> Eligible:
        """Return the wide answer with items that were stopped at home allowed as well.

        Args:
            stopped_here: items that are stopped and would otherwise reach these users.
        """
        if self._last is None:
            wide = self.wide
            back = stopped_here[wide.reason[stopped_here] == POOL]
            if len(back):
                reason = wide.reason.copy()
                reason[back] = NOTHING
                self._last = Eligible.of(reason, (*wide.relaxed, REASONS[POOL]))
            else:
                self._last = wide
        return self._last


def _follow(
    wider: Eligible,
    before: Eligible,
    narrower: Eligible,
    index: Ints,
    reason: Codes,
    gives_way: Bools,
    rule: int,
) -> Eligible | None:
    """Return the updated relaxed answer, or None if it has to be computed again.

    Args:
        wider: the relaxed answer before; it is `before` if the rule had relaxed nothing.
        before: the narrower answer before.
        narrower: the narrower answer now.
        index: shape (m,), the items that changed.
        reason: shape (m,), their reasons in `narrower`.
        gives_way: shape (m,), the items that the relaxed rule allows.
    """
    if wider is before:
        return None if gives_way.any() else narrower
    moved = wider.moved(index, np.where(gives_way, NOTHING, reason), len(narrower.reason))
    if moved.n_allowed == narrower.n_allowed:
        return narrower
    return replace(moved, relaxed=(*narrower.relaxed, REASONS[rule]))
