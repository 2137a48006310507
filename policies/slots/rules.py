"""Slot rules: the candidates that each slot may take and those that share its exploration floor.

Reserved slots take only uploads with a delivery guarantee, at positions drawn at random. An open
slot spreads its floor over candidates with little evidence, asks for the user's own language or for
another, and repeats a topic only after a gap. Rejected alternatives: `docs/decisions/languages.md`,
`docs/decisions/reserved-slots.md`, `docs/decisions/topic-spacing.md`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import is_among
from env.items.topics import topics
from env.vocabulary import Bools, Ints, SlotRule
from policies.candidates.eligibility import LANGUAGE, REASONS
from policies.candidates.query import Query
from policies.slots.following import FOLLOWED_TOPIC, Following, follow

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


def spaced(query: Query, index: Ints, rules: Sequence[SlotRule]) -> tuple[SlotRule, ...]:
    """Return a page's slot rules for the candidates at `index`, narrowed by topic.

    Some slots follow what the user insists on, see `policies.slots.following`; the gap holds for
    the others.
    """
    by = query.settings
    gap = gap_for(query.user.evidence, by.topic_gap, by.newcomer_topic_gap, by.newcomer_evidence)
    topic, following = topics(query.catalogue, index), Following.of(query)
    if following.is_looking:
        gap = max(gap, by.newcomer_topic_gap)
    narrowed = spread(follow(rules, topic, following, query.seed), topic, gap, query.seed)
    return fillable(narrowed, rules)


def fillable(narrowed: Sequence[SlotRule], rules: Sequence[SlotRule]) -> tuple[SlotRule, ...]:
    """Return the narrowed rules, with those taken back whose slots might find nothing left.

    A slot finds a candidate, whatever was drawn before, if its rule has at least as many as there
    are slots that may take one of them.

    Args:
        narrowed: the rules of a page's slots.
        rules: those that they were before, slot by slot.
    """
    now = list(narrowed)
    for _ in rules:
        kinds = {id(rule): rule for rule in now}
        masks = np.stack([rule.mask for rule in kinds.values()]).astype(np.float32)
        shared = masks @ masks.T
        n_slots = np.array([sum(rule is kind for rule in now) for kind in kinds.values()])
        is_short = shared.diagonal() < (shared > 0.0) @ n_slots
        short = {key for key, bad in zip(kinds, is_short.tolist(), strict=True) if bad}
        wider = [b if id(r) in short else r for r, b in zip(now, rules, strict=True)]
        if all(w is r for w, r in zip(wider, now, strict=True)):
            break
        now = wider
    return tuple(now)


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

    Slots that follow a topic are not narrowed, nor those of rules that share candidates.

    Args:
        rules: of a page's slots; equal ones are one object.
        topic: shape (n,), a code for each candidate.
        gap: slots from a topic to its next card, at least 1; 1 changes nothing.
        seed: of the page; deals the topics to groups.
    """
    gap = min(gap, len(rules))
    if gap < 2:
        return tuple(rules)
    places: dict[int, list[int]] = {}
    for slot, rule in enumerate(rules):
        if rule.name not in (FAIR_START, FOLLOWED_TOPIC):
            places.setdefault(id(rule), []).append(slot)
    by_slot = dict(enumerate(rules))
    kinds = [rules[slots_of[0]] for slots_of in places.values()]
    for rule, slots_of in zip(kinds, places.values(), strict=True):
        if not any((rule.mask & other.mask).any() for other in kinds if other is not rule):
            by_slot.update(_spaced(rule, slots_of, topic, gap, seed))
    return tuple(by_slot.values())


def _spaced(
    rule: SlotRule, places: Sequence[int], topic: Ints, gap: int, seed: int
) -> dict[int, SlotRule]:
    """Return the rules of the slots of one rule, narrowed so that a topic repeats after a gap.

    Where the rule has fewer topics than that, the gap is as many slots; where a group has fewer
    candidates than slots, nothing is narrowed.
    """
    group, n_topics = _deal(topic, rule.mask, gap, seed)
    gap = min(gap, n_topics)
    if gap < 2:
        return {}
    wanted = np.bincount([slot % gap for slot in places], minlength=gap)
    if (np.bincount(group[rule.mask], minlength=gap) < wanted).any():
        return {}
    narrowed = [_narrow(rule, group == g, rule.name) for g in range(gap)]
    return {slot: narrowed[slot % gap] for slot in places}


def _deal(topic: Ints, mask: Bools, gap: int, seed: int) -> tuple[Ints, int]:
    """Return each candidate's group, and the number of topics that the mask has.

    The mask's topics are dealt in turn, in the order of a multiplicative hash (TAOCP, 6.4), so that
    groups have as many topics as each other; the group of a candidate off the mask has no meaning.
    """
    distinct = np.unique(topic[mask])
    if not len(distinct):
        return np.zeros(len(topic), dtype=np.int64), 0
    mixed = (distinct.astype(np.uint64) ^ np.uint64(seed & 0xFFFFFFFFFFFFFFFF)) * _MIX
    mixed = ((mixed ^ (mixed >> _SHIFT)) * _MIX) >> _SHIFT
    groups = np.empty(len(distinct), dtype=np.int64)
    groups[np.argsort(mixed, kind="stable")] = np.arange(len(distinct)) % gap
    return groups.take(distinct.searchsorted(topic), mode="clip"), len(distinct)


def _narrow(rule: SlotRule, wanted: npt.NDArray[np.bool_], name: str) -> SlotRule:
    mask = rule.mask & wanted
    eligible = rule.eligible & mask
    return SlotRule(mask, eligible if eligible.any() else mask, name)
