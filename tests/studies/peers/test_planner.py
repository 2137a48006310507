import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from env.twin.env import OBS_MODES, MiniSwipeVectorEnv
from env.twin.model import MiniConstants, MiniModel
from env.twin.policies import myopic, normalised_score
from env.twin.solve import DynamicProgramme, MiniObjective
from env.vocabulary import Bools, Floats, Ints
from policies.training import fitted_model
from policies.training import fitted_model as local_linear
from policies.training import fitted_model as pair_logit
from policies.training.fitted_model import (
    DAYS,
    WATCH,
    FittedModel,
    Grid,
    LocalLinear,
    ObjectiveWeights,
    Transitions,
    TransitionSums,
    pair_chances,
)
from tests.studies.peers import planner
from tests.studies.peers.planner import People, Planner, PlannerArgs, greedy, plan

GRID = Grid((21, 4, 4))
PROGRAMME = DynamicProgramme.of(MiniModel.of(MiniConstants()))
WORTHS: dict[MiniObjective, ObjectiveWeights] = {"watch": WATCH, "days": DAYS}


class Curtain:
    """An environment behind which nothing but `reset` and `step` can be reached."""

    __slots__ = ("reset", "step")

    def __init__(self, users: People) -> None:
        self.reset = users.reset
        self.step = users.step


def learned(objective: MiniObjective, args: PlannerArgs, seed: int) -> Planner:
    users = Curtain(MiniSwipeVectorEnv(args.n_users))
    found = Planner(users, GRID, 4, args, seed)
    found.learn([WORTHS[objective]])
    return found


def score(objective: MiniObjective, tally: TransitionSums) -> float:
    worth = WORTHS[objective]
    return normalised_score(PROGRAMME, plan(FittedModel.fit(tally), worth), objective)


@pytest.mark.parametrize("objective", ["watch", "days"])
def test_the_planner_comes_within_a_hundredth_of_the_optimum(objective: MiniObjective) -> None:
    assert score(objective, learned(objective, PlannerArgs(), seed=1).tally) >= 0.99


@pytest.mark.parametrize("objective", ["watch", "days"])
def test_100_000_cards_are_most_of_it(objective: MiniObjective) -> None:
    args = PlannerArgs.few()
    assert args.n_cards == 100_000
    found = learned(objective, args, seed=1)
    assert found.tally.cards.sum() <= args.n_cards
    assert score(objective, found.tally) >= 0.9


def test_the_planner_knows_the_environment_by_its_interface_alone() -> None:
    for module in (planner, fitted_model, pair_logit, local_linear):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not {name for name in names if name and "miniswipe" in name}, module


def test_the_same_seed_plans_the_same() -> None:
    args = PlannerArgs(n_users=20, rounds=(50, 50))
    first, second = learned("watch", args, 3).tally, learned("watch", args, 3).tally
    assert np.array_equal(first.moved, second.moved)
    assert not np.array_equal(first.moved, learned("watch", args, 4).tally.moved)


def test_the_model_values_a_policy_as_the_environment_does() -> None:
    model = FittedModel.fit(learned("watch", PlannerArgs.few(), seed=2).tally)
    policy = np.full((GRID.n_states, 4), 0.25)
    for objective, worth in WORTHS.items():
        true = PROGRAMME.value(policy, objective)
        found = model.evaluate(policy, worth).state[GRID.states(np.array([[0.5, 0.0, 0.0]]))[0]]
        # A life's value is some 20 times what hangs on the returns' mean, whose error is .0005.
        assert found == pytest.approx(true, rel=0.03)


def test_values_of_actions_agree_with_those_of_states() -> None:
    model = FittedModel.fit(learned("watch", PlannerArgs(n_users=50, rounds=(200,)), seed=5).tally)
    policy = np.random.default_rng(1).dirichlet(np.ones(4), GRID.n_states)
    values = model.evaluate(policy, ObjectiveWeights(1.0, 20.0))
    assert np.allclose((policy * values.action).sum(axis=1), values.state)


def test_steps_that_begin_a_life_are_not_counted() -> None:
    args = PlannerArgs(n_users=50, rounds=(300,))
    users = Counted(MiniSwipeVectorEnv(args.n_users, horizon_days=5))
    found = Planner(users, GRID, 4, args, seed=1)
    found.learn([WATCH])
    assert users.ended > 0
    assert found.tally.cards.sum() == args.n_cards - users.ended


class Counted:
    """Users of whom is counted how often a life ended before the last step."""

    def __init__(self, users: MiniSwipeVectorEnv) -> None:
        self._users, self._last, self.ended = users, 0, 0

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        return self._users.reset(seed=seed)

    def step(self, actions: Ints) -> tuple[Any, Floats, Bools, Bools, dict[str, Any]]:
        self.ended += self._last
        told = self._users.step(actions)
        self._last = int((told[2] | told[3]).sum())
        return told


def test_states_are_those_of_the_observation() -> None:
    everyone = np.arange(GRID.n_states)
    assert np.array_equal(GRID.states(GRID.observations()), everyone)
    for seed in range(3):
        seen, ids = (Curtain(MiniSwipeVectorEnv(30, obs=obs)) for obs in OBS_MODES)
        state, observation = ids.reset(seed=seed)[0], seen.reset(seed=seed)[0]
        for action in range(4):
            assert np.array_equal(GRID.states(observation), state)
            actions = np.full(30, action)
            state, observation = ids.step(actions)[0], seen.step(actions)[0]


def test_sums_of_parts_are_the_sum_of_all() -> None:
    rng = np.random.default_rng(2)
    n = 1_000
    t = Transitions(
        rng.integers(GRID.n_states, size=n),
        rng.integers(4, size=n),
        rng.random(n),
        rng.random(n) < 0.1,
        rng.random(n),
        rng.integers(GRID.n_states, size=n),
    )
    whole, parts = TransitionSums.empty(GRID, 4), TransitionSums.empty(GRID, 4)
    whole.add(t)
    first = np.arange(n) < 300
    parts.add(t.where(first))
    parts.add(t.where(~first))
    for name in ("cards", "reward", "left", "moved", "returned"):
        assert np.allclose(getattr(whole, name), getattr(parts, name)), name
    assert whole.cards.sum() == n
    assert whole.moved.sum() + whole.left.sum() == n
    assert whole.returned.sum() == pytest.approx(t.discount[t.left].sum())


def test_a_model_needs_a_sessions_end() -> None:
    with pytest.raises(ValueError, match="expected transitions with a session's end"):
        FittedModel.fit(TransitionSums.empty(GRID, 4))


def test_a_line_is_read_off_and_a_little_further_than_was_seen() -> None:
    n = np.zeros((21, 2))
    n[5:12] = np.random.default_rng(1).integers(1, 50, size=(7, 2))
    line = 3.0 - 2.0 * np.arange(21)[:, None] / 20
    found = LocalLinear.of(21, 0.2).means(n, n * line)
    assert np.abs(found - line)[2:15].max() < 0.02
    with pytest.raises(ValueError, match="expected a bandwidth above 0"):
        LocalLinear.of(21, 0.0)


@pytest.mark.parametrize("cells", [(), (1, 4), (21, 0)])
def test_a_grid_without_levels_is_refused(cells: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 2 levels or more"):
        Grid(cells)


def test_chances_are_closer_to_the_truth_than_shares() -> None:
    rng = np.random.default_rng(4)
    true = PROGRAMME.model.exit.reshape(21, 4, 4, 4)
    n = np.full(true.shape, 75.0)
    hits = rng.binomial(75, true).astype(np.float64)
    found = pair_chances(hits, n)
    of_fit, of_shares = np.abs(found - true).mean(), np.abs(hits / n - true).mean()
    assert of_fit < 0.2 * of_shares


def test_chances_stay_chances_where_nothing_is_ever_hit() -> None:
    n = np.full((5, 2, 3), 100.0)
    hits = np.zeros(n.shape)
    hits[:, 1, 2] = 100.0
    found = pair_chances(hits, n)
    assert np.isfinite(found).all()
    assert found[:, 1, 2].min() > 0.95
    assert np.delete(found.reshape(5, 6), 5, axis=1).max() < 0.05


def test_greedy_takes_the_largest() -> None:
    assert np.array_equal(greedy(np.array([[1.0, 2.0], [3.0, 0.0]])), [[0.0, 1.0], [1.0, 0.0]])
    assert np.array_equal(myopic(PROGRAMME), greedy(PROGRAMME.model.watch_s))
