"""Ways to learn a policy in MiniSwipe, each with its own budget; all see `reset` and `step` alone.

An arm returns two policies over the 336 states: the stochastic one, as it is served, and the one
that takes its best action. Where an arm has no randomness of its own the two are the same.

Budgets differ, as what a card costs does: those that learn by numpy have as many as help them, DQN
as many as it gets through in some minutes.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from env.twin.env import MiniSwipeVectorEnv, observe
from env.twin.model import N_ACTIONS, N_STATES
from env.twin.solve import MiniObjective
from env.vocabulary import Float32s, Floats
from policies.training.fitted_model import DAYS, WATCH, ObjectiveWeights
from policies.training.search.search import SearchArgs, WeightSearch, crossed, linear_pmf
from policies.training.settings import RetentionArgs, TwinWorld
from policies.training.worlds import TWIN_GRID
from tests.studies.peers.planner import People, Planner, PlannerArgs, greedy, plan
from tests.studies.peers.tabular_q import TabularArgs, TabularQ

WORTHS: dict[MiniObjective, ObjectiveWeights] = {"watch": WATCH, "days": DAYS}
STRAYS = 0.05
"""Share at random of what is served by values: epsilon-greedy."""

WEIGHT_DRAWS = 2_000
"""By which chances of cards are counted where it is their weights that are drawn."""

Tell = Callable[[int, int], None]
"""Told how much is done, and of how much."""


class Task(NamedTuple):
    """What is to be learned, and with which seed."""

    objective: MiniObjective
    seed: int


class Learned(NamedTuple):
    """What an arm came to.

    Attributes:
        served: a pmf over the actions for each state, shape (336, 4).
        greedy: likewise.
        n_cards: that it took.
    """

    served: Floats
    greedy: Floats
    n_cards: int


class TwinBudget(msgspec.Struct, frozen=True):
    """Cards of each arm.

    Attributes:
        ppo: of PPO as it is meant.
        plain: of PPO without what is ours.
        planner: of the planner that the bar is for.
        few: of the planner with few cards.
        appo: of APPO, and of IMPALA.
        weights: of PPO that chooses weights of ranking.
        dqn: of DQN.
        tabular: of Q-learning.
        search: of the search over weights.
        users: lives for each of its weights.
    """

    ppo: int = RetentionArgs().n_steps
    plain: int = 1_000_000
    planner: PlannerArgs = PlannerArgs()
    few: PlannerArgs = PlannerArgs.few()
    appo: int = 500_000
    weights: int = 1_000_000
    dqn: int = 40_000
    tabular: TabularArgs = TabularArgs()
    search: SearchArgs = SearchArgs()
    users: int = 16


Arm = Callable[[Task, TwinBudget, Tell], Learned]


def planned(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Learn by a fitted model, from the cards of the bar."""
    return _planned(task, budget.planner)


def planned_from_few(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Learn by a fitted model, from few cards."""
    return _planned(task, budget.few)


def _planned(task: Task, args: PlannerArgs) -> Learned:
    worth = WORTHS[task.objective]
    planner = Planner(MiniSwipeVectorEnv(args.n_users), TWIN_GRID, N_ACTIONS, args, task.seed)
    best = plan(planner.learn([worth]), worth)
    return Learned(best, best, args.n_cards)


def greedy_bandit(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Take what is watched longest now, as fitted to mixed policies; whatever is counted."""
    args = msgspec.structs.replace(budget.few, rounds=(sum(budget.few.rounds),))
    planner = Planner(MiniSwipeVectorEnv(args.n_users), TWIN_GRID, N_ACTIONS, args, task.seed)
    best = greedy(planner.learn([WATCH]).reward)
    return Learned(_with_strays(best), best, args.n_cards)


def searched(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Search 16 weights: of 1 and the three columns observed, for each action."""
    args, features = budget.search, crossed(_all_states().astype(np.float64), N_ACTIONS)
    search = WeightSearch(features.shape[2], args, task.seed)
    n_cards = 0
    for generation in range(args.generations):
        weights = search.ask()
        upto = linear_pmf(weights[:, None, :], features).cumsum(axis=2)[:, :, :-1]
        first = (task.seed * args.generations + generation) * args.population * budget.users
        worth, cards = _lives(upto, task.objective, budget.users, first)
        search.tell(weights, worth)
        n_cards += cards
        tell(generation + 1, args.generations)
    served = linear_pmf(search.mean, features)
    return Learned(served, greedy(served), n_cards)


def _lives(upto: Floats, objective: MiniObjective, n_users: int, first: int) -> tuple[Floats, int]:
    """Return the mean return of some lives of each policy, and the cards that they took."""
    n = len(upto) * n_users
    whose = np.repeat(np.arange(len(upto)), n_users)
    users: People = MiniSwipeVectorEnv(n, reward=objective, obs="ids")
    generator = np.random.default_rng([first, 1])
    state, _ = users.reset(seed=first)
    gained, discount, alive, n_cards = np.zeros(n), np.ones(n), np.ones(n, dtype=np.bool_), 0
    while alive.any():
        action = (generator.random((n, 1)) >= upto[whose, state]).sum(axis=1)
        state, reward, terminated, truncated, info = users.step(action)
        gained += np.where(alive, discount * reward, 0.0)
        discount *= np.where(alive, info["discount"], 1.0)
        n_cards += int(alive.sum())
        alive &= ~(terminated | truncated)
    return gained.reshape(len(upto), n_users).mean(axis=1), n_cards


def tabular_q(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Learn a table of values."""
    args = budget.tabular
    users: People = MiniSwipeVectorEnv(args.n_users, reward=task.objective, obs="ids")
    table = TabularQ(N_STATES, N_ACTIONS, args, task.seed)
    state, _ = users.reset(seed=task.seed)
    over = np.zeros(args.n_users, dtype=np.bool_)
    for step in range(args.n_steps):
        action = table.act(state, step)
        after, reward, terminated, truncated, info = users.step(action)
        was = ~over
        table.learn(state[was], action[was], reward[was], info["discount"][was], after[was])
        state, over = after, terminated | truncated
        tell(step + 1, args.n_steps)
    best = greedy(table.values)
    return Learned(_with_strays(best), best, args.n_cards)


def ppo(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train PPO as it is meant: a critic and returns that are fitted to its own cards."""
    args = RetentionArgs(TwinWorld(task.objective), seed=task.seed, n_steps=budget.ppo)
    return _trained(args, tell)


def plain_ppo(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train PPO with the network's critic and gaps as they came."""
    args = RetentionArgs(TwinWorld(task.objective), seed=task.seed, n_steps=budget.plain)
    return _trained(args.plain(), tell)


def short_ppo(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train plain PPO with the lambda that is usual, .95."""
    args = RetentionArgs(TwinWorld(task.objective), seed=task.seed, n_steps=budget.plain)
    return _trained(msgspec.structs.replace(args.plain(), lambda_=0.95), tell)


def _trained(args: RetentionArgs, tell: Tell) -> Learned:
    from policies.training.ppo.job import train
    from serve.jobs.train_ppo import twin_pmf

    trained = train(args, advance=lambda told: tell(told.iteration, told.n_iterations))
    served = twin_pmf(trained)
    return Learned(served, greedy(served), trained.n_steps)


def dqn(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train double DQN of one step."""
    return _dqn(task, budget, n_step=1)


def dqn_of_20(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train double DQN of 20 steps."""
    return _dqn(task, budget, n_step=20)


def _dqn(task: Task, budget: TwinBudget, n_step: int) -> Learned:
    from tests.studies.peers.rllib import PeerArgs, train_dqn

    args = PeerArgs(task.objective, n_step=n_step, n_steps=budget.dqn, seed=task.seed)
    best = greedy(train_dqn(args, _all_states()))
    return Learned(_with_strays(best), best, args.n_steps)


def appo(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train APPO."""
    from tests.studies.peers.rllib import PeerArgs, train_appo

    args = PeerArgs(task.objective, budget.appo, n_envs=256, batch=8_192, seed=task.seed)
    served = train_appo(args, _all_states())
    return Learned(served, greedy(served), args.n_steps)


def impala(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train IMPALA."""
    from tests.studies.peers.rllib import PeerArgs, train_impala

    args = PeerArgs(task.objective, budget.appo, n_envs=256, batch=8_192, seed=task.seed)
    served = train_impala(args, _all_states())
    return Learned(served, greedy(served), args.n_steps)


def weighed_ppo(task: Task, budget: TwinBudget, tell: Tell) -> Learned:
    """Train PPO whose action is 16 weights, those of the search, chosen anew for each card."""
    from tests.studies.peers.rllib import PeerArgs, train_weights
    from tests.studies.peers.weighing import chances, ranked_first

    args = PeerArgs(task.objective, budget.weights, n_envs=512, batch=32_768, seed=task.seed)
    states = _all_states()
    weights = train_weights(args, states)
    served = chances(weights, states, WEIGHT_DRAWS, task.seed)
    return Learned(served, np.eye(N_ACTIONS)[ranked_first(weights.mean, states)], args.n_steps)


def _all_states() -> Float32s:
    observations: Float32s = observe("flat", np.arange(N_STATES))
    return observations


def _with_strays(policy: Floats) -> Floats:
    return np.asarray((1.0 - STRAYS) * policy + STRAYS / policy.shape[1])


ARMS: dict[str, Arm] = {
    "ppo": ppo,
    "planner": planned,
    "planner from 100,000 cards": planned_from_few,
    "plain ppo": plain_ppo,
    "plain ppo, lambda .95": short_ppo,
    "appo": appo,
    "impala": impala,
    "ppo over 16 weights": weighed_ppo,
    "search over 16 weights": searched,
    "tabular Q": tabular_q,
    "dqn of 20 steps": dqn_of_20,
    "dqn": dqn,
    "greedy bandit": greedy_bandit,
}

BASELINES = (
    "appo",
    "impala",
    "ppo over 16 weights",
    "search over 16 weights",
    "tabular Q",
    "dqn of 20 steps",
    "dqn",
    "greedy bandit",
)
"""Of these fewer seeds say enough."""
