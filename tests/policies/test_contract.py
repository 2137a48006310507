"""The laws that ship hold for every policy of ours, learned or not, on the feed's columns."""

from collections.abc import Callable

import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED
from env.interface import Policy
from policies.bandit.policy import HybridBandit
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.custom.contract import LAWS, Law, sample_context, sample_masks
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
SLOW = "speed"  # a time is nothing to assert on a busy machine; tests/policies/custom holds the law
EXEMPT = {
    "greedy popularity": {"support"},  # for comparison, never served
    "linear UCB": {"support", "saving"},  # the same
    "linear Thompson": {"saving"},
    "vowpal": {"saving"},  # kept by snapshots of its own
}
every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
HELD = [
    pytest.param(make, law, id=f"{name}, {law.name}")
    for name, make in POLICIES.items()
    for law in LAWS
    if law.name != SLOW and law.name not in EXEMPT.get(name, set())
]


@pytest.mark.parametrize(("make", "law"), HELD)
def test_a_policy_keeps_the_law(make: Callable[[], Policy], law: Law) -> None:
    assert law.reason(make) == ""


@every_policy
def test_logged_arguments_build_the_explorer_again(make: Callable[[], Policy]) -> None:
    policy = make()
    explorer = explorer_from(policy.explorer)
    scores = policy.score(sample_context(5, 20))
    assert explorer_args(explorer) == policy.explorer
    for mask in sample_masks(5, 20):
        assert np.array_equal(explorer.pmf(scores, mask), policy.explore(scores, mask))
