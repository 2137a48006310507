"""Slot rules: open to all candidates, the floor spread over those of which little is known."""

import numpy as np
from builders import SKIPPED, catalogue_named, folded, interaction

from env.catalogue import Catalogue
from env.items import ItemStates
from policies.pools import LITTLE_EVIDENCE, slots


def world(**impressions: int) -> tuple[Catalogue, ItemStates]:
    shown = (interaction(name, SKIPPED) for name, n in impressions.items() for _ in range(n))
    return catalogue_named(impressions), folded(shown)


def test_the_floor_goes_to_candidates_with_little_evidence() -> None:
    catalogue, states = world(known=LITTLE_EVIDENCE, nearly=LITTLE_EVIDENCE - 1, new=0)
    rule, *_ = slots(3, catalogue, np.array([2, 0, 1]), states)
    assert rule.mask.tolist() == [True, True, True]
    assert rule.eligible.tolist() == [True, False, True]
    assert rule.name == "open"


def test_where_all_are_known_the_floor_goes_to_all() -> None:
    catalogue, states = world(a=LITTLE_EVIDENCE, b=LITTLE_EVIDENCE + 1)
    rule, *_ = slots(1, catalogue, np.array([0, 1]), states)
    assert rule.eligible.tolist() == [True, True]


def test_equal_slots_share_one_rule() -> None:
    catalogue, states = world(a=0)
    rules = slots(5, catalogue, np.array([0]), states)
    assert len(rules) == 5
    assert len({id(rule) for rule in rules}) == 1


def test_no_slots_and_no_candidates_are_no_error() -> None:
    catalogue, states = world(a=0)
    none = np.zeros(0, dtype=np.int64)
    assert slots(0, catalogue, none, states) == ()
    assert slots(1, catalogue, none, states)[0].mask.shape == (0,)
