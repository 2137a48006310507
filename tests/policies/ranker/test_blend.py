"""Bandit and ranker in one page: who has a say where, in which unit, and that it is repeatable."""

import dataclasses
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from auditions import debut, shown
from hypothesis import given
from hypothesis import strategies as st
from queries import feature_query
from random_rankers import random_ranker
from threadpoolctl import threadpool_limits

from env.columns.schema import DYNAMIC, N_ACTION, N_SHARED, N_STATIC, SHARED, quantise
from env.features.encode import encode
from env.interface import fill_page, page_pmfs, redraw
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.users.fold import LONG_DECAY
from env.users.state import UserState
from env.vocabulary import (
    Context,
    Features,
    Float32s,
    Floats,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.item_effects import EVIDENCE
from policies.baselines import PopularityPolicy
from policies.explorers import SHIPPED, Greedy, Softmax, SquareCB, explorer_args
from policies.ranker.blend import (
    ITEM_EVIDENCE,
    MOST_CARDS,
    BlendArgs,
    BlendedPolicy,
    BlendSettings,
    answered_cards,
    blend_args,
    rewarded_impressions,
)

N = 12
HALF = BlendSettings(item_half=30.0, person_half=60.0)


class Fixed:
    """Values, or scores, that are given."""

    name = "vowpal@7"

    def __init__(self, values: Floats) -> None:
        self.values, self.n_asked = values, 0
        self.explorer: dict[str, object] = {}

    def scores(self, user: Float32s, items: Float32s) -> Floats:
        self.n_asked += 1
        return self.values

    def score(self, context: Context) -> Floats:
        return self.values

    def explore(self, scores: Floats, mask: object) -> Floats:
        raise NotImplementedError  # the blend explores


def evidence_of(cards: float) -> float:
    """Return the decayed count of so many answered cards."""
    return float((1.0 - LONG_DECAY**cards) / (1.0 - LONG_DECAY))


def context(cards: float, impressions: Floats, seed: int = 0) -> Context:
    """Return a page of which user and candidates have this evidence, the rest at random."""
    n = len(impressions)
    rng = np.random.default_rng(seed)
    shared, actions = rng.normal(size=N_SHARED), rng.normal(size=(n, N_ACTION))
    shared[EVIDENCE] = np.log1p(evidence_of(cards)) / 5.0
    actions[:, ITEM_EVIDENCE] = np.log1p(impressions) / np.log1p(1000.0)
    features = Features(quantise(shared), quantise(actions), np.arange(n, dtype=np.uint64))
    ids = tuple(ItemId(f"i{k}") for k in range(n))
    return Context(PageId("p"), UserKey("u"), SessionId("s"), Scene(0), ids, features)


def blend(scores: Floats, values: Floats, settings: BlendSettings = HALF) -> BlendedPolicy:
    return BlendedPolicy(Fixed(scores), Fixed(values), BlendArgs(3, "d" * 64, settings))


def drawn(seed: int, n: int = N) -> tuple[Floats, Floats]:
    """Return scores of a bandit and values of a ranker."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, 0.1, n), rng.normal(-3.0, 4.0, n)


# --- evidence ---


def test_columns_are_those_of_the_features() -> None:
    assert SHARED[EVIDENCE] == "evidence"
    assert DYNAMIC[ITEM_EVIDENCE - N_STATIC] == "item_evidence"


@pytest.mark.parametrize("cards", [0.0, 1.0, 5.0, 60.0, 300.0])
def test_answered_cards_are_recovered_from_their_decayed_count(cards: float) -> None:
    shared = context(cards, np.zeros(1)).features.shared
    assert answered_cards(shared) == pytest.approx(cards, rel=0.02)


@pytest.mark.parametrize("column", [-1.0, np.log1p(200.0) / 5.0, 2.0, 65504.0])
def test_any_number_in_the_column_is_a_count_of_cards(column: float) -> None:
    shared = np.zeros(N_SHARED, dtype=np.float32)
    shared[EVIDENCE] = column
    assert answered_cards(shared) == (0.0 if column < 0.0 else MOST_CARDS)


@pytest.mark.parametrize("impressions", [0.0, 1.0, 30.0, 900.0])
def test_impressions_are_recovered(impressions: float) -> None:
    actions = context(0.0, np.array([impressions])).features.actions
    assert rewarded_impressions(actions)[0] == pytest.approx(impressions, rel=0.02)


def test_evidence_is_what_the_encoding_makes_of_answered_cards() -> None:
    state = UserState(Profile(), evidence=evidence_of(40.0))
    nothing = np.zeros(0, dtype=np.int64)
    features = encode(feature_query(state, Scene(at_ms=1), Catalogue(), ItemStates()), nothing)
    assert answered_cards(features.shared) == pytest.approx(40.0, rel=0.01)


def test_rewarded_impressions_are_what_the_encoding_makes_of_the_log() -> None:
    catalogue, states = Catalogue(), ItemStates()
    catalogue.apply(debut("film"))
    for k in range(25):
        states.fold(shown("film", k))
    index = np.zeros(1, dtype=np.int64)
    features = encode(feature_query(UserState(Profile()), Scene(at_ms=1), catalogue, states), index)
    assert rewarded_impressions(features.actions)[0] == pytest.approx(25.0, rel=0.01)


def test_gates_are_the_product_of_both_parts_of_the_weight() -> None:
    page = context(60.0, np.array([0.0, 30.0, 90.0]))
    policy = blend(np.zeros(3), np.zeros(3), msgspec.structs.replace(HALF, weight=0.8))
    assert policy.gates(page.features) == pytest.approx([0.0, 0.2, 0.3], rel=0.02)


# --- who has a say ---


def test_a_newcomer_gets_the_bandit_to_the_last_bit_and_the_ranker_is_not_asked() -> None:
    scores, values = drawn(1)
    ranker = Fixed(values)
    policy = BlendedPolicy(Fixed(scores), ranker, BlendArgs(3, "d", HALF))
    assert policy.score(context(0.0, np.full(N, 500.0))).tobytes() == scores.tobytes()
    assert ranker.n_asked == 0


def test_a_new_video_keeps_the_bandit_s_score_to_the_last_bit() -> None:
    scores, values = drawn(2)
    impressions = np.where(np.arange(N) % 3 == 0, 0.0, 200.0)
    blended = blend(scores, values).score(context(300.0, impressions))
    assert np.array_equal(blended == scores, impressions == 0.0)


def test_at_weight_0_it_is_the_bandit() -> None:
    scores, values = drawn(3)
    policy = blend(scores, values, msgspec.structs.replace(HALF, weight=0.0))
    assert policy.score(context(300.0, np.full(N, 500.0))).tobytes() == scores.tobytes()


def test_where_much_is_known_the_order_is_the_ranker_s() -> None:
    scores, values = drawn(4)
    sure = BlendSettings(item_half=1e-3, person_half=1e-3)
    blended = blend(scores, values, sure).score(context(300.0, np.full(N, 500.0)))
    assert np.argsort(blended).tolist() == np.argsort(values).tolist()
    assert (blended.mean(), blended.std()) == pytest.approx((scores.mean(), scores.std()), rel=1e-4)


def test_more_evidence_moves_every_score_farther_from_the_bandit_s() -> None:
    scores, values = drawn(5)
    policy = blend(scores, values)
    far = [
        np.abs(policy.score(context(cards, np.full(N, 50.0))) - scores)
        for cards in (1.0, 10.0, 100.0, 1000.0)
    ]
    assert all((more > less).all() for less, more in pairwise(far))


# --- one unit ---


@given(
    seed=st.integers(0, 1000),
    level=st.floats(-100.0, 100.0),
    temper=st.floats(0.1, 100.0),
)
@pytest.mark.slow
def test_the_level_and_temper_of_a_ranker_do_not_matter(
    seed: int, level: float, temper: float
) -> None:
    scores, values = drawn(seed)
    page = context(100.0, np.random.default_rng(seed).uniform(0.0, 300.0, N))
    moved = blend(scores, level + temper * values).score(page)
    assert moved == pytest.approx(blend(scores, values).score(page), abs=1e-9)


@given(seed=st.integers(0, 1000))
@pytest.mark.slow
def test_the_page_s_sum_is_the_bandit_s_so_new_videos_are_neither_favoured_nor_pushed_out(
    seed: int,
) -> None:
    scores, values = drawn(seed)
    rng = np.random.default_rng(seed)
    impressions = rng.uniform(0.0, 300.0, N) * (rng.random(N) < 0.7)
    blended = blend(scores, values).score(context(100.0, impressions))
    assert blended.sum() == pytest.approx(scores.sum(), abs=1e-9)


def test_between_candidates_of_the_same_evidence_the_ranker_s_order_decides_a_tie() -> None:
    _, values = drawn(6)
    scores = np.where(np.arange(N) % 2 == 0, 0.2, 0.6)
    blended = blend(scores, values).score(context(100.0, np.full(N, 80.0)))
    for group in (slice(0, N, 2), slice(1, N, 2)):
        assert np.argsort(blended[group]).tolist() == np.argsort(values[group]).tolist()


def test_values_that_hardly_differ_are_not_spread_out() -> None:
    scores, values = drawn(7)
    page, alike = context(300.0, np.full(N, 500.0)), 1e-6 * values
    gates = blend(scores, alike).gates(page.features)
    middle = scores.mean()
    expected = scores + gates * (middle - scores)
    assert blend(scores, alike).score(page) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [1, 2])
def test_a_page_of_few_candidates_is_scored(n: int) -> None:
    scores, values = drawn(8, n)
    blended = blend(scores, values).score(context(300.0, np.full(n, 500.0)))
    assert blended == pytest.approx(scores) if n == 1 else np.isfinite(blended).all()


# --- it can be repeated ---


def test_a_page_is_drawn_again_from_its_log_alone() -> None:
    ranker, page_context = random_ranker(), context(100.0, np.linspace(0.0, 400.0, 40))
    args = BlendArgs(3, "d", msgspec.structs.replace(HALF, explorer=SquareCB(300.0)))
    rules = [SlotRule(np.ones(40, np.bool_), np.ones(40, np.bool_))] * 8
    page = fill_page(page_context, BlendedPolicy(PopularityPolicy(), ranker, args), rules, 0.02, 5)
    logged = msgspec.msgpack.decode(msgspec.msgpack.encode(page.explorer), type=dict[str, object])
    again = BlendedPolicy(PopularityPolicy(), ranker, blend_args(logged))
    assert redraw(dataclasses.replace(page, explorer=logged), again, 5) == page.decisions
    assert again.explorer == logged == page.explorer
    for decision, pmf in page_pmfs(page, again):
        assert pmf[decision.action] == decision.propensity


@pytest.mark.parametrize("n", [1, 7, 100, 300, 1000])
def test_scores_are_the_same_bits_whatever_threads_blas_was_given(n: int) -> None:
    policy = BlendedPolicy(PopularityPolicy(), random_ranker(hidden=64), BlendArgs(3, "d"))
    page, found = context(100.0, np.linspace(0.0, 400.0, n)), set[bytes]()
    for n_threads in (1, 2, 4):
        with threadpool_limits(n_threads, "blas"):
            found.add(policy.score(page).tobytes())
    assert len(found) == 1


def test_a_reserved_slot_keeps_its_rule() -> None:
    scores, values = drawn(9)
    new = np.arange(N) < 3
    open_to_all = SlotRule(np.ones(N, np.bool_), np.ones(N, np.bool_))
    reserved = SlotRule(new, new, "fair_start")
    policy = blend(scores, values)
    page_context = context(300.0, np.where(new, 0.0, 300.0))
    for seed in range(50):
        page = fill_page(page_context, policy, [open_to_all, reserved, open_to_all], 0.02, seed)
        (second,) = (d for d in page.decisions if d.slot == 1)
        assert new[second.action]


def test_its_name_tells_the_bandit_s_version_and_its_arguments_all_else() -> None:
    policy = blend(*drawn(10))
    assert policy.name == "blend@7"
    assert policy.explorer == {
        "kind": "blend",
        "ranker": 3,
        "digest": "d" * 64,
        "settings": {
            "weight": 1.0,
            "item_half": 30.0,
            "person_half": 60.0,
            "least_spread": 0.05,
            "explorer": explorer_args(SHIPPED),
        },
    }


def test_pages_of_a_later_release_can_be_read() -> None:
    args = blend(*drawn(11)).explorer | {"more": 1}
    assert blend_args(args).ranker == 3


@pytest.mark.parametrize(
    "args",
    [
        {"kind": "softmax", "temperature": 1.0},
        {"kind": "blend", "ranker": 3},
        {"kind": "blend", "ranker": 3, "digest": "d", "settings": {"weight": 2.0}},
    ],
)
def test_arguments_of_another_policy_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        blend_args(args)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.5}, "weight must be in"),
        ({"item_half": 0.0}, "above 0"),
        ({"person_half": float("inf")}, "above 0"),
        ({"least_spread": float("nan")}, "above 0"),
        ({"explorer": SquareCB(0.0)}, None),
        ({"explorer": Softmax(0.1)}, None),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str | None) -> None:
    if message is None:
        assert msgspec.structs.replace(HALF, **settings).explorer == settings["explorer"]
        return
    with pytest.raises(ValueError, match=message):
        BlendSettings(**settings)  # type: ignore[arg-type]


def test_an_explorer_without_support_is_refused() -> None:
    with pytest.raises(ValueError, match="explorer must give every candidate a probability"):
        BlendSettings(explorer=Greedy())
