"""The model-based policy: collect transitions, fit a model to them, and plan in it.

It knows the environment by `reset` and `step` alone. In the first round everybody swipes with a mix
of actions of their own, drawn anew now and then: under one uniform policy satisfaction stays near
the middle, and the model would know nothing of the rest. The rounds after it follow the plan so
far, with strays, so that what the plan hopes for where nobody was is seen (Sutton, Dyna, 1991).
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints
from policies.training.fitted_model import (
    BANDWIDTH,
    FittedModel,
    Grid,
    ObjectiveWeights,
    Transitions,
    TransitionSums,
)

BETTER = 1e-9
"""Share of the largest value that another action has to gain, or ties were swapped for ever."""

_PLANNER_STREAM = 1


class People(Protocol):
    """What is used of a vector environment with NEXT_STEP autoreset."""

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a life in each slot."""

    def step(self, actions: Ints) -> tuple[Any, Floats, Bools, Bools, dict[str, Any]]:
        """Show everybody one card."""


class PlannerArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How transitions are collected and fitted.

    Attributes:
        n_users: slots of the environment.
        rounds: cards of each user in each round; the model is fitted anew between two of them.
        renew_every: cards after which everybody gets another policy.
        concentration: of the Dirichlet law of the first round's policies: 1 is any mix alike.
        strays: share of cards at random in the rounds after it.
        bandwidth: of the fitted model.
    """

    n_users: int = 800
    rounds: tuple[int, ...] = (400, 200, 200, 200)
    renew_every: int = 100
    concentration: float = 0.3
    strays: float = 0.4
    bandwidth: float = BANDWIDTH

    @classmethod
    def few(cls) -> "PlannerArgs":
        """Return those of 100,000 cards in all: shorter lives of more users than their share."""
        return cls(n_users=200, rounds=(200, 100, 100, 100))

    @property
    def n_cards(self) -> int:
        """Number of cards in all."""
        return self.n_users * sum(self.rounds)


class Planner:
    """Collects, fits and plans in rounds.

    Attributes:
        grid: of what is observed.
        tally: of all transitions so far.
    """

    def __init__(
        self, users: People, grid: Grid, n_actions: int, args: PlannerArgs, seed: int
    ) -> None:
        """Begin a life in each slot.

        Args:
            users: of `args.n_users` slots; watch time and discounts are read in `info`.
            grid: of what is observed.
            n_actions: that can be taken.
            args: how many cards, and how.
            seed: of lives and of what is drawn here.
        """
        self.grid, self.tally = grid, TransitionSums.empty(grid, n_actions)
        self._users, self._args, self._n_actions = users, args, n_actions
        self._generator = np.random.default_rng([seed, _PLANNER_STREAM])
        observation, _ = users.reset(seed=seed)
        self._state = grid.states(observation)
        self._over = np.zeros(args.n_users, dtype=np.bool_)

    def learn(self, worths: Sequence[ObjectiveWeights]) -> FittedModel:
        """Return the model of all rounds.

        Args:
            worths: of the objectives; users are divided among their plans.
        """
        args = self._args
        self._swipe(args.rounds[0], self._mixed())
        for n_cards in args.rounds[1:]:
            model = FittedModel.fit(self.tally, args.bandwidth)
            self._swipe(n_cards, self._planned([plan(model, worth) for worth in worths]))
        return FittedModel.fit(self.tally, args.bandwidth)

    def _swipe(self, n_cards: int, pmf_of: Callable[[int], Floats]) -> None:
        swiped = []
        for card in range(n_cards):
            upto = pmf_of(card).cumsum(axis=1)[:, :-1]
            action = (self._generator.random((len(upto), 1)) >= upto).sum(axis=1)
            observation, _, terminated, truncated, info = self._users.step(action)
            after = self.grid.states(observation)
            step = Transitions.of(self._state, action, info, after)
            swiped.append(step.where(~self._over))
            self._state, self._over = after, terminated | truncated
        self.tally.add(Transitions.joined(swiped))

    def _mixed(self) -> Callable[[int], Floats]:
        args, alpha = self._args, np.full(self._n_actions, self._args.concentration)
        n_draws = -(-args.rounds[0] // args.renew_every)
        pmfs = self._generator.dirichlet(alpha, (n_draws, args.n_users))
        return lambda card: np.asarray(pmfs[card // args.renew_every])

    def _planned(self, plans: Sequence[Floats]) -> Callable[[int], Floats]:
        strays = self._args.strays
        whose = np.arange(self._args.n_users) % len(plans)
        pmfs = (1.0 - strays) * np.stack(plans) + strays / self._n_actions
        return lambda _: np.asarray(pmfs[whose, self._state])


def greedy(gains: Floats) -> Floats:
    """Return the policy of the largest gain in each state, a pmf of the shape of `gains`."""
    return np.asarray(np.eye(gains.shape[1])[gains.argmax(axis=1)])


def plan(model: FittedModel, worth: ObjectiveWeights) -> Floats:
    """Return the best policy of a model, a pmf of shape (n_states, n_actions).

    By policy iteration (Howard, Dynamic Programming and Markov Processes, 1960), from the best
    action for now.
    """
    each = np.arange(model.grid.n_states)
    choice: Ints = model.rewards(worth).argmax(axis=1)
    while True:
        policy = np.eye(model.reward.shape[1])[choice]
        gains = model.evaluate(policy, worth).action
        now = gains[each, choice]
        better = gains.max(axis=1) > now + BETTER * np.abs(now).max()
        if not better.any():
            return policy
        choice = np.where(better, gains.argmax(axis=1), choice)
