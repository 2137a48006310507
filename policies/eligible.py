"""What may be shown: a reason against each item, strictly and where soft rules give way.

An answer is of all items of a catalogue, and follows it by those that change. The wider answers,
where soft rules have given way, are worked out when they are first asked for, as most pages never
need them, and follow from then on.

Rejected: a mask a rule (five of them an item, where one code says which rule is the first), and
the wider answers anew after each upload (a pass over all items on just those pages that find
little).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from env.columns import grown
from env.vocabulary import Bools, Ints

Codes = npt.NDArray[np.int8]

REASONS = ("unlisted", "market", "rating", "pool", "language")
"""Why an item is not eligible, the first that applies; the last is soft, "pool" where stopped."""
UNLISTED, MARKET, RATING, POOL, LANGUAGE = range(len(REASONS))
NOTHING = np.int8(-1)
"""Code of what has no reason against it."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """What may be shown, of one state of catalogue and reach; nobody writes to it.

    It is for the page at hand: the next one may find it moved on.

    Attributes:
        allowed: shape (n,), one for each item of the catalogue.
        reason: shape (n,), codes into `REASONS`, -1 where nothing is against an item.
        n_allowed: how many are.
        relaxed: the rules that gave way: "language" where items in other languages than the
            market's are allowed as well, "pool" where those are that were stopped at home.
    """

    allowed: Bools
    reason: Codes
    n_allowed: int
    relaxed: tuple[str, ...] = ()

    @classmethod
    def of(cls, reason: Codes, relaxed: tuple[str, ...] = ()) -> "Eligible":
        """Return what is allowed where these are the reasons against, shape (n,)."""
        allowed = reason < 0
        return cls(allowed, reason, int(np.count_nonzero(allowed)), relaxed)

    def moved(self, index: Ints, reason: Codes, n: int) -> "Eligible":
        """Return the same of n items with other reasons against some, among them all new ones."""
        allowed, reasons = grown(self.allowed, n), grown(self.reason, n)
        allowed[len(self.allowed) :] = False
        n_allowed = self.n_allowed - int(np.count_nonzero(allowed[index]))
        allowed[index], reasons[index] = reason < 0, reason
        n_allowed += int(np.count_nonzero(allowed[index]))
        return Eligible(allowed, reasons, n_allowed, self.relaxed)


class Answers:
    """What is eligible for one kind of request: strictly, and where soft rules give way.

    The wider answers are worked out when they are first asked for.
    """

    def __init__(self, reason: Codes, n_changes: int, n_steps: int) -> None:
        """Begin with the reasons against each item, shape (n,), as of so many changes."""
        self.strict = Eligible.of(reason)
        self.n_changes, self.n_steps = n_changes, n_steps
        self._wide: Eligible | None = None
        self._last: Eligible | None = None

    @property
    def n_bytes(self) -> int:
        """What the arrays take, without the room at their ends."""
        held = {id(some): some for some in (self.strict, self._wide, self._last) if some}
        return sum(some.allowed.nbytes + some.reason.nbytes for some in held.values())

    def move(self, index: Ints, reason: Codes, is_back: Bools, n: int) -> None:
        """Put other reasons against some of n items, among them all that are new.

        Args:
            index: shape (m,), distinct.
            reason: shape (m,), against each.
            is_back: shape (m,), which are stopped and would otherwise reach these people.
            n: how many items there are by now.
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
        """What is eligible in all languages; the strict answer if no item is in another."""
        if self._wide is None:
            foreign = self.strict.reason == LANGUAGE
            if foreign.any():
                reason = np.where(foreign, NOTHING, self.strict.reason)
                self._wide = Eligible.of(reason, (REASONS[LANGUAGE],))
            else:
                self._wide = self.strict
        return self._wide

    def last(self, stopped_here: Ints) -> Eligible:
        """The same with what was stopped at home; the wide answer if nothing was.

        Args:
            stopped_here: the items that are stopped and would otherwise reach these people.
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
    """Return what a wider answer becomes where the one that it widens has moved; None: work it out.

    Args:
        wider: as it was; where the rule had nothing to give way to, it is `before`.
        before: what it widened.
        narrower: what became of that.
        index: shape (m,), the items that moved.
        reason: shape (m,), what is against them by `narrower`.
        gives_way: shape (m,), whose reason is no longer against them.
        rule: that gave way.
    """
    if wider is before:
        return None if gives_way.any() else narrower
    moved = wider.moved(index, np.where(gives_way, NOTHING, reason), len(narrower.reason))
    if moved.n_allowed == narrower.n_allowed:
        return narrower
    return replace(moved, relaxed=(*narrower.relaxed, REASONS[rule]))
