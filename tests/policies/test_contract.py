"""The contract of every policy of `env.interface`, learned or not, on the feed's columns."""

from collections.abc import Callable

import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED, quantise
from env.interface import Policy, fill_page, page_pmfs, redraw
from env.vocabulary import (
    Bools,
    Context,
    Features,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.policy import HybridBandit
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import Greedy, explorer_args, explorer_from
from policies.ranker.ranker import RankerArgs, RetentionPolicy
from tests.studies.peers.linear import LinThompson, LinUcb
from tests.studies.retention.ranker import random_ranker


def retention(temperature: float = 1.0, floor: float = 0.0) -> RetentionPolicy:
    ranker = random_ranker(RankerArgs(N_SHARED, N_ACTION), np.random.default_rng(1))
    return RetentionPolicy(ranker, temperature, floor, "retention@7")


POLICIES: dict[str, Callable[[], Policy]] = {
    "uniform": UniformPolicy,
    "popularity": PopularityPolicy,
    "greedy popularity": lambda: PopularityPolicy(Greedy()),
    "mixture": lambda: mixture_policy(0.3),
    "linear UCB": LinUcb,
    "linear Thompson": LinThompson,
    "vowpal": HybridBandit,
    "vowpal's scorer": lambda: HybridBandit().frozen(3),
    "retention": retention,
    "retention, colder, with a floor": lambda: retention(0.3, 0.1),
}
every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


def context(seed: int, n: int) -> Context:
    rng = np.random.default_rng(seed)
    return Context(
        page_id=PageId(f"p{seed}"),
        user=UserKey("u"),
        session=SessionId("s"),
        scene=Scene(0),
        candidates=tuple(ItemId(f"i{i}") for i in range(n)),
        features=Features(
            quantise(rng.normal(size=N_SHARED)),
            quantise(rng.normal(size=(n, N_ACTION))),
            rng.integers(0, 2**63, n).astype(np.uint64),
        ),
    )


def masks(seed: int, n: int) -> list[Bools]:
    """All of them, one of them, and some."""
    one = np.arange(n) == n // 2
    some = np.random.default_rng(seed).random(n) < 0.5
    return [np.ones(n, dtype=np.bool_), one, some | one]


@every_policy
@pytest.mark.parametrize("n", [1, 2, 100, 200])
def test_scores_are_one_finite_number_a_candidate(make: Callable[[], Policy], n: int) -> None:
    scores = make().score(context(n, n))
    assert scores.shape == (n,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_policy
@pytest.mark.parametrize("n", [1, 2, 100, 200])
def test_a_pmf_is_float64_sums_to_1_and_is_0_off_the_mask(
    make: Callable[[], Policy], n: int
) -> None:
    policy = make()
    scores = policy.score(context(n, n))
    for mask in masks(n, n):
        pmf = policy.explore(scores, mask)
        assert pmf.dtype == np.float64
        assert abs(pmf.sum() - 1.0) < 1e-12
        assert (pmf >= 0.0).all()
        assert not pmf[~mask].any()


@every_policy
def test_scoring_and_exploring_are_pure_to_the_last_bit(make: Callable[[], Policy]) -> None:
    policy, again = make(), make()
    page, other = context(1, 50), context(2, 30)
    shared, actions = page.features.shared.copy(), page.features.actions.copy()
    scores = policy.score(page)
    mask = masks(1, 50)[2]
    pmf = policy.explore(scores, mask)
    policy.explore(policy.score(other), masks(2, 30)[0])
    for equal in (policy, again):
        assert np.array_equal(equal.score(page), scores)
        assert np.array_equal(equal.explore(scores.copy(), mask.copy()), pmf)
    assert np.array_equal(page.features.shared, shared)
    assert np.array_equal(page.features.actions, actions)


@every_policy
def test_a_page_is_drawn_again_to_the_last_bit(make: Callable[[], Policy]) -> None:
    policy, n = make(), 60
    rule = SlotRule(masks(3, n)[2], masks(4, n)[2])
    for seed in range(10):
        page = fill_page(context(seed, n), policy, [rule] * 6, 0.1, seed)
        assert len(page.decisions) == 6
        assert redraw(page, make(), seed) == page.decisions
        for decision, pmf in page_pmfs(page, make()):
            assert decision.propensity == pmf[decision.action]


@every_policy
def test_logged_arguments_build_the_explorer_again(make: Callable[[], Policy]) -> None:
    policy = make()
    explorer = explorer_from(policy.explorer)
    scores = policy.score(context(5, 20))
    assert explorer_args(explorer) == policy.explorer
    for mask in masks(5, 20):
        assert np.array_equal(explorer.pmf(scores, mask), policy.explore(scores, mask))


@every_policy
def test_a_name_says_which_version(make: Callable[[], Policy]) -> None:
    kind, at, version = make().name.partition("@")
    assert kind
    assert at
    assert version.isdecimal()
