"""Whole lives of people of the full world under a policy: who had a session on which days.

An active day is a day with a session; a day has one at most, so active days are sessions that began
before the horizon. D30 is whether there was one on day 30, the first being day 0. Person i is life
i // n_places of place i % n_places whatever the policy, with the same luck (`env.draws`): lives of
two policies are compared person by person.

Each place plays the same number of lives, one after another, and all of them count. Rejected: the
first n lives that end anywhere, which are the short ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np

from env.observation import ObsMode
from env.presets import Preset
from env.swiping import Swiping
from env.vector import SwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints

D30 = 30

Choose = Callable[[Any, Swiping], Ints]
"""Candidates to show, shape (n,), of what is observed; only a policy that cheats asks the feed."""


class People(msgspec.Struct, frozen=True):
    """Who lives, and for how long.

    Attributes:
        first: place of the first.
        n_places: that are played side by side.
        n_lives: one after another in each.
        days: of a life at most.
        n_candidates: that each card is chosen from.
    """

    first: int
    n_places: int
    n_lives: int = 1
    days: int = 60
    n_candidates: int = 20

    @property
    def n(self) -> int:
        """Lives in all."""
        return self.n_places * self.n_lives


@dataclass(frozen=True, slots=True)
class PlayedLives:
    """What became of n people, each shape (n,)."""

    active_days: Floats
    day_30: Floats  # 0 or 1
    cards: Floats
    watch_s: Floats
    reward: Floats  # engagement of all their cards
    churned: Floats  # 0 or 1

    def reward_a_card(self) -> float:
        """Return the mean reward of a card."""
        return float(self.reward.sum() / self.cards.sum())


def play_lives(
    preset: Preset,
    choose: Choose,
    people: People,
    places: Ints | None = None,
    obs: ObsMode = "dict",
) -> PlayedLives:
    """Return what becomes of people under a policy.

    Args:
        preset: constants of their world; its items stay as they are.
        choose: the policy.
        people: who they are.
        places: of them instead of `people.first` and those after it, shape (n_places,).
        obs: the form of what the policy observes.
    """
    env = SwipeVectorEnv(
        people.n_places,
        preset=preset,
        obs=obs,
        n_candidates=people.n_candidates,
        horizon_days=people.days,
        copy=False,
    )
    first = people.first + np.arange(people.n_places) if places is None else places
    observation, _ = env.reset(seed=first.tolist())
    diary = _Diary(people)
    while diary.is_open:
        observation, _, terminated, truncated, info = env.step(choose(observation, env.swiping))
        diary.write(terminated, truncated, info)
    return diary.lives()


class _Diary:
    """What happened so far, and at which life and day each place is."""

    def __init__(self, people: People) -> None:
        n, m = people.n_places, people.n_lives
        self._places, self._n_lives = np.arange(n), m
        self._life, self._day = np.zeros(n, dtype=np.int64), np.zeros(n)
        self._was_over: Bools = np.zeros(n, dtype=np.bool_)
        names = [field.name for field in fields(PlayedLives)]
        self._sums = {name: np.zeros((m, n)) for name in names}
        self._sums["active_days"][:] = 1.0

    @property
    def is_open(self) -> bool:
        """Whether some place has lives to go."""
        return bool((self._life < self._n_lives).any())

    def write(self, terminated: Bools, truncated: Bools, info: dict[str, Any]) -> None:
        """Note a turn."""
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

    def lives(self) -> PlayedLives:
        """Return the lives, person by person."""
        return PlayedLives(**{name: total.reshape(-1) for name, total in self._sums.items()})
