"""Slots that follow the user: the more the user's own answers insist on topics, the more of them.

Which topics, and how many slots of a page, depends on the posterior of the user's latest answers
alone. The other slots look elsewhere: a topic that was just answered without interest gives way to
those that were not, while little is known of the user. Masks are fixed before the draw. Rejected
alternatives: `docs/decisions/topic-posterior.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.arrays.index_sets import is_among
from env.items.topics import topic_codes, topic_name
from env.vocabulary import Bools, Ints, SlotRule
from policies.candidates.query import Query

FOLLOWED_TOPIC = "followed_topic"
"""Name of the rule of a slot that follows."""

OPEN = "open"
"""Name of the rule of a slot that anything may fill."""

LATELY = 10
"""Answers after which a topic without interest may come again."""

LITTLE_KNOWN = 20.0
"""Evidence below which a user may insist on topics that were not shown yet."""

INSISTENT_BETWEEN = 0.2
"""Variance between topics of a user who insists on some, also while these are not found."""

_SPARE = 2
_PLACES = 0x746F70696373
"""Keeps these draws apart from all others of the page's seed."""


@dataclass(frozen=True, slots=True)
class Following:
    """What a page follows, and where it does not look."""

    topics: Ints  # (f,) codes of the topics to follow, the surest first
    share: float  # of the page's open slots, in [0, 1]
    is_looking: bool  # whether the other slots look for topics that the user may insist on
    tired: Ints  # codes of topics for which these slots have no use now

    @classmethod
    def of(cls, query: Query) -> "Following":
        """Return what the user's answers say."""
        topics, chances = query.insisted
        doubt = 4.0 * (1.0 - float(chances[0])) if len(chances) else 2.0  # 1 at three to one
        share = query.settings.follow * min(2.0 - doubt, 1.0)
        is_looking = bool(query.settings.follow) and _is_looking(query, len(topics))
        return cls(topics, share, is_looking, _tired(query) if is_looking else topics[:0])


def follow(
    rules: Sequence[SlotRule], topic: Ints, following: Following, seed: int
) -> tuple[SlotRule, ...]:
    """Return a page's rules with some open slots given to topics, and the others to the rest.

    Args:
        rules: of a page's slots; open ones are one object.
        topic: shape (n,), a code for each candidate.
        following: of the user.
        seed: of the page; deals the places.
    """
    open_slots = [slot for slot, rule in enumerate(rules) if rule.name == OPEN]
    if not open_slots or not (len(following.topics) or len(following.tired)):
        return tuple(rules)
    rule = rules[open_slots[0]]
    n_follow = round(following.share * len(open_slots))
    places = np.random.default_rng(seed ^ _PLACES).permutation(open_slots)
    given = _give(rule.mask, topic, following.topics, np.sort(places[:n_follow]))
    rest = _rest(rule.mask, topic, following, len(open_slots) - len(given))
    narrowed = {code: _narrow(rule, topic == code, FOLLOWED_TOPIC) for code in given.values()}
    other = _narrow(rule, rest, rule.name)
    return tuple(
        narrowed[given[slot]] if slot in given else (other if r.name == OPEN else r)
        for slot, r in enumerate(rules)
    )


def _give(mask: Bools, topic: Ints, followed: Ints, places: Ints) -> dict[int, int]:
    """Return the topic of each slot that follows: in turn, while a topic has candidates."""
    left = {code: int(np.count_nonzero(mask & (topic == code))) for code in followed.tolist()}
    given: dict[int, int] = {}
    for k, slot in enumerate(places.tolist()):
        code = int(followed[k % len(followed)])
        if left[code]:
            left[code] -= 1
            given[slot] = code
    return given


def _rest(mask: Bools, topic: Ints, following: Following, n_slots: int) -> Bools:
    """Return the candidates of the slots that do not follow, twice as many as slots at least."""
    not_followed = mask & ~is_among(topic, following.topics)
    elsewhere = not_followed & ~is_among(topic, following.tired)
    for narrower in (elsewhere, not_followed):
        if np.count_nonzero(narrower) >= _SPARE * n_slots:
            return narrower
    return mask


def _is_looking(query: Query, n_followed: int) -> bool:
    is_known = query.user.evidence >= LITTLE_KNOWN
    return not is_known or n_followed > 0 or query.by_topic.between > INSISTENT_BETWEEN


def _tired(query: Query) -> Ints:
    """Return the topics of the latest cards that the user does not like."""
    user = query.user
    latest = [answer.topic for answer in user.topic_answers[-LATELY:]]
    if user.pages:
        latest += [topic_name(card.tags, card.vector) for card in user.pages[-1].cards]
    posterior = query.by_topic
    liked = {name for name, mean in zip(posterior.names, posterior.mean, strict=True) if mean > 0.0}
    tired = [name for name in dict.fromkeys(latest) if name not in liked]
    return topic_codes(query.catalogue, tired)


def _narrow(rule: SlotRule, some: Bools, name: str) -> SlotRule:
    mask = rule.mask & some
    eligible = rule.eligible & mask
    return SlotRule(mask, eligible if eligible.any() else mask, name)
