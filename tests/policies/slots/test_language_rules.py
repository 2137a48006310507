"""Slots by language: masks that part the candidates, and what they do where some are missing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from builders import NOW_MS, catalogue_with
from queries import query_of

from env.items.catalogue import Catalogue
from env.users.state import newcomer
from env.vocabulary import Ints, Profile, Scene, SlotRule
from policies.candidates.languages import PageLanguages
from policies.candidates.query import Query
from policies.slots.rules import (
    FAIR_START,
    LIKED,
    OTHER,
    OWN_LANGUAGE,
    SUBSTITUTE,
    by_language,
    gave_way,
    spread,
)

N_SLOTS = 10
OWN, EN, ZH = range(3)


def a_catalogue(n_own: int, n_en: int, n_zh: int) -> Catalogue:
    spoken = ["ms"] * n_own + ["en"] * n_en + ["zh"] * n_zh
    return catalogue_with(**{f"i{k:03d}": {"language": name} for k, name in enumerate(spoken)})


def query_with(
    catalogue: Catalogue, liked: tuple[int, ...] = (), other: tuple[int, ...] = ()
) -> Query:
    """Return a query whose slots ask for Chinese, which is liked, and for others."""
    codes = catalogue.codes
    distance = np.where(catalogue.languages == codes.language("ms"), 0, 1).astype(np.int8)
    page = PageLanguages(
        catalogue,
        distance,
        np.array([codes.language("zh")]) if liked else np.zeros(0, dtype=np.int64),
        np.array(liked, dtype=np.int64),
        np.array(other, dtype=np.int64),
    )
    query = query_of(newcomer(Profile()), Scene(NOW_MS), catalogue, size=N_SLOTS)
    return replace(query, languages=page)


def open_rules(n: int, reserved: tuple[int, ...] = (), fair: Ints | None = None) -> list[SlotRule]:
    is_fair = np.zeros(n, dtype=np.bool_)
    if fair is not None:
        is_fair[fair] = True
    rest, kept = SlotRule(~is_fair, ~is_fair), SlotRule(is_fair, is_fair, FAIR_START)
    return [kept if slot in reserved else rest for slot in range(N_SLOTS)]


def ruled(query: Query, rules: list[SlotRule] | None = None) -> tuple[SlotRule, ...]:
    n = len(query.catalogue)
    return by_language(query, np.arange(n), rules or open_rules(n))


def languages(query: Query, rule: SlotRule) -> set[int]:
    return set(query.catalogue.languages[rule.mask].tolist())


def test_each_slot_takes_the_language_that_it_asks_for() -> None:
    catalogue = a_catalogue(30, 10, 10)
    query = query_with(catalogue, liked=(7, 2), other=(4,))
    rules = ruled(query)
    code = catalogue.codes.language
    expected = {2: (LIKED, "zh"), 7: (LIKED, "zh"), 4: (OTHER, "en")}
    for slot, rule in enumerate(rules):
        name, language = expected.get(slot, ("open", "ms"))
        assert (rule.name, languages(query, rule)) == (name, {code(language)})
        assert rule.mask[rule.eligible].all()
    assert gave_way(rules) == ()


def test_a_page_that_makes_no_difference_keeps_its_rules() -> None:
    catalogue = a_catalogue(30, 10, 10)
    rules = open_rules(50)
    query = replace(query_with(catalogue, other=(1,)), languages=PageLanguages())
    assert ruled(query, rules) == tuple(rules)


def test_a_slot_without_candidates_in_another_language_takes_an_own_one() -> None:
    query = query_with(a_catalogue(30, 0, 1), liked=(3, 5), other=(4,))
    rules = ruled(query)
    assert Counter(rule.name for rule in rules) == {"open": 9, LIKED: 1}
    assert rules[3].name == LIKED
    assert gave_way(rules) == ()


def test_where_own_ones_are_missing_the_last_slots_take_others_and_say_so() -> None:
    catalogue = a_catalogue(6, 20, 20)
    query = query_with(catalogue, liked=(0,), other=(1,))
    rules = ruled(query)
    names = [rule.name for rule in rules]
    assert names == [LIKED, OTHER, *["open"] * 6, *[SUBSTITUTE] * 2]
    others = {catalogue.codes.language(name) for name in ("en", "zh")}
    assert languages(query, rules[-1]) == others
    assert gave_way(rules) == (OWN_LANGUAGE,)
    assert gave_way(rules, ("creator",)) == ("creator", OWN_LANGUAGE)
    assert gave_way(rules, ("language",)) == ("language",)


@pytest.mark.parametrize(("n_own", "n_en", "n_zh"), [(0, 9, 1), (3, 6, 1), (4, 3, 3), (0, 0, 10)])
@pytest.mark.parametrize("gap", [1, 2])
def test_no_slot_is_left_empty_while_there_are_candidates(
    n_own: int, n_en: int, n_zh: int, gap: int
) -> None:
    """Ten candidates for ten slots, whatever each slot draws of those that its mask leaves."""
    query = query_with(a_catalogue(n_own, n_en, n_zh), liked=(9, 5), other=(7,))
    rng = np.random.default_rng(0)
    for _ in range(200):
        topics = rng.integers(0, 4, N_SLOTS)
        rules = spread(ruled(query), topics, gap, 3)
        left = np.ones(N_SLOTS, dtype=np.bool_)
        for rule in rules:
            free = np.flatnonzero(rule.mask & left)
            if len(free):
                left[rng.choice(free)] = False
        assert not left.any()


def test_reserved_slots_that_may_show_another_language_count_as_those_that_ask_for_it() -> None:
    catalogue = a_catalogue(30, 10, 10)
    query = query_with(catalogue, other=(4, 6))
    of_own, of_en = np.array([0]), np.array([35])
    counts = [
        Counter(rule.name for rule in ruled(query, open_rules(50, (2,), fair)))
        for fair in (of_own, of_en)
    ]
    assert counts == [{"open": 7, OTHER: 2, FAIR_START: 1}, {"open": 8, OTHER: 1, FAIR_START: 1}]
