"""The study of explorations, short: what its designs must show whatever the world."""

import pytest

from serve.bench.shipped import HourSize
from tests.studies.evaluation.exploration import DESIGNS, Outcome, run_exploration


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    result = run_exploration(
        HourSize(minutes=33, users=120, present=10),
        seed=3,
        now_ms=1_800_000_000_000,
        advance=lambda step, done, total: None,
    )
    assert result.decisions > 500
    return {outcome.design: outcome for outcome in result.outcomes}


def test_every_design_is_asked_all_four_questions(outcomes: dict[str, Outcome]) -> None:
    assert list(outcomes) == [design.name for design in DESIGNS]
    for outcome in outcomes.values():
        assert list(outcome.ess) == ["uniform", "popularity", "current", "half an hour ago"]


def test_no_exploration_costs_nothing_and_answers_the_least(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["none"].cost == 0.0
    for name in ("slots: squarecb 2,000", "slots: squarecb 2,000, 3% uniform (shipped)"):
        for question, ess in outcomes[name].ess.items():
            assert ess > outcomes["none"].ess[question]


def test_balanced_weights_keep_at_least_as_many_decisions_effective_as_own_ones(
    outcomes: dict[str, Outcome],
) -> None:
    own = outcomes["5% of users, their own weights"]
    balanced = outcomes["5% of users or pages, balanced weights"]
    # So few users answer by chance: the ratio is 1.5 here, give or take .4.
    assert balanced.ess["uniform"] > 0.8 * own.ess["uniform"]
    assert balanced.cost == own.cost
