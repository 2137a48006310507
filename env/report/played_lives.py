"""Evaluation rollouts: whole lives of simulated users under a policy, and their active days.

An active day is a day with a session, of which a day has one at most; D30 is a session on day 30,
the first day being 0. User i has the same random draws under every policy, so policies are compared
user by user.

Numbering of lives and the rejected sampling: `docs/decisions/world-batches.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np

from env.gym.observation import ObsMode
from env.gym.vector import SwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints
from env.world.presets import Preset
from env.world.simulation import Simulation

D30 = 30
Choose = Callable[[Any, Simulation], Ints]
"""Candidates to show, shape (n,), given the observation; only an oracle policy reads the
simulation."""


class EvaluationUsers(msgspec.Struct, frozen=True):
    """The users and lives of an evaluation."""

    first: int  # index of the first
    n_places: int  # played side by side
    n_lives: int = 1  # one after another in each slot
    days: int = 60  # longest life
    n_candidates: int = 20  # to choose each card from

    @property
    def n(self) -> int:
        """Number of lives."""
        return self.n_places * self.n_lives


@dataclass(frozen=True, slots=True)
class EvaluationRollouts:
    """Outcomes of n users, each of shape (n,)."""

    active_days: Floats
    day_30: Floats  # 0 or 1
    cards: Floats
    watch_s: Floats
    reward: Floats  # engagement of all their cards
    churned: Floats  # 0 or 1

    def reward_a_card(self) -> float:
        """Return the mean reward of a card."""
        return float(self.reward.sum() / self.cards.sum())


def evaluation_rollouts(
    preset: Preset,
    choose: Choose,
    users: EvaluationUsers,
    places: Ints | None = None,
    obs: ObsMode = "dict",
) -> EvaluationRollouts:
    """Return the outcomes of simulated users under a policy.

    Args:
        preset: constants of the world; its items do not change.
        choose: the policy.
        users: the users.
        places: user indices, shape (n_places,), instead of those from `users.first` on.
        obs: the form of the policy's observation.
    """
    env = SwipeVectorEnv(
        users.n_places,
        preset=preset,
        obs=obs,
        n_candidates=users.n_candidates,
        horizon_days=users.days,
        copy=False,
    )
    first = users.first + np.arange(users.n_places) if places is None else places
    observation, _ = env.reset(seed=first.tolist())
    diary = _Diary(users)
    while diary.is_open:
        observation, _, terminated, truncated, info = env.step(choose(observation, env.swiping))
        diary.write(terminated, truncated, info)
    return diary.lives()


class _Diary:
    """Sums so far, with the current life and day of each slot."""

    def __init__(self, users: EvaluationUsers) -> None:
        n, m = users.n_places, users.n_lives
        self._places, self._n_lives = np.arange(n), m
        self._life, self._day = np.zeros(n, dtype=np.int64), np.zeros(n)
        self._was_over: Bools = np.zeros(n, dtype=np.bool_)
        names = [field.name for field in fields(EvaluationRollouts)]
        self._sums = {name: np.zeros((m, n)) for name in names}
        self._sums["active_days"][:] = 1.0

    @property
    def is_open(self) -> bool:
        """Whether some slot has lives left to play."""
        return bool((self._life < self._n_lives).any())

    def write(self, terminated: Bools, truncated: Bools, info: dict[str, Any]) -> None:
        """Add a step."""
        sums, counts = self._sums, (self._life < self._n_lives) & ~self._was_over
        at = np.minimum(self._life, self._n_lives - 1), self._places
        sums["cards"][at] += counts
        sums["watch_s"][at] += counts * info["watch_s"]
        sums["reward"][at] += counts * info["engagement"]
        left = np.flatnonzero(counts & info["session_end"])
        self._day[left] += info["gap_days"][left]
        is_over = terminated | truncated
        back = left[~is_over[left]]
        sums["active_days"][self._life[back], back] += 1.0
        sums["day_30"][self._life[back], back] += self._day[back] == D30
        sums["churned"][self._life[left], left] += terminated[left]
        ended = np.flatnonzero(is_over)
        self._life[ended] += 1
        self._day[ended] = 0.0
        self._was_over = is_over

    def lives(self) -> EvaluationRollouts:
        """Return the lives, user by user."""
        return EvaluationRollouts(**{name: total.reshape(-1) for name, total in self._sums.items()})
