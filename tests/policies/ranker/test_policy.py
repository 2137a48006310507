"""The trained ranker as a policy of the feed, beside the contract of all policies."""

import subprocess
import sys

import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED
from env.interface import fill_page
from env.vocabulary import SlotRule
from policies.custom.contract import sample_context
from policies.ranker.ranker import Ranker, RankerArgs, RetentionPolicy
from tests.studies.retention.ranker import random_ranker

MASK = np.arange(30) % 3 > 0


def ranker(seed: int = 1) -> Ranker:
    return random_ranker(RankerArgs(N_SHARED, N_ACTION), np.random.default_rng(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_the_pmf_is_the_softmax_of_the_logits_mixed_with_the_floor(
    temperature: float, floor: float
) -> None:
    page = sample_context(1, 30)
    logits = ranker().scores(page.features.shared, page.features.actions)
    weights = np.exp(logits / temperature) * MASK
    expected = (1.0 - floor) * weights / weights.sum() + floor * MASK / MASK.sum()
    policy = RetentionPolicy(ranker(), temperature, floor)
    assert policy.pmf(page, MASK) == pytest.approx(expected, abs=1e-12)


def test_a_policy_that_was_loaded_draws_the_same_pages_to_the_last_bit() -> None:
    policy = RetentionPolicy(ranker(), name="retention@4")
    loaded = RetentionPolicy(Ranker.from_bytes(ranker().to_bytes()), name="retention@4")
    rule = SlotRule(MASK, ~MASK)
    for seed in range(20):
        drawn, again = (
            fill_page(sample_context(seed, 30), each, [rule] * 5, 0.05, seed)
            for each in (policy, loaded)
        )
        assert again.decisions == drawn.decisions
        assert {decision.policy for decision in drawn.decisions} == {"retention@4"}


def test_another_ranker_draws_other_pages() -> None:
    rule = SlotRule(MASK, MASK)
    first, other = (
        fill_page(sample_context(1, 30), RetentionPolicy(ranker(seed)), [rule] * 5, 0.05, 1)
        for seed in (1, 2)
    )
    assert [d.propensity for d in first.decisions] != [d.propensity for d in other.decisions]


def test_a_ranker_of_other_columns_than_the_feed_s_is_refused() -> None:
    mini = random_ranker(RankerArgs(3, 4), np.random.default_rng(1))
    with pytest.raises(ValueError, match=rf"feed's {N_SHARED} columns .* got \(3, 4\)"):
        RetentionPolicy(mini)


@pytest.mark.parametrize(
    ("temperature", "floor", "message"),
    [
        (0.0, 0.0, "temperature must be above 0, got 0.0"),
        (-1.0, 0.0, "temperature must be above 0"),
        (float("nan"), 0.0, "temperature must be above 0"),
        (1.0, 1.0, r"floor must be in \[0, 1\), got 1.0"),
        (1.0, -0.1, r"floor must be in \[0, 1\), got -0.1"),
        (1.0, float("nan"), "floor must be"),
    ],
)
def test_a_number_out_of_range_is_refused(temperature: float, floor: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetentionPolicy(ranker(), temperature, floor)


@pytest.mark.slow
def test_serving_imports_neither_torch_nor_rllib() -> None:
    code = (
        "import sys, serve.processes.ray_app, serve.processes.replica, policies.ranker.ranker; "
        "sys.exit(', '.join(sorted({'torch', 'ray.rllib'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
