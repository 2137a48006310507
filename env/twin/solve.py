"""The dynamic programme of MiniSwipe: exact values of policies, and the optimum.

Objective "watch" sums seconds; "days" counts each day of return, discounted to the day. Policy
iteration (Howard, Dynamic Programming and Markov Processes, 1960) solves a dense system of 336
unknowns in four or five rounds.

Equations and the rejected alternative: `docs/decisions/twin-model.md`.

See also `docs/decisions/twin-habits.md`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np

from env.twin.model import (
    MIDDLE,
    N_ACTIONS,
    N_LEVELS,
    N_PULSES,
    N_STATES,
    START,
    MiniModel,
    level_after,
)
from env.vocabulary import Bools, Floats, Ints

MiniObjective = Literal["watch", "days"]
OBJECTIVES: tuple[MiniObjective, ...] = get_args(MiniObjective)
TIE = 1e-9
"""Share of the largest value up to which two actions are equally good."""


@dataclass(frozen=True, slots=True)
class DynamicProgramme:
    """The model as matrices."""

    model: MiniModel
    stay: Floats  # (336, 4, 336) to each next state within the session
    leave: Floats  # (336, 4, 21) to each level at which the session ends
    rest: Floats  # (21, 21) from a session's last level to the next one's first

    @classmethod
    def of(cls, model: MiniModel) -> "DynamicProgramme":
        """Return the matrices of a model."""
        after = _after_card(model)
        by_level = after.reshape(N_STATES, N_ACTIONS, N_LEVELS, N_PULSES).sum(axis=3)
        level, relax = np.arange(N_LEVELS), model.constants.relax
        rest = np.diag(np.full(N_LEVELS, 1.0 - relax))
        rest[level, model.inward] += relax
        return cls(
            model=model,
            stay=(1.0 - model.exit)[:, :, None] * after,
            leave=model.exit[:, :, None] * by_level,
            rest=rest,
        )

    def discount(self) -> Floats:
        """Return E[gamma^D] of a session that ends at each level, shape (21,)."""
        gamma, comeback = self.model.constants.day_discount, self.model.comeback
        alive = 1.0 - self.model.churn
        return alive * comeback * gamma / (1.0 - gamma * (1.0 - comeback))

    def rewards(self, objective: MiniObjective) -> Floats:
        """Return the expected reward of a card, returns included, shape (336, 4).

        Raises:
            ValueError: the objective is unknown.
        """
        if objective == "watch":
            return self.model.watch_s
        if objective == "days":
            return self.leave @ self.discount()
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")

    def transitions(self) -> Floats:
        """Return the discounted chance of each next state, shape (336, 4, 336)."""
        onward = self.stay.copy()
        starts = np.arange(N_LEVELS) * N_PULSES
        onward[:, :, starts] += self.leave @ (self.discount()[:, None] * self.rest)
        return onward

    def evaluate(self, policy: Floats) -> dict[MiniObjective, Floats]:
        """Return each state's value under a policy, a pmf of shape (336, 4), by objective."""
        chain = np.einsum("xa,xay->xy", policy, self.transitions())
        gains = np.column_stack([(policy * self.rewards(name)).sum(axis=1) for name in OBJECTIVES])
        values = np.linalg.solve(np.eye(N_STATES) - chain, gains)
        return {name: values[:, column] for column, name in enumerate(OBJECTIVES)}

    def value(self, policy: Floats, objective: MiniObjective) -> float:
        """Return a policy's value from the state in which lives begin."""
        return float(self.evaluate(policy)[objective][START])

    def optimal(self, objective: MiniObjective) -> Floats:
        """Return the policy of the highest value, a pmf of shape (336, 4).

        Ties are broken by the other objective, so the policy is unique: on "days", 88 states have
        ties (with satiation 0, between the same topic and a diverse one).
        """
        other: MiniObjective = "days" if objective == "watch" else "watch"
        best = self.best_actions(objective)
        return greedy(improve(self.transitions(), self.rewards(other), best))

    def best_actions(self, objective: MiniObjective) -> Bools:
        """Return which actions an optimal policy may take in each state, shape (336, 4)."""
        onward, rewards = self.transitions(), self.rewards(objective)
        choice = improve(onward, rewards, np.ones((N_STATES, N_ACTIONS), dtype=np.bool_))
        gains = _action_values(onward, rewards, choice)
        best = gains.max(axis=1, keepdims=True)
        ties: Bools = gains >= best - TIE * np.abs(best).max()
        return ties

    def session_optimal(self) -> Floats:
        """Return the policy that watches most until the session ends, a pmf of shape (336, 4)."""
        allowed = np.ones((N_STATES, N_ACTIONS), dtype=np.bool_)
        return greedy(improve(self.stay, self.model.watch_s, allowed))


def greedy(choice: Ints) -> Floats:
    """Return the policy that takes these actions, one a state, a pmf of shape (336, 4)."""
    return np.eye(N_ACTIONS)[choice]


def improve(onward: Floats, rewards: Floats, allowed: Bools) -> Ints:
    """Return the best of the allowed actions in each state, by policy iteration.

    `onward` holds discounted chances of each next state, shape (336, 4, 336); rewards and `allowed`
    have shape (336, 4).
    """
    each = np.arange(N_STATES)
    choice: Ints = allowed.argmax(axis=1)
    while True:
        gains = np.where(allowed, _action_values(onward, rewards, choice), -np.inf)
        now = gains[each, choice]
        # Only a gain beyond rounding changes the choice, or ties would be swapped for ever.
        better = gains.max(axis=1) > now + TIE * np.abs(now).max()
        if not better.any():
            return choice
        choice = np.where(better, gains.argmax(axis=1), choice)


def _action_values(onward: Floats, rewards: Floats, choice: Ints) -> Floats:
    each = np.arange(N_STATES)
    value = np.linalg.solve(np.eye(N_STATES) - onward[each, choice], rewards[each, choice])
    return rewards + onward @ value


def _after_card(model: MiniModel) -> Floats:
    """Return the chance of each state after a card, before any exit, shape (336, 4, 336)."""
    after = np.zeros((N_STATES, N_ACTIONS, N_STATES))
    states, actions = np.indices((N_STATES, N_ACTIONS))
    for moved in (0, 1):
        for bored in (0, 1):
            chance = np.where(moved, model.move, 1.0 - model.move)
            chance = chance * np.where(bored, model.bored, 1.0 - model.bored)
            level = level_after(
                states // N_PULSES, model.direction, np.asarray(moved), np.asarray(bored)
            )
            np.add.at(after, (states, actions, level * N_PULSES + model.pulse), chance)
    return after


RETENTION_DAYS = (1, 7, 30)
LATE_DAYS = 10


class Habits(msgspec.Struct, frozen=True):
    """Expected behaviour of users under a policy until a horizon."""

    session_swipes: float  # cards a session
    swipe_s: float  # seconds a card
    gap_days: float  # mean days from a session to the next one
    active_days: float  # days with a session, the first included
    retention: tuple[float, float, float]  # share of users with a session on day 1, 7 and 30
    daily_active: float  # share of users with a session on a day, over the last ten days
    watch: float  # seconds, each discounted to the first day
    days: float  # returns, each discounted to the first day


@dataclass(frozen=True, slots=True)
class SessionExpectations:
    """Expectations of one session by the level at its start."""

    swipes: Floats  # (21,)
    watch_s: Floats  # (21,)
    ends: Floats  # (21, 21) chance of each level at the end

    @classmethod
    def of(cls, programme: DynamicProgramme, policy: Floats) -> "SessionExpectations":
        """Return the sessions under a policy, a pmf of shape (336, 4)."""
        stay = np.einsum("xa,xay->xy", policy, programme.stay)
        gains = np.column_stack(
            [
                np.ones(N_STATES),
                (policy * programme.model.watch_s).sum(axis=1),
                np.einsum("xa,xal->xl", policy, programme.leave),
            ]
        )
        solved = np.linalg.solve(np.eye(N_STATES) - stay, gains)[::N_PULSES]
        return cls(swipes=solved[:, 0], watch_s=solved[:, 1], ends=solved[:, 2:])


def expect_habits(
    programme: DynamicProgramme, policy: Floats, n_days: int, start_level: int = MIDDLE
) -> Habits:
    """Return the expected behaviour of users under a policy over more than 30 days.

    `policy` is a pmf over the actions for each state, shape (336, 4); `start_level` is the
    satisfaction at the start of the first session.
    """
    model, sessions = programme.model, SessionExpectations.of(programme, policy)
    active = _active(programme, sessions, n_days, start_level)
    here = active.sum(axis=0)
    back = here @ sessions.ends * (1.0 - model.churn)
    discounted = model.constants.day_discount ** np.arange(n_days) @ active
    swipes, watched_s = float(here @ sessions.swipes), float(here @ sessions.watch_s)
    on_day = active.sum(axis=1)
    first, seventh, thirtieth = (float(on_day[day]) for day in RETENTION_DAYS)
    return Habits(
        session_swipes=swipes / float(here.sum()),
        swipe_s=watched_s / swipes,
        gap_days=float((back / model.comeback).sum() / back.sum()),
        active_days=float(here.sum()),
        retention=(first, seventh, thirtieth),
        daily_active=float(on_day[-LATE_DAYS:].mean()),
        watch=float(discounted @ sessions.watch_s),
        days=float(discounted @ sessions.ends @ programme.discount()),
    )


def _active(
    programme: DynamicProgramme, sessions: SessionExpectations, n_days: int, start_level: int
) -> Floats:
    """Return the chance of a session on each day by its starting level, shape (n_days, 21)."""
    comeback, alive = programme.model.comeback, 1.0 - programme.model.churn
    active = np.zeros((n_days, N_LEVELS))
    active[0, start_level] = 1.0
    for day in range(n_days - 1):
        gaps = np.arange(n_days - 1 - day)[:, None]
        returns = active[day] @ sessions.ends * alive * comeback * (1.0 - comeback) ** gaps
        active[day + 1 :] += returns @ programme.rest
    return active
