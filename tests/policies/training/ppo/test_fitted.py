"""The critic that is a model of the policy's own transitions, against the exact programme."""

import numpy as np
import pytest

from env.twin.env import MiniSwipeVectorEnv, observe
from env.twin.model import N_ACTIONS, N_STATES, MiniConstants, MiniModel
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective
from env.vocabulary import Floats
from policies.training.ppo.advantages import Steps
from policies.training.ppo.critics import FittedCritic, NetworkFunctions
from policies.training.worlds import TWIN_GRID

N_PEOPLE = 2000
CONSTANTS = MiniConstants(churn=0.0)
UNIFORM = np.full((N_STATES, N_ACTIONS), 1.0 / N_ACTIONS)


def _live(objective: MiniObjective, seed: int, n_cards: int = 100) -> Steps:
    """Return lives under the uniform policy, in which everybody returns."""
    users = MiniSwipeVectorEnv(N_PEOPLE, reward=objective, horizon_days=10_000, constants=CONSTANTS)
    generator = np.random.default_rng(seed)
    before, _ = users.reset(seed=seed)
    rows = []
    for _ in range(n_cards):
        actions = generator.integers(N_ACTIONS, size=N_PEOPLE)
        after, rewards, _, _, info = users.step(actions)
        rows.append((before, actions, rewards, info["session_end"], info["discount"], after))
        before = after
    observations, actions, rewards, left, discounts, afters = map(
        np.concatenate, zip(*rows, strict=True)
    )
    nowhere = np.zeros(len(actions), dtype=np.bool_)
    return Steps(observations, actions, rewards, left, discounts, afters, nowhere)


def _network(policy: Floats) -> NetworkFunctions:
    return NetworkFunctions(lambda _: np.empty(0), lambda _: policy)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_its_values_and_advantages_are_those_of_the_programme(objective: MiniObjective) -> None:
    programme = DynamicProgramme.of(MiniModel.of(CONSTANTS))
    value = programme.evaluate(UNIFORM)[objective]
    gains = programme.rewards(objective) + programme.transitions() @ value - value[:, None]
    steps = _live(objective, seed=11)
    critic = FittedCritic(TWIN_GRID, N_ACTIONS, 1.0 if objective == "days" else 0.0)
    judged = critic.judge(steps, _network(UNIFORM))
    states = TWIN_GRID.states(steps.observations)
    truth = gains[states, steps.actions]
    found = judged.targets - judged.values
    assert np.abs(judged.values / value[states] - 1.0).mean() < 0.02
    # Noise of the model is what is left: the share of the advantages' variance that is not theirs.
    assert np.var(found - truth) < 0.1 * np.var(truth)


def test_a_restored_critic_judges_the_same() -> None:
    steps = _live("days", seed=12, n_cards=10)
    critic, other = (FittedCritic(TWIN_GRID, N_ACTIONS, 1.0) for _ in range(2))
    critic.judge(steps, _network(UNIFORM))
    other.restore(critic.state())
    more = _live("days", seed=13, n_cards=10)
    first, second = (each.judge(more, _network(UNIFORM)) for each in (critic, other))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.targets, second.targets)


def test_the_grid_is_that_of_the_twins_observation() -> None:
    states = np.arange(N_STATES)
    assert TWIN_GRID.states(observe("flat", states)).tolist() == states.tolist()
