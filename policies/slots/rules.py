"""Slot rules: the candidates that each slot may take and those that share its exploration floor.

Reserved slots take only uploads with a delivery guarantee, at positions drawn at random. An open
slot spreads its floor over candidates with little evidence, asks for the user's own language or for
another, and repeats a topic only after a gap. Rejected alternatives: `docs/decisions/languages.md`,
`docs/decisions/reserved-slots.md`, `docs/decisions/topic-spacing.md`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import is_among
from env.items.catalogue import Catalogue
from env.vocabulary import Bools, Ints, SlotRule
from policies.candidates.eligibility import LANGUAGE, REASONS
from policies.candidates.query import Query

LITTLE_EVIDENCE = 30
"""Items with fewer impressions have little evidence."""

FAIR_START = "fair_start"
"""Name of a reserved slot's rule."""

_PLACES = 0x706C61636573
"""Keeps these draws apart from all others of the page's seed."""


def reserve(share: float, n_slots: int, seed: int) -> Ints:
    """Return the slots to reserve: floor(share * n_slots + u) of them, u uniform.

    Their expected number is share * n_slots exactly, and every slot is equally likely.

    Args:
        share: part of the cards to reserve, in [0, 1].

    Returns:
        Slot numbers in random order, so that any first few are a fair draw as well.
    """
    if share <= 0.0:
        return np.zeros(0, dtype=np.int64)
    rng = np.random.default_rng(seed ^ _PLACES)
    n_reserved = min(int(share * n_slots + rng.random()), n_slots)
    return rng.permutation(n_slots)[:n_reserved]


def slots(query: Query, index: Ints) -> tuple[SlotRule, ...]:
    """Return a page's slot rules, one object for equal ones.

    As many of the reserved slots are used as there are candidates with a shortfall.

    Args:
        query: gives the reserved slots and the uploads for them.
        index: shape (n,), the candidates; among those with a shortfall the most urgent come first.
    """
    n_slots, places = query.size, query.reserved.places
    little = query.items.impressions[index] < LITTLE_EVIDENCE
    debut = is_among(index, query.reserved.debut).nonzero()[0]
    places = places[: len(debut)]
    if not len(places):
        return (_open(np.ones(len(index), dtype=np.bool_), little),) * n_slots
    # Where candidates are few, open slots need some uploads with a shortfall to be filled at all.
    n_left_alone = max(len(index) - n_slots + len(places), len(places))
    fair = np.zeros(len(index), dtype=np.bool_)
    fair[debut[:n_left_alone]] = True
    reserved, other = SlotRule(fair, fair, FAIR_START), _open(~fair, little)
    taken = set(places.tolist())
    return tuple(reserved if slot in taken else other for slot in range(n_slots))


def _open(mask: Bools, little: Bools) -> SlotRule:
    eligible = mask & little
    return SlotRule(mask, eligible if eligible.any() else mask)


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
    for name, places, is_wanted in (
        (OTHER, languages.other_slots, languages.is_other),
        (LIKED, languages.liked_slots, languages.is_liked),
    ):
        if not len(places):
            continue
        free = [slot for slot in places.tolist() if slot not in taken]
        n_fewer, free = max(n_fewer - len(free), 0), free[n_fewer:]
        narrowed = _narrow(rule, is_wanted(index), name)
        taken.update(dict.fromkeys(free[: np.count_nonzero(narrowed.mask)], narrowed))
    return _with_own(rule, own, taken, len(rules))


def gave_way(rules: Sequence[SlotRule], relaxed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the rules that gave way for a page: those that did before, then that of the slots.

    Where the market's languages gave way, the user's own did as well, and it is not said twice.
    """
    is_short = any(rule.name == SUBSTITUTE for rule in rules)
    return (*relaxed, OWN_LANGUAGE) if is_short and REASONS[LANGUAGE] not in relaxed else relaxed


def _with_own(
    rule: SlotRule, own: Bools, taken: dict[int, SlotRule], n_slots: int
) -> tuple[SlotRule, ...]:
    """Return the rules with own items in all slots that are left, as far as they suffice.

    Where they do not, a slot for another language keeps its rule only if the substitutes cannot
    use up its candidates.
    """
    left = [slot for slot in range(n_slots) if slot not in taken]
    narrowed = _narrow(rule, own, rule.name)
    n_own = int(np.count_nonzero(narrowed.mask))
    if n_own < len(left):
        substitute = _narrow(rule, ~own, SUBSTITUTE)
        of_others = {slot: r for slot, r in taken.items() if r.name != FAIR_START}
        n_others = len(left) - n_own + len(of_others)
        scarce = [s for s, r in of_others.items() if np.count_nonzero(r.mask) < n_others]
        taken.update(dict.fromkeys([*left[n_own:], *scarce], substitute))
    return tuple(taken.get(slot, narrowed) for slot in range(n_slots))


_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_N_SIGNS = 5


def spaced(query: Query, index: Ints, rules: Sequence[SlotRule]) -> tuple[SlotRule, ...]:
    """Return a page's slot rules for the candidates at `index`, narrowed by the user's gap."""
    by = query.settings
    gap = gap_for(query.user.evidence, by.topic_gap, by.newcomer_topic_gap, by.newcomer_evidence)
    return spread(rules, topics(query.catalogue, index), gap, query.seed)


def topics(catalogue: Catalogue, index: Ints) -> Ints:
    """Return a topic code for each of the items at `index`, shape (n,).

    The code is that of the first tag, where callers put the topic. An item without tags gets a
    negative code from the signs of its vector's first numbers, which near vectors share (Charikar,
    "Similarity estimation techniques from rounding algorithms", STOC 2002).
    """
    first: Ints = catalogue.tags[index, 0]
    if first.all():
        return first
    signs = (catalogue.vectors[index, :_N_SIGNS] > 0.0) @ (1 << np.arange(_N_SIGNS))
    return np.where(first > 0, first, -1 - signs)


def gap_for(evidence: float, gap: int, newcomer_gap: int, half: float) -> int:
    """Return a user's gap, between that of new users and that of well-known users.

        gap + (newcomer_gap - gap) half / (half + evidence), rounded

    >>> [gap_for(evidence, 2, 6, 20.0) for evidence in (0.0, 8.0, 20.0, 300.0)]
    [6, 5, 4, 2]

    Args:
        evidence: decayed count of answered cards, at least 0.
        gap: for well-known users, at least 1.
        newcomer_gap: for users without evidence, at least 1.
        half: evidence at which half of the difference is left, above 0.
    """
    return gap + round((newcomer_gap - gap) * half / (half + evidence))


def spread(rules: Sequence[SlotRule], topic: Ints, gap: int, seed: int) -> tuple[SlotRule, ...]:
    """Return the rules with open slots narrowed so that a topic repeats after gap slots at least.

    If a group has fewer candidates of a rule than slots to fill, that rule is unchanged, and so are
    the rules that share candidates with it.

    Args:
        rules: of a page's slots; equal ones are one object.
        topic: shape (n,), a code for each candidate.
        gap: slots from a topic to its next card, at least 1; 1 changes nothing.
        seed: of the page; deals the topics to groups.
    """
    gap = min(gap, len(rules))
    if gap < 2:
        return tuple(rules)
    group = _deal(topic, gap, seed)
    open_rules = {id(rule): rule for rule in rules if rule.name != FAIR_START}
    rivals = {key: _overlapping(rule, open_rules) for key, rule in open_rules.items()}
    short = {
        key
        for key, rule in open_rules.items()
        if _is_short(rule, group, [s for s, r in enumerate(rules) if id(r) in rivals[key]], gap)
    }
    narrowed = {
        key: [_narrow(rule, group == g, rule.name) for g in range(gap)]
        for key, rule in open_rules.items()
        if short.isdisjoint(rivals[key])
    }
    return tuple(
        narrowed[id(rule)][slot % gap] if id(rule) in narrowed else rule
        for slot, rule in enumerate(rules)
    )


def _overlapping(rule: SlotRule, rules: Mapping[int, SlotRule]) -> set[int]:
    """Return the keys of the rules that share a candidate with this one, its own included."""
    return {key for key, r in rules.items() if r is rule or (r.mask & rule.mask).any()}


def _is_short(rule: SlotRule, group: Ints, slots_of: Sequence[int], gap: int) -> bool:
    """Return whether a group has fewer candidates of a rule than these slots take from it."""
    wanted = np.bincount([slot % gap for slot in slots_of], minlength=gap)
    return bool((np.bincount(group[rule.mask], minlength=gap) < wanted).any())


def _deal(topic: Ints, gap: int, seed: int) -> Ints:
    """Return each candidate's group: a multiplicative hash of its topic (TAOCP, 6.4)."""
    mixed = (topic.astype(np.uint64) ^ np.uint64(seed & 0xFFFFFFFFFFFFFFFF)) * _MIX
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
    groups: Ints = ((mixed >> _SHIFT) % np.uint64(gap)).astype(np.int64)
    return groups


def _narrow(rule: SlotRule, wanted: npt.NDArray[np.bool_], name: str) -> SlotRule:
    mask = rule.mask & wanted
    eligible = rule.eligible & mask
    return SlotRule(mask, eligible if eligible.any() else mask, name)
