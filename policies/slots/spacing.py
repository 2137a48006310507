"""Topic spacing narrows slot rules so that a page repeats a topic only after a gap.

Topics are dealt to `gap` groups anew for each page, and each open slot takes candidates of one
group, in turn. Masks are fixed before anything is drawn, so propensities stay exact. Reasons and
rejected alternatives: `docs/decisions/topic-spacing.md`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from env.items.catalogue import Catalogue
from env.vocabulary import Ints, SlotRule
from policies.candidates.query import Query
from policies.slots.reserved import FAIR_START

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

    If a group has fewer candidates than slots to fill, the rules are unchanged.

    Args:
        rules: of a page's slots; open ones are one object.
        topic: shape (n,), a code for each candidate.
        gap: slots from a topic to its next card, at least 1; 1 changes nothing.
        seed: of the page; deals the topics to groups.
    """
    gap = min(gap, len(rules))
    open_slots = [slot for slot, rule in enumerate(rules) if rule.name != FAIR_START]
    if gap < 2 or not open_slots:
        return tuple(rules)
    rule = rules[open_slots[0]]
    group = _deal(topic, gap, seed)
    wanted = np.bincount([slot % gap for slot in open_slots], minlength=gap)
    if (np.bincount(group[rule.mask], minlength=gap) < wanted).any():
        return tuple(rules)
    narrowed = [_narrow(rule, group == g) for g in range(gap)]
    return tuple(r if r.name == FAIR_START else narrowed[s % gap] for s, r in enumerate(rules))


def _deal(topic: Ints, gap: int, seed: int) -> Ints:
    """Return each candidate's group: a multiplicative hash of its topic (TAOCP, 6.4)."""
    mixed = (topic.astype(np.uint64) ^ np.uint64(seed & 0xFFFFFFFFFFFFFFFF)) * _MIX
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
    groups: Ints = ((mixed >> _SHIFT) % np.uint64(gap)).astype(np.int64)
    return groups


def _narrow(rule: SlotRule, group: npt.NDArray[np.bool_]) -> SlotRule:
    mask = rule.mask & group
    eligible = rule.eligible & mask
    return SlotRule(mask, eligible if eligible.any() else mask, rule.name)
