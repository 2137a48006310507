"""Slot rules by language: the open slots of a page that ask for the user's own, and the others.

Each rule is a mask of the candidates that is known before the page is drawn, so propensities are
exact. Where too few own ones are left, the last slots take what is nearest, and the page says so.
Reasons: `docs/decisions/languages.md`.
"""

from collections.abc import Sequence

import numpy as np

from env.vocabulary import Bools, Ints, SlotRule
from policies.candidates.query import Query
from policies.slots.rules import FAIR_START

LIKED, OTHER, SUBSTITUTE = "liked_language", "other_language", "substitute_language"
"""Names of the rules of slots for another language: one that is played, one for finding out, and
one in place of the user's own."""

OWN_LANGUAGE = "own language"
"""Name of the rule that gives way where own items are missing."""


def by_language(query: Query, index: Ints, rules: Sequence[SlotRule]) -> tuple[SlotRule, ...]:
    """Return a page's slot rules, the open ones narrowed by language.

    Args:
        query: gives the page's languages.
        index: shape (n,), the candidates.
        rules: of the slots; the open ones are one object.
    """
    languages = query.languages
    open_slots = [slot for slot, rule in enumerate(rules) if rule.name != FAIR_START]
    if not languages.is_split or not open_slots:
        return tuple(rules)
    rule, own = rules[open_slots[0]], languages.is_own(index)
    if own.all():
        return tuple(rules)
    taken = {slot: rule for slot, rule in enumerate(rules) if rule.name == FAIR_START}
    # A reserved slot that may show another language counts as one of those that ask for it.
    n_fewer = sum(bool((reserved.mask & ~own).any()) for reserved in taken.values())
    for name, places, wanted in (
        (OTHER, languages.other_slots, languages.is_other(index)),
        (LIKED, languages.liked_slots, languages.is_liked(index)),
    ):
        free = [slot for slot in places.tolist() if slot not in taken]
        n_fewer, free = max(n_fewer - len(free), 0), free[n_fewer:]
        narrowed = _narrowed(rule, wanted, name)
        taken.update(dict.fromkeys(free[: np.count_nonzero(narrowed.mask)], narrowed))
    return _with_own(rule, own, taken, len(rules))


def gave_way(rules: Sequence[SlotRule]) -> tuple[str, ...]:
    """Return the name of the rule that gave way for a page of these slots, if it did."""
    return (OWN_LANGUAGE,) if any(rule.name == SUBSTITUTE for rule in rules) else ()


def _with_own(
    rule: SlotRule, own: Bools, taken: dict[int, SlotRule], n_slots: int
) -> tuple[SlotRule, ...]:
    """Return the rules with own items in all slots that are left, as far as they suffice.

    Where all candidates together do not fill the page, each slot may take any of those left.
    """
    left = [slot for slot in range(n_slots) if slot not in taken]
    narrowed = _narrowed(rule, own, rule.name)
    n_own = int(np.count_nonzero(narrowed.mask))
    if n_own < len(left):
        wanted = ~own if np.count_nonzero(rule.mask) >= n_slots else np.ones_like(own)
        substitute = _narrowed(rule, wanted, SUBSTITUTE)
        taken.update(dict.fromkeys(left[n_own:], substitute))
    return tuple(taken.get(slot, narrowed) for slot in range(n_slots))


def _narrowed(rule: SlotRule, wanted: Bools, name: str) -> SlotRule:
    mask = rule.mask & wanted
    eligible = rule.eligible & mask
    return SlotRule(mask, eligible if eligible.any() else mask, name)
