from functools import cache

import numpy as np
import pytest

from env.twin.model import MiniConstants, MiniModel
from env.twin.policies import normalised_score
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective
from policies.training.search.search import SearchArgs, WeightSearch, crossed, linear_pmf
from tests.studies.peers.planner import PlannerArgs
from tests.studies.peers.tabular_q import TabularArgs, TabularQ
from tests.studies.retention.twin_arms import ARMS, Learned, Task, TwinBudget

PROGRAMME = DynamicProgramme.of(MiniModel.of(MiniConstants()))
UNIFORM = np.full((336, 4), 0.25)
SMALL = TwinBudget(
    few=PlannerArgs(n_users=100, rounds=(100, 100)),
    tabular=TabularArgs(n_users=256, n_steps=2_000),
    search=SearchArgs(population=24, elite=5, generations=8),
    users=8,
)


def score(policy: np.ndarray, objective: MiniObjective) -> float:
    return normalised_score(PROGRAMME, policy, objective)


@cache
def learned(arm: str, objective: MiniObjective) -> Learned:
    return ARMS[arm](Task(objective, 1), SMALL, lambda done, total: None)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_search_of_weights_beats_weights_of_0(objective: MiniObjective) -> None:
    found = learned("search over 16 weights", objective)
    assert score(found.served, objective) > score(UNIFORM, objective) + 0.03


def test_a_table_learns_more_than_its_start_takes() -> None:
    start = np.eye(4)[np.zeros(336, dtype=int)]
    found = learned("tabular Q", "days")
    assert score(found.greedy, "days") > 0.3
    assert score(found.greedy, "watch") > score(start, "watch")


def test_a_greedy_bandit_finds_out_what_is_watched_longest() -> None:
    found = learned("greedy bandit", "watch")
    assert score(found.greedy, "watch") == pytest.approx(0.0, abs=0.02)
    assert PROGRAMME.model.watch_s[np.arange(336), found.greedy.argmax(axis=1)].mean() > 18.0


def test_every_arm_serves_a_pmf_with_its_cards() -> None:
    for arm in ("search over 16 weights", "tabular Q", "greedy bandit"):
        found = learned(arm, "watch")
        for policy in (found.served, found.greedy):
            assert policy.shape == (336, 4)
            assert policy.min() >= 0.0
            assert np.allclose(policy.sum(axis=1), 1.0)
        assert found.n_cards > 0


def test_a_search_climbs_to_the_top_of_a_hill() -> None:
    top = np.array([1.0, -2.0, 0.5])
    search = WeightSearch(3, SearchArgs(population=64, elite=10, generations=40), seed=1)
    for _ in range(40):
        weights = search.ask()
        search.tell(weights, -((weights - top) ** 2).sum(axis=1))
    assert np.abs(search.mean - top).max() < 0.05
    assert search.generation == 40


def test_a_search_refuses_worths_that_are_none() -> None:
    search = WeightSearch(2, SearchArgs(), seed=1)
    weights = search.ask()
    with pytest.raises(ValueError, match="expected 48 finite worths"):
        search.tell(weights, np.full(48, np.nan))
    with pytest.raises(ValueError, match="expected 48 finite worths"):
        search.tell(weights, np.zeros(3))


@pytest.mark.parametrize("args", [(10, 10), (10, 1), (10, 2, 0)])
def test_a_search_that_cannot_move_is_refused(args: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 2 <= elite < population"):
        SearchArgs(*args)


def test_crossed_features_give_each_action_weights_of_its_own() -> None:
    features = crossed(np.array([[0.5, 0.2]]), 2)
    assert features.tolist() == [[[1.0, 0.5, 0.2, 0, 0, 0], [0, 0, 0, 1.0, 0.5, 0.2]]]
    pmf = linear_pmf(np.array([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]), features)
    assert pmf[0, 0] == pytest.approx(np.e / (np.e + 1.0))


def test_q_learning_solves_what_it_sees_often() -> None:
    # Two states: 0 pays 1 and stays, 1 pays 0 and leads to 0, with a discount of 1/2.
    args = TabularArgs(n_users=2, n_steps=4_000, power=0.6)
    table = TabularQ(2, 1, args, seed=1)
    state, zero = np.array([0, 1]), np.zeros(2, dtype=np.int64)
    for _ in range(args.n_steps):
        table.learn(state, zero, np.array([1.0, 0.0]), np.full(2, 0.5), zero)
    assert table.values[:, 0] == pytest.approx([2.0, 1.0], abs=1e-3)


def test_several_visits_at_once_count_as_many() -> None:
    once, apart = (TabularQ(1, 1, TabularArgs(power=1.0), seed=1) for _ in range(2))
    zero, none = np.zeros(3, dtype=np.int64), np.zeros(3)
    once.learn(zero, zero, np.full(3, 6.0), none, zero)
    for _ in range(3):
        apart.learn(zero[:1], zero[:1], np.full(1, 6.0), none[:1], zero[:1])
    assert once.values[0, 0] == pytest.approx(apart.values[0, 0]) == pytest.approx(6.0)
