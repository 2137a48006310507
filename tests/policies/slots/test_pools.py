"""Slot rules: open to all candidates or reserved for the owed, drawn exactly as they say."""

from functools import cache

import numpy as np
import pytest
from builders import NOW_MS, SKIPPED, catalogue_named, folded, interaction
from queries import query_of

from env.columns.schema import N_ACTION, N_SHARED, N_STATIC, SCHEMA
from env.interface import Policy, draw, fill_page, redraw, slot_pmf, slot_uniform
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.pages.records import Blocks, page_record
from env.pages.verify import audit_page
from env.pages.verify_many import DrawAudit
from env.records import Card, block_hash, item_key, pack_halves
from env.users.state import newcomer
from env.vocabulary import (
    Bools,
    Context,
    Features,
    Floats,
    Ints,
    ItemId,
    Page,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.scorer import HybridBanditScorer, Kernel, make_layout
from policies.explorers import SquareCB
from policies.slots.rules import FAIR_START, LITTLE_EVIDENCE, reserve, slots

NOWHERE: Ints = np.zeros(0, dtype=np.int64)


def world(**impressions: int) -> tuple[Catalogue, ItemStates]:
    shown = (interaction(name, SKIPPED) for name, n in impressions.items() for _ in range(n))
    return catalogue_named(impressions), folded(shown)


def none_owed(n: int) -> Bools:
    return np.zeros(n, dtype=np.bool_)


def rules(n_slots: int, n: int, owed: list[int], places: list[int]) -> tuple[SlotRule, ...]:
    """Return the rules of a page with n new candidates."""
    mask = none_owed(n)
    mask[owed] = True
    index = np.array(places, dtype=np.int64)
    return asked(
        new_items(n),
        ItemStates(),
        np.arange(n),
        owed=np.flatnonzero(mask),
        places=index,
        size=n_slots,
    )


def asked(
    catalogue: Catalogue,
    states: ItemStates,
    index: Ints,
    *,
    size: int,
    owed: Ints = NOWHERE,
    places: Ints = NOWHERE,
) -> tuple[SlotRule, ...]:
    """Return the slot rules of a page of these candidates."""
    scene, user = Scene(1), newcomer(Profile())
    query = query_of(user, scene, catalogue, states, debut=owed, places=places, size=size)
    return slots(query, index)


@cache
def new_items(n: int) -> Catalogue:
    return catalogue_named(f"i{k}" for k in range(n))


def test_the_floor_goes_to_candidates_with_little_evidence() -> None:
    catalogue, states = world(known=LITTLE_EVIDENCE, nearly=LITTLE_EVIDENCE - 1, new=0)
    rule, *_ = asked(catalogue, states, np.array([2, 0, 1]), size=3)
    assert rule.mask.tolist() == [True, True, True]
    assert rule.eligible.tolist() == [True, False, True]
    assert rule.name == "open"


def test_where_all_are_known_the_floor_goes_to_all() -> None:
    catalogue, states = world(a=LITTLE_EVIDENCE, b=LITTLE_EVIDENCE + 1)
    rule, *_ = asked(catalogue, states, np.array([0, 1]), size=1)
    assert rule.eligible.tolist() == [True, True]


def test_equal_slots_share_one_rule() -> None:
    assert len({id(rule) for rule in rules(5, 1, [], [])}) == 1
    assert len({id(rule) for rule in rules(8, 12, [0, 1, 2], [3, 1])}) == 2


def test_no_slots_and_no_candidates_are_no_error() -> None:
    assert rules(0, 1, [], []) == ()
    assert rules(1, 0, [], [0])[0].mask.shape == (0,)


def test_reserved_slots_take_the_owed_and_open_ones_leave_them_alone() -> None:
    page = rules(6, 12, [0, 1, 5], [4, 1])
    assert [rule.name for rule in page] == ["open", FAIR_START, "open", "open", FAIR_START, "open"]
    for rule in page:
        assert np.flatnonzero(rule.mask == (rule.name == FAIR_START)).tolist() == [0, 1, 5]
        assert np.array_equal(rule.mask, rule.eligible)


def test_without_a_reserved_slot_the_owed_are_candidates_like_any_other() -> None:
    for page in (rules(4, 9, [0, 1], []), rules(4, 9, [], [2, 3])):
        assert {rule.name for rule in page} == {"open"}
        assert page[0].mask.all()


def test_only_as_many_slots_are_reserved_as_there_are_owed_candidates() -> None:
    page = rules(6, 12, [3], [4, 1, 2])
    assert [slot for slot, rule in enumerate(page) if rule.name == FAIR_START] == [4]


@pytest.mark.parametrize("n", range(1, 15))
@pytest.mark.parametrize("n_owed", [1, 2, 4, 14])
def test_a_page_is_never_shorter_for_its_reserved_slots(n: int, n_owed: int) -> None:
    owed = list(range(min(n_owed, n)))
    page = fill_page(context(n), SCORER, rules(6, n, owed, [0, 3]), 0.1, seed=n)
    shown = [page.slots[d.slot].name for d in page.decisions]
    assert len(shown) == min(6, n)
    assert shown.count(FAIR_START) == min(len(owed), 2)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.25, 1.0])
def test_the_share_is_reserved_on_average_and_each_place_as_often(share: float) -> None:
    n_slots, n_pages = 7, 4_000
    reserved = [reserve(share, n_slots, seed) for seed in range(n_pages)]
    counts = np.array([len(places) for places in reserved])
    assert set(counts.tolist()) <= {int(share * n_slots), int(np.ceil(share * n_slots))}
    part = share * n_slots % 1.0
    se = np.sqrt(part * (1.0 - part) / n_pages)
    assert abs(counts.mean() - share * n_slots) <= 4.0 * se + 1e-12
    firsts = [places[:1] for places in reserved]
    for chosen in (reserved, firsts):
        where = np.bincount(np.concatenate(chosen), minlength=n_slots)
        assert np.abs(where - where.mean()).max() <= 4.0 * np.sqrt(where.mean())


def test_a_page_s_places_hang_on_its_seed_alone() -> None:
    assert np.array_equal(reserve(0.4, 10, 5), reserve(0.4, 10, 5))
    assert any(not np.array_equal(reserve(0.4, 10, 5), reserve(0.4, 10, s)) for s in range(9))


# --- what is drawn ---

LAYOUT = make_layout(10)
WEIGHTS = np.random.default_rng(3).normal(0.0, 0.3, LAYOUT.mask + 1).astype(np.float32)
SCORER = HybridBanditScorer(Kernel(LAYOUT, WEIGHTS), SquareCB(gamma=10.0), 1)


@cache
def features_of(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    half = rng.random((n, N_ACTION)).astype(np.float16).astype(np.float32)
    shared = rng.random(N_SHARED).astype(np.float16).astype(np.float32)
    keys = np.array([item_key(f"i{k}") for k in range(n)], dtype=np.uint64)
    return Features(shared, half, keys)


def context(n: int, seed: int = 0, page_id: str = "p") -> Context:
    ids, scene = tuple(ItemId(f"i{k}") for k in range(n)), Scene(NOW_MS, country="MY")
    features = features_of(n, seed)
    return Context(PageId(page_id), UserKey("u"), SessionId("s"), scene, ids, features)


def a_page(seed: int, policy: Policy = SCORER) -> Page:
    """Return a page of 24 candidates, of which 5 are owed, with 2 reserved slots of 8."""
    places = [int(slot) for slot in reserve(0.25, 8, seed)]
    asked = context(24, seed % 5, f"p{seed}")
    return fill_page(asked, policy, rules(8, 24, [0, 1, 2, 9, 17], places), 0.1, seed)


def logged(page: Page) -> tuple[Page, Page]:
    """Return a page, and as it is read back from its record alone."""
    static = [pack_halves(row) for row in page.context.features.actions[:, :N_STATIC]]
    blocks = Blocks()
    for block in static:
        blocks.add(block)
    record = page_record(
        page,
        blocks=b"".join(map(block_hash, static)),
        n_static=N_STATIC,
        feature_schema=SCHEMA,
        cards=tuple(Card(d.item_id, static[d.action]) for d in page.decisions),
        reasons=("debut",) * len(page.decisions),
    )
    return page, blocks.page(record)


def test_a_page_with_reserved_slots_is_drawn_again_from_its_record_alone() -> None:
    n_reserved = 0
    for seed in range(40):
        page, read = logged(a_page(seed))
        assert redraw(read, SCORER, seed) == page.decisions
        assert audit_page(read, SCORER, seed) == []
        names = [read.slots[d.slot].name for d in read.decisions]
        n_reserved += names.count(FAIR_START)
    assert n_reserved == 2 * 40


@pytest.mark.slow
def test_an_audit_of_many_pages_with_reserved_slots_is_clean() -> None:
    audit = DrawAudit()
    for seed in range(1_000):
        audit.add(a_page(seed), SCORER)
    assert audit.violations() == []


@pytest.mark.slow
def test_reserved_draws_follow_their_propensities() -> None:
    """Pearson's chi-square of 100,000 draws over five pages' reserved slots, p above .01."""
    n_each, chi_square, freedom = 10_000, 0.0, 0
    for k in range(5):
        page = a_page(k)
        scores = SCORER.score(page.context)
        left = np.ones(len(page.context), dtype=np.bool_)
        for decision in page.decisions:
            rule = page.slots[decision.slot]
            if rule.name == FAIR_START:
                pmf = slot_pmf(SCORER, scores, rule, left, page.eps)
                assert pmf[decision.action] == decision.propensity
                seeds = range(k * n_each, (k + 1) * n_each)
                chi_square += pearson(pmf, decision.slot, seeds)
                freedom += int(np.count_nonzero(pmf)) - 1
            left[decision.action] = False
    assert freedom == 5 * (4 + 3)
    assert chi_square < 57.3  # the .99 quantile of chi-square with 35 degrees of freedom


def pearson(pmf: Floats, slot: int, seeds: range) -> float:
    drawn = [draw(pmf, slot_uniform(seed, slot)) for seed in seeds]
    counts, expected = np.bincount(drawn, minlength=len(pmf)), len(seeds) * pmf
    possible = pmf > 0.0
    assert counts[~possible].sum() == 0
    return float(((counts - expected)[possible] ** 2 / expected[possible]).sum())
