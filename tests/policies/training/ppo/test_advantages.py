"""Advantages of lives that are discounted by days, against the twin's exact programme."""

from typing import Any

import numpy as np
import pytest

from env.twin.env import MiniSwipeVectorEnv, observe
from env.twin.model import MiniConstants, MiniModel
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective
from env.vocabulary import Float32s, Floats, Ints
from policies.training.ppo.advantages import Steps, estimate, standardise
from policies.training.ppo.critics import NetworkCritic, NetworkFunctions

N_PEOPLE, N_CARDS, SEED = 4000, 48, 7
CONSTANTS = MiniConstants(churn=0.0)
"""Everybody returns, so that every fragment has all its cards."""


def _policy() -> Floats:
    """Return a policy that takes every action somewhere, and none everywhere alike."""
    return np.random.default_rng(SEED).dirichlet(np.ones(4), size=336)


def _live(policy: Floats, objective: MiniObjective) -> tuple[Steps, Ints]:
    """Return fragments of lives under a policy, one a user, and the states of the cards."""
    users = MiniSwipeVectorEnv(
        N_PEOPLE, reward=objective, obs="ids", horizon_days=10_000, constants=CONSTANTS
    )
    generator, upto = np.random.default_rng(SEED), policy.cumsum(axis=1)[:, :-1]
    state, _ = users.reset(seed=SEED)
    columns: list[list[Any]] = [[] for _ in range(6)]
    for _ in range(N_CARDS):
        action = (generator.random(N_PEOPLE)[:, None] >= upto[state]).sum(axis=1)
        after, reward, _, _, info = users.step(action)
        row = (state, action, reward, info["session_end"], info["discount"], after)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        state = after
    states, actions, rewards, left, discounts, afters = (
        np.stack(column, axis=1).ravel() for column in columns
    )
    steps = Steps(
        observations=observe("flat", states),
        actions=actions,
        rewards=rewards,
        left=left,
        discounts=discounts,
        after=observe("flat", afters),
        is_last=np.tile(np.arange(N_CARDS) == N_CARDS - 1, N_PEOPLE),
    )
    return steps, states


def _network(values: Floats) -> NetworkFunctions:
    """Return a network that knows the values of states."""

    def look_up(observations: Float32s) -> Floats:
        level, satiation, load = np.rint(observations * [20, 3, 3]).astype(np.int64).T
        return np.asarray(values[(level * 4 + satiation) * 4 + load])

    return NetworkFunctions(look_up, lambda _: np.empty(0))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("lambda_", [0.0, 0.99])
def test_with_true_values_the_mean_advantage_is_q_minus_v(
    objective: MiniObjective, lambda_: float
) -> None:
    programme = DynamicProgramme.of(MiniModel.of(CONSTANTS))
    policy = _policy()
    value = programme.evaluate(policy)[objective]
    gains = programme.rewards(objective) + programme.transitions() @ value - value[:, None]
    steps, state = _live(policy, objective)
    judged = NetworkCritic().judge(steps, _network(value))
    advantages = estimate(judged.targets, judged.values, steps, lambda_)
    # One card of each life, so that what is averaged is independent.
    once = np.arange(20, len(steps), N_CARDS)
    cell = state[once] * 4 + steps.actions[once]
    scores = []
    for each in np.unique(cell):
        mine = advantages[once][cell == each]
        if len(mine) >= 40:
            error = mine.std(ddof=1) / np.sqrt(len(mine))
            scores.append((mine.mean() - gains.ravel()[each]) / error)
    assert len(scores) >= 20
    assert abs(np.mean(scores)) < 4.0 / np.sqrt(len(scores))
    assert max(np.abs(scores)) < 4.5


def test_an_expected_discount_takes_the_place_of_the_one_that_came() -> None:
    steps = _three_cards()
    expected = steps.expecting(np.full(3, 0.5), worth=2.0)
    assert expected.discounts.tolist() == [1.0, 0.5, 1.0]
    assert expected.rewards.tolist() == [1.0, 2.0 + 2.0 * (0.5 - 0.9), 3.0]


def test_advantages_do_not_reach_into_another_fragment() -> None:
    steps = _three_cards()
    targets, values = np.array([1.0, 2.0, 4.0]), np.zeros(3)
    advantages = estimate(targets, values, steps, lambda_=0.5)
    assert advantages.tolist() == [1.0 + 0.5 * 1.0 * 2.0, 2.0, 4.0]


def test_standardised_advantages_have_mean_0_and_sd_1_and_stay_0_where_all_are_equal() -> None:
    scaled = standardise(np.array([1.0, 2.0, 6.0]))
    assert scaled.mean() == pytest.approx(0.0, abs=1e-12)
    assert scaled.std() == pytest.approx(1.0)
    assert standardise(np.full(3, 4.0)).tolist() == [0.0, 0.0, 0.0]


def _three_cards() -> Steps:
    """Return two cards of a fragment, the second of which ends a session, and one of another."""
    return Steps(
        observations=np.zeros((3, 1), dtype=np.float32),
        actions=np.zeros(3, dtype=np.int64),
        rewards=np.array([1.0, 2.0, 3.0]),
        left=np.array([False, True, False]),
        discounts=np.array([1.0, 0.9, 1.0]),
        after=np.zeros((3, 1), dtype=np.float32),
        is_last=np.array([False, True, True]),
    )
