"""The one place that draws: exact pmfs, the floor, prefixes, redrawing, refusals."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.columns.schema import N_ACTION, N_SHARED
from env.interface import draw, fill_page, page_pmfs, page_seed, redraw, slot_pmf, slot_uniform
from env.vocabulary import (
    Bools,
    Context,
    Features,
    Floats,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.explorers import AnyExplorer, Epsilon, Softmax, SquareCB, Uniform, explorer_args


class FixedPolicy:
    """The scores it was made with, whatever the context."""

    name = "fixed@1"

    def __init__(self, scores: list[float], explorer: AnyExplorer) -> None:
        self.explorer = explorer_args(explorer)
        self._scores = scores
        self._explorer = explorer

    def score(self, context: Context) -> Floats:
        return np.array(self._scores)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return self._explorer.pmf(scores, mask)


class BrokenPolicy(FixedPolicy):
    """Returns this array as its pmf."""

    name = "broken@1"

    def __init__(self, pmf: object) -> None:
        super().__init__([0.0, 0.0, 0.0], Uniform())
        self._pmf = np.asarray(pmf)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return self._pmf


def context(n: int) -> Context:
    return Context(
        page_id=PageId("p"),
        user=UserKey("u"),
        session=SessionId("s"),
        scene=Scene(0),
        candidates=tuple(ItemId(f"i{i}") for i in range(n)),
        features=Features(
            np.zeros(N_SHARED, dtype=np.float32),
            np.zeros((n, N_ACTION), dtype=np.float32),
            np.arange(n, dtype=np.uint64),
        ),
    )


def rule(mask: list[int], eligible: list[int] | None = None) -> SlotRule:
    bits = np.array(mask, dtype=np.bool_)
    return SlotRule(bits, bits if eligible is None else np.array(eligible, dtype=np.bool_))


OPEN = rule([1, 1, 1])
ALL = np.ones(3, dtype=np.bool_)


def test_the_floor_is_mixed_over_the_eligible_that_are_left() -> None:
    policy = FixedPolicy([3.0, 2.0, 1.0], Epsilon(0.0))
    scores = policy.score(context(3))
    left = np.array([True, False, True])

    assert slot_pmf(policy, scores, OPEN, ALL, 0.3) == pytest.approx([0.8, 0.1, 0.1])
    assert slot_pmf(policy, scores, rule([1, 1, 1], [0, 1, 1]), ALL, 0.3) == pytest.approx(
        [0.7, 0.15, 0.15]
    )
    assert slot_pmf(policy, scores, rule([1, 1, 1], [0, 1, 1]), left, 0.3) == pytest.approx(
        [0.7, 0.0, 0.3]
    )
    assert slot_pmf(policy, scores, rule([1, 1, 1], [0, 1, 0]), left, 0.3) == pytest.approx(
        [0.85, 0.0, 0.15]
    )
    assert slot_pmf(policy, scores, rule([0, 1, 1], [1, 0, 0]), ALL, 0.3) == pytest.approx(
        [0.0, 0.85, 0.15]
    )


def test_the_product_over_slots_is_plackett_luce_for_softmax_without_a_floor() -> None:
    values = [0.3, 0.1, 0.2]
    policy = FixedPolicy(values, Softmax(0.1))
    weights = np.exp(np.array(values) / 0.1)
    n = 2000

    seen: dict[tuple[int, ...], list[float]] = {order: [] for order in permutations(range(3))}
    for seed in range(n):
        page = fill_page(context(3), policy, [OPEN] * 3, 0.0, seed)
        order = tuple(d.action for d in page.decisions)
        seen[order].append(float(np.prod([d.propensity for d in page.decisions])))

    for (a, b, c), propensities in seen.items():
        p = weights[a] / weights.sum() * weights[b] / (weights[b] + weights[c])
        assert propensities == pytest.approx([p] * len(propensities))
        assert abs(len(propensities) - n * p) < 4.5 * np.sqrt(n * p * (1 - p))


def test_a_slot_for_which_nothing_is_left_stays_off_and_the_others_keep_their_numbers() -> None:
    policy = FixedPolicy([1.0, 2.0, 3.0], Uniform())

    page = fill_page(context(3), policy, [rule([1, 0, 0]), rule([1, 0, 0]), OPEN], 0.1, 7)

    assert [d.slot for d in page.decisions] == [0, 2]
    assert [d.decision_id for d in page.decisions] == ["p:0", "p:2"]
    assert redraw(page, policy, 7) == page.decisions


def test_rounding_makes_no_propensity_above_one() -> None:
    above_one = np.array([1.0 + 1e-10, 0.0, 0.0])

    page = fill_page(context(3), BrokenPolicy(above_one), [rule([1, 0, 0])], 0.0, 1)

    assert [d.propensity for d in page.decisions] == [1.0]


def test_more_slots_than_candidates_show_each_once() -> None:
    page = fill_page(context(3), FixedPolicy([0.0] * 3, Uniform()), [OPEN] * 5, 0.1, 1)

    assert sorted(d.action for d in page.decisions) == [0, 1, 2]
    assert fill_page(context(0), FixedPolicy([], Uniform()), [rule([])], 0.1, 1).decisions == ()


@st.composite
def pages(draw: st.DrawFn) -> tuple[FixedPolicy, list[SlotRule], float, int]:
    n = draw(st.integers(1, 12))
    bits = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    scores = draw(st.lists(st.floats(-10, 10), min_size=n, max_size=n))
    explorers: list[AnyExplorer] = [Uniform(), Epsilon(0.2), Softmax(0.5), SquareCB(30.0)]
    explorer = draw(st.sampled_from(explorers))
    rules = draw(st.lists(st.builds(rule, bits, bits), min_size=1, max_size=8))
    eps = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return FixedPolicy(scores, explorer), rules, eps, draw(st.integers(0, 2**64 - 1))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pages())
@pytest.mark.slow
def test_every_page_is_exact_repeatable_and_within_its_rules(
    case: tuple[FixedPolicy, list[SlotRule], float, int],
) -> None:
    policy, rules, eps, seed = case
    n = len(rules[0].mask)

    page = fill_page(context(n), policy, rules, eps, seed)

    actions = [d.action for d in page.decisions]
    assert len(set(actions)) == len(actions)
    assert redraw(page, policy, seed) == page.decisions
    left = np.ones(n, dtype=np.bool_)
    for decision, pmf in page_pmfs(page, policy):
        allowed = rules[decision.slot].mask & left
        assert 0.0 < decision.propensity == pmf[decision.action] <= 1.0
        assert abs(pmf.sum() - 1.0) < 1e-12
        assert not pmf[~allowed].any()
        eligible = rules[decision.slot].eligible & allowed
        floor = eligible if eligible.any() else allowed
        assert (pmf[floor] >= eps / np.count_nonzero(floor) * (1 - 1e-12)).all()
        left[decision.action] = False
    for slot in set(range(len(rules))) - {d.slot for d in page.decisions}:
        before = [d.action for d in page.decisions if d.slot < slot]
        assert not set(np.flatnonzero(rules[slot].mask)) - set(before)


@pytest.mark.parametrize(
    ("pmf", "message"),
    [
        ([0.5, 0.5, 0.5], "sums to 1, got 1.5"),
        ([np.nan, 0.5, 0.5], "sums to 1, got nan"),
        ([np.inf, 0.5, 0.5], "sums to 1, got inf"),
        ([-0.5, 1.0, 0.5], "no negative probability"),
        ([0.5, 0.25, 0.25], "probability 0 off the mask"),
        ([1.0], r"pmf of shape \(3,\), got float64 of shape \(1,\)"),
        ([0.5, 0.5, 0.0, 0.0], r"pmf of shape \(3,\)"),
        (np.array([0.5, 0.5, 0.0], dtype=np.float32), "float64 pmf"),
        ([1, 0, 0], "float64 pmf"),
    ],
)
def test_what_is_no_pmf_is_refused_with_the_policy_s_name(pmf: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"broken@1: expected .*{message}"):
        fill_page(context(3), BrokenPolicy(pmf), [rule([1, 1, 0])], 0.1, 1)


@pytest.mark.parametrize("scores", [[0.0, np.nan, 0.0], [0.0, np.inf, 0.0], [0.0, 0.0], []])
def test_scores_that_are_not_one_finite_number_a_candidate_are_refused(
    scores: list[float],
) -> None:
    with pytest.raises(ValueError, match="fixed@1: expected 3 finite scores"):
        fill_page(context(3), FixedPolicy(scores, Uniform()), [OPEN], 0.1, 1)


@pytest.mark.parametrize("eps", [-0.1, 1.1, np.nan])
def test_a_floor_out_of_range_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\]"):
        fill_page(context(3), FixedPolicy([0.0] * 3, Uniform()), [OPEN], eps, 1)


def test_a_rule_of_another_length_is_refused_with_its_slot() -> None:
    with pytest.raises(ValueError, match=r"slot 1 \(open\): expected mask .* shape \(3,\)"):
        fill_page(context(3), FixedPolicy([0.0] * 3, Uniform()), [OPEN, rule([1, 1])], 0.1, 1)


@pytest.mark.parametrize(
    ("pmf", "uniform", "action"),
    [
        ([0.25, 0.0, 0.75], 0.0, 0),
        ([0.0, 1.0, 0.0], 0.0, 1),
        ([0.0, 1.0, 0.0], 1 - 2**-53, 1),
        ([0.5, 0.5, 0.0], 0.5, 1),
        ([0.5, 0.5 - 1e-10, 0.0], 1 - 2**-53, 1),
        ([0.1] * 10, 1 - 2**-53, 9),
        ([1e-300, 1.0], 0.0, 0),
        ([1e-300, 1.0], 2**-53, 1),
    ],
)
def test_the_inverse_cdf_never_draws_what_has_no_probability(
    pmf: list[float], uniform: float, action: int
) -> None:
    assert draw(np.array(pmf), uniform) == action


def test_uniform_numbers_are_the_same_for_ever_and_lie_in_their_interval() -> None:
    values = [slot_uniform(seed, slot) for seed in (0, 1, 2**64 - 1) for slot in range(50)]

    assert 0.0 <= min(values) < max(values) < 1.0
    assert len(set(values)) == len(values)
    assert slot_uniform(1, 0) == 0.27134838596522237
    assert page_seed(b"key", PageId("p")) == 6590053044634201783
    assert page_seed(b"key", PageId("q")) != 6590053044634201783 != page_seed(b"yek", PageId("p"))


def test_uniform_numbers_of_pages_and_slots_are_uniform_and_independent() -> None:
    n = 2000
    seeds = [page_seed(b"key", PageId(f"{i:08x}")) for i in range(n)]
    u = np.array([[slot_uniform(seed, slot) for slot in range(2)] for seed in seeds])

    counts = np.histogram2d(u[:, 0], u[:, 1], bins=8, range=[[0, 1], [0, 1]])[0]
    chi_square = float(np.sum((counts - n / 64) ** 2) / (n / 64))
    assert abs(chi_square - 63) < 4.5 * np.sqrt(2 * 63)
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 4.5 / np.sqrt(n)
