"""The shipped hour in small: what it asks, what it counts, and what it calls a cost."""

import numpy as np
import pytest

from env.vocabulary import UserId
from serve.bench.shipped import (
    ExplorationCost,
    HourSize,
    ShippedResult,
    _with_hour_apart,
    run_shipped,
)

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def result() -> ShippedResult:
    return run_shipped(
        HourSize(minutes=34, users=120, present=10),
        seeds=1,
        first_seed=3,
        now_ms=NOW_MS,
        advance=lambda step, done, total: None,
    )


def test_four_questions_are_asked_of_each_world(result: ShippedResult) -> None:
    kinds = [answer.policy.partition("@")[0] for answer in result.answers]
    assert kinds == ["uniform", "popularity", "vowpal", "vowpal"]
    current, before = (int(answer.policy.partition("@")[2]) for answer in result.answers[2:])
    assert 0 < before < current
    assert result.ope_questions == 4


def test_an_answer_holds_the_truth_or_is_refused(result: ShippedResult) -> None:
    for answer in result.answers:
        assert 0.0 < answer.truth < 2.0
        assert answer.answered == (not answer.refusals)
        if answer.low is None or answer.high is None:
            assert not answer.holds
        else:
            assert answer.holds == (answer.low <= answer.truth <= answer.high)
    assert result.ope_questions_answered == sum(a.answered for a in result.answers)
    assert result.intervals_holding_truth == sum(a.holds for a in result.answers)


def test_exploring_costs_something_and_is_as_certain_as_pairs_make_it(
    result: ShippedResult,
) -> None:
    (cost,) = result.costs
    assert cost.cards > 500
    assert 0.0 < cost.cost < 0.03
    # Rewards spread by about a half, so two hours of other cards would be ten times less certain.
    apart = 0.5 * (2.0 / cost.cards) ** 0.5 / cost.reward
    assert 0.0 < cost.se < 0.1 * apart
    assert result.exploration_cost == cost.cost
    assert cost.hours_apart is None


def test_hours_of_the_same_users_are_paired() -> None:
    rng = np.random.default_rng(1)
    taste = rng.normal(1.0, 0.3, size=300)
    cards = rng.integers(5, 30, size=300)
    mine = {
        UserId(str(k)): (float(0.98 * t * n), int(n))
        for k, (t, n) in enumerate(zip(taste, cards, strict=True))
    }
    theirs = {
        UserId(str(k)): (float(t * n), int(n))
        for k, (t, n) in enumerate(zip(taste, cards, strict=True))
    }
    cost = _with_hour_apart(ExplorationCost(1, 0, 0.0, 0.0, 0.0), mine, theirs)
    assert cost.hours_apart == pytest.approx(0.02)
    assert cost.hours_apart_se == pytest.approx(0.0, abs=1e-12)
