"""Spacing: topics take turns, exactly as the rules say, and give way where candidates are few."""

import itertools

import numpy as np
import pytest
from builders import catalogue_of

from env.items.topics import topics
from env.vocabulary import Bools, Ints, Item, ItemId, SlotRule
from policies.slots.rules import FAIR_START, gap_for, spread

N_SLOTS = 8


def open_rules(mask: Bools, n_slots: int = N_SLOTS) -> tuple[SlotRule, ...]:
    return (SlotRule(mask, mask),) * n_slots


def codes(n: int, n_topics: int) -> Ints:
    return np.arange(n, dtype=np.int64) % n_topics


@pytest.mark.parametrize("gap", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_a_topic_is_possible_in_every_gap_th_slot_only(gap: int, seed: int) -> None:
    topic = codes(200, 40)
    rules = spread(open_rules(np.ones(200, dtype=np.bool_)), topic, gap, seed)
    for about in range(40):
        where = [slot for slot, rule in enumerate(rules) if rule.mask[topic == about].any()]
        assert len({slot % gap for slot in where}) == 1
        assert where == list(range(where[0], N_SLOTS, gap))


def test_every_candidate_is_possible_somewhere_and_nothing_else_is() -> None:
    mask = np.arange(200) % 5 > 0
    rules = spread(open_rules(mask), codes(200, 40), 3, 1)
    assert np.logical_or.reduce([rule.mask for rule in rules]).tolist() == mask.tolist()
    assert all(not (rule.eligible & ~rule.mask).any() for rule in rules)


def test_topics_are_dealt_anew_for_each_page() -> None:
    topic, mask = codes(200, 40), np.ones(200, dtype=np.bool_)
    first = [spread(open_rules(mask), topic, 2, seed)[0].mask[:40] for seed in range(400)]
    share = np.mean(first, axis=0)
    assert np.abs(share - 0.5).max() < 5.0 * 0.5 / np.sqrt(400)


def test_the_floor_goes_to_what_is_little_known_of_the_group_or_else_to_all_of_it() -> None:
    mask, little = np.ones(200, dtype=np.bool_), np.arange(200) < 40
    rules = spread((SlotRule(mask, little),) * N_SLOTS, codes(200, 40), 2, 1)
    assert all((rule.eligible == (rule.mask & little)).all() for rule in rules)
    one = np.arange(200) == 0
    rules = spread((SlotRule(mask, one),) * N_SLOTS, codes(200, 40), 2, 1)
    assert sorted(int(rule.eligible.sum()) == 1 for rule in rules) == [False] * 4 + [True] * 4


def test_reserved_slots_stay_as_they_are() -> None:
    fair = np.arange(200) < 4
    rest = SlotRule(~fair, ~fair)
    reserved = SlotRule(fair, fair, FAIR_START)
    rules = spread((rest, reserved, rest, rest), codes(200, 40), 2, 1)
    assert rules[1] is reserved
    assert not any((rule.mask & fair).any() for slot, rule in enumerate(rules) if slot != 1)


@pytest.mark.parametrize(
    ("n", "n_topics", "gap"), [(200, 40, 1), (200, 1, 2), (6, 6, 2), (3, 3, 5)]
)
def test_the_rules_stay_where_spacing_asks_for_nothing_or_candidates_are_few(
    n: int, n_topics: int, gap: int
) -> None:
    rules = open_rules(np.ones(n, dtype=np.bool_))
    spaced = spread(rules, codes(n, n_topics), gap, 3)
    assert all(rule is before for rule, before in zip(spaced, rules, strict=True))


def test_a_page_of_one_card_may_be_of_any_topic() -> None:
    rules = open_rules(np.ones(200, dtype=np.bool_), n_slots=1)
    (spaced,) = spread(rules, codes(200, 40), 2, 1)
    assert spaced is rules[0]


def test_the_topic_is_the_first_tag_or_else_where_the_vector_points() -> None:
    up, down = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0), (-1.0, -1.0, -1.0, -1.0, -1.0, 0.0)
    catalogue = catalogue_of(
        Item(ItemId("a"), tags=("dance", "pets")),
        Item(ItemId("b"), tags=("dance",)),
        Item(ItemId("c"), tags=("pets", "dance")),
        Item(ItemId("d"), vector=up),
        Item(ItemId("e"), vector=tuple(2.0 * x for x in up)),
        Item(ItemId("f"), vector=down),
    )
    a, b, c, d, e, f = topics(catalogue, np.arange(6)).tolist()
    assert a == b != c
    assert d == e != f
    assert max(d, f) < 0 < min(a, c)


def test_a_newcomers_gap_narrows_with_evidence_and_ends_at_that_of_everybody() -> None:
    gaps = [gap_for(float(evidence), 2, 6, 20.0) for evidence in range(500)]
    assert gaps[0] == 6
    assert gaps[-1] == 2
    assert all(later <= earlier for earlier, later in itertools.pairwise(gaps))
    assert [gap_for(evidence, 3, 3, 20.0) for evidence in (0.0, 5.0, 1e6)] == [3, 3, 3]


def test_where_all_candidates_are_reserved_nothing_is_spaced() -> None:
    fair, none = np.ones(8, dtype=np.bool_), np.zeros(8, dtype=np.bool_)
    rules = (SlotRule(fair, fair, FAIR_START), SlotRule(none, none))
    assert spread(rules, codes(8, 4), 2, 1) == rules
