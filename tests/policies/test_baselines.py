"""Baselines whose pmfs are checked by hand."""

import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED, POPULARITY, action_index
from env.interface import Policy, fill_page
from env.vocabulary import Context, Features, ItemId, PageId, Scene, SessionId, SlotRule, UserKey
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import Greedy, explorer_args, explorer_from


def context(popularity: list[float]) -> Context:
    n = len(popularity)
    actions = np.random.default_rng(3).normal(size=(n, N_ACTION)).astype(np.float32)
    actions[:, action_index(POPULARITY)] = popularity
    return Context(
        page_id=PageId("p"),
        user=UserKey("u"),
        session=SessionId("s"),
        scene=Scene(0),
        candidates=tuple(ItemId(f"i{i}") for i in range(n)),
        features=Features(
            np.zeros(N_SHARED, dtype=np.float32), actions, np.arange(n, dtype=np.uint64)
        ),
    )


PAGE = context([0.5, 0.25, 0.0, 1.0])
MASK = np.array([True, True, True, False])
SOFT = np.exp([5.0, 2.5, 0.0]) / np.exp([5.0, 2.5, 0.0]).sum()


@pytest.mark.parametrize(
    ("policy", "pmf"),
    [
        (UniformPolicy(), [1 / 3, 1 / 3, 1 / 3, 0.0]),
        (PopularityPolicy(), [*SOFT, 0.0]),
        (PopularityPolicy(Greedy()), [1.0, 0.0, 0.0, 0.0]),
        (mixture_policy(0.3), [*(0.1 + 0.7 * SOFT), 0.0]),
        (mixture_policy(1.0), [1 / 3, 1 / 3, 1 / 3, 0.0]),
    ],
)
def test_a_baseline_s_pmf_is_what_a_hand_computes(policy: Policy, pmf: list[float]) -> None:
    assert policy.explore(policy.score(PAGE), MASK) == pytest.approx(pmf, abs=1e-12)


@pytest.mark.parametrize("policy", [UniformPolicy(), PopularityPolicy(), mixture_policy(0.3)])
def test_a_baseline_logs_arguments_that_build_its_explorer_again(policy: Policy) -> None:
    explorer = explorer_from(policy.explorer)
    scores = policy.score(PAGE)

    assert explorer_args(explorer) == policy.explorer
    assert np.array_equal(explorer.pmf(scores, MASK), policy.explore(scores, MASK))
    assert policy.name.partition("@")[2] == "0"


def test_a_uniform_page_of_two_of_three_shows_every_order_equally_often() -> None:
    three = context([0.0, 0.0, 0.0])
    open_slot = SlotRule(np.ones(3, dtype=np.bool_), np.ones(3, dtype=np.bool_))
    n = 3000

    pages = [fill_page(three, UniformPolicy(), [open_slot] * 2, 0.1, seed) for seed in range(n)]
    orders = [tuple(d.action for d in page.decisions) for page in pages]

    counts = np.array([orders.count(o) for o in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))])
    assert counts.sum() == n
    assert np.abs(counts - n / 6).max() < 4.5 * np.sqrt(n * (1 / 6) * (5 / 6))
    for page in pages[:20]:
        assert [d.propensity for d in page.decisions] == pytest.approx([1 / 3, 1 / 2])


@pytest.mark.parametrize(("share", "temperature"), [(-0.1, 0.1), (1.1, 0.1), (0.5, 0.0)])
def test_a_mixture_out_of_range_is_refused(share: float, temperature: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        mixture_policy(share, temperature)
