"""Batches and targets: what is wrong is refused, and a policy of ours can be asked anywhere."""

from typing import Any

import numpy as np
import pytest
from logs import Batches, Fixed, draw_batch
from worlds import LIKES, World, lines

from policies.baselines import PopularityPolicy, UniformPolicy
from policies.explorers import Softmax
from replay.evaluate.targets import PolicyTarget, checked_pmfs, row_pages
from replay.join.dataset import read
from replay.source import Watched

N, K = 20, 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"propensity": np.append(np.ones(N - 1), 0.0)},
            r"propensity must be in \(0, 1\], got 0.0",
        ),
        ({"propensity": np.full(N, 1.5)}, r"propensity must be in \(0, 1\], got 1.5 in row 0"),
        ({"propensity": np.full(N, np.nan)}, r"propensity must be in \(0, 1\], got nan in row 0"),
        ({"reward": np.append(np.ones(N - 1), np.nan)}, "reward must be finite, got nan in row 19"),
        ({"action": np.full(N, K)}, "action must be one of 4 candidates, got 4 in row 0"),
        ({"action": np.full(N, -1)}, "action must be one of 4 candidates, got -1 in row 0"),
        (
            {"mask": np.eye(N, K) > 0.5},
            "action must be on the mask of its candidates, got . in row",
        ),
        ({"slot": np.zeros(3)}, r"slot: expected a shape of \(20,\), got \(3,\)"),
        ({"pmf": np.ones((N, 2))}, r"pmf: expected a shape of \(20, 4\), got \(20, 2\)"),
        ({"segments": {"hour": np.array(["1"])}}, r"segment hour: expected a shape of \(20,\)"),
    ],
)
def test_a_batch_that_cannot_be_trusted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_batch(N, K, **changes)


@pytest.mark.parametrize(
    ("pmf", "message"),
    [
        ((0.5, 0.5), r"fixed: expected probabilities of shape \(20, 4\), got \(20, 2\)"),
        ((0.5, 0.6, -0.1, 0.0), "fixed: expected probabilities of at least 0, got .* in row 0"),
        ((0.5, 0.4, 0.0, 0.0), "fixed: expected a sum of 1, got .* in row 0"),
        ((np.nan, 1.0, 0.0, 0.0), "fixed: expected probabilities of at least 0"),
        ((0.0, 0.0, 0.0, 1.0), "fixed: expected probability 0 off the mask of candidates"),
    ],
)
def test_a_target_that_is_no_distribution_is_refused(pmf: tuple[float, ...], message: str) -> None:
    mask = np.ones((N, K), dtype=np.bool_)
    mask[:, 3] = False
    batch = draw_batch(N, K, mask=mask, action=np.zeros(N, dtype=np.int64))
    with pytest.raises(ValueError, match=message):
        checked_pmfs(Fixed(pmf), batch)


def test_a_policy_of_ours_is_asked_about_a_foreign_log_candidate_by_candidate() -> None:
    scores = np.random.default_rng(3).normal(size=(N, K, 60))
    mask = np.ones((N, K), dtype=np.bool_)
    mask[: N // 2, 3] = False
    action = np.zeros(N, dtype=np.int64)
    batch = draw_batch(N, K, action_context=scores, mask=mask, action=action)
    uniform = checked_pmfs(PolicyTarget(UniformPolicy()), batch)
    np.testing.assert_allclose(uniform, mask / mask.sum(axis=1, keepdims=True))
    by_popularity = checked_pmfs(PolicyTarget(PopularityPolicy(Softmax(1.0))), batch)
    assert (by_popularity[: N // 2, 3] == 0.0).all()
    assert len({tuple(row) for row in by_popularity.round(6)}) == N


def test_a_page_made_of_a_row_has_its_numbers() -> None:
    context = np.arange(N * 2, dtype=np.float64).reshape(N, 2)
    shared_by_all = np.arange(K * 3, dtype=np.float64).reshape(K, 3)
    slot = np.full(N, 2, dtype=np.int64)
    batch = draw_batch(N, K, context=context, action_context=shared_by_all, slot=slot)
    for row, (page, rows) in enumerate(row_pages(batch)):
        (decision,) = page.decisions
        assert rows.tolist() == [row]
        assert (decision.action, decision.slot) == (batch.action[row], 2)
        assert decision.propensity == batch.propensity[row]
        np.testing.assert_array_equal(page.context.features.shared, context[row])
        np.testing.assert_array_equal(page.context.features.actions, shared_by_all)


def test_a_source_that_is_watched_tells_of_each_decision_each_time() -> None:
    told: list[int] = []
    source = Watched(Batches([draw_batch(N), draw_batch(30)]), told.append)
    assert [len(batch) for batch in source.batches()] == [N, 30]
    assert sum(len(batch) for batch in source.batches()) == 50
    assert told == [N, 30, N, 30]


def test_what_a_decision_could_take_is_its_rule_less_its_prefix() -> None:
    """The last slot of the world is reserved for even candidates."""
    world = World(rng=np.random.default_rng(5))
    records = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=20, pages_each=2, eps=0.1):
        records += its_records
    log = read(lines(records), LIKES)
    (batch,) = log.batches()
    np.testing.assert_array_equal(batch.n_actions, log.n_actions)
    np.testing.assert_array_equal(batch.of_chosen(batch.mask.astype(np.float64)), 1.0)
    assert (batch.segments["slot"] == log.slot.astype(np.str_)).all()
    assert set(batch.segments["country"]) == {"MY"}
    assert set(batch.segments["hour"]) == {"20"}
    assert len(batch.draws.action) > len(batch)  # those that nobody saw were drawn too
