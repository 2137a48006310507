"""One simulated user's visits under a policy, and the averages of many users under it.

Draws depend on the user's own life and card, not on a shared stream, so the same seed is the same
user under each policy, with the same habits and hours: only the cards chosen differ.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.gym.choosers import ChooserName, chooser
from env.gym.vector import SwipeVectorEnv
from env.render.film import Film
from env.render.still import Swipe
from env.vocabulary import Floats
from env.world.population import DrawnUsers
from env.world.presets import Preset


class Visit(msgspec.Struct, frozen=True):
    """A session."""

    day: int  # from 0
    hour: float  # in [0, 24)
    swipes: tuple[Swipe, ...]
    satisfaction: tuple[float, ...]  # before each card, hidden from the server

    @property
    def watched_s(self) -> float:
        """Seconds watched."""
        return sum(swipe.reply.watch_s for swipe in self.swipes)


class Story(msgspec.Struct, frozen=True):
    """A user's visits under a policy."""

    policy: ChooserName
    seed: int
    days: int
    visits: tuple[Visit, ...]
    stays: bool  # whether the user returns after the last visit

    @property
    def watched_s(self) -> float:
        """Seconds watched in all visits."""
        return sum(visit.watched_s for visit in self.visits)


class Averages(msgspec.Struct, frozen=True):
    """Outcomes of a policy over n users."""

    outcomes: Floats  # (3, n) visits, seconds watched and last satisfaction
    card_s: float  # mean seconds watched of a card

    @property
    def n_users(self) -> int:
        """Number of users."""
        return int(self.outcomes.shape[1])

    @property
    def visits(self) -> float:
        """Mean number of visits per user."""
        return float(self.outcomes[0].mean())

    @property
    def watched_s(self) -> float:
        """Mean seconds watched per user."""
        return float(self.outcomes[1].mean())

    @property
    def satisfaction(self) -> float:
        """Mean satisfaction at the end."""
        return float(self.outcomes[2].mean())


def tell(preset: Preset, policy: ChooserName, seed: int, days: int) -> Story:
    """Return the visits of the user of this seed, over at least one day."""
    cast = DrawnUsers(preset)
    env = SwipeVectorEnv(1, preset=preset, cast=cast, horizon_days=days)
    choose, film = chooser(policy, seed), Film(env.swiping, cast)
    env.reset(seed=seed)
    film.begin()
    visits: list[Visit] = []
    satisfaction: list[float] = []
    while True:
        satisfaction.append(float(env.swiping.crowd.satisfaction[0]))
        turn = film.play(choose(env.screen.write(copy=False))[:, None])
        if turn.session_end[0]:
            still = film.still()
            visits.append(Visit(still.day, still.hour, still.swipes, tuple(satisfaction)))
            satisfaction.clear()
        if turn.terminated[0] or turn.truncated[0]:
            return Story(policy, seed, days, tuple(visits), stays=not turn.terminated[0])


def average(preset: Preset, policy: ChooserName, seed: int, days: int, n_users: int) -> Averages:
    """Return the outcomes of a policy over n users, each until their own last day.

    User i has seed + i.
    """
    env = SwipeVectorEnv(n_users, preset=preset, horizon_days=days, copy=False)
    choose = chooser(policy, seed)
    observation, _ = env.reset(seed=seed)
    lives = np.ones(n_users, dtype=np.bool_)
    watched_s, cards, visits, satisfaction = np.zeros((4, n_users))
    while lives.any():
        satisfaction[lives] = env.swiping.crowd.satisfaction[lives]
        observation, _, terminated, truncated, info = env.step(choose(observation))
        watched_s += lives * info["watch_s"]
        cards += lives
        visits += lives & info["session_end"]
        lives &= ~(terminated | truncated)
    return Averages(
        np.stack([visits, watched_s, satisfaction]), float(watched_s.sum() / cards.sum())
    )


def most_average(averages: Sequence[Averages]) -> int:
    """Return the index of the user nearest to the mean under all policies at once.

    The distance sums squared standard scores over outcomes and policies; `averages` holds the same
    users under one policy each.
    """
    distance = np.zeros(averages[0].n_users)
    for average in averages:
        mean = average.outcomes.mean(axis=1, keepdims=True)
        sd = average.outcomes.std(axis=1, keepdims=True)
        distance += (((average.outcomes - mean) / np.where(sd > 0.0, sd, 1.0)) ** 2).sum(axis=0)
    return int(distance.argmin())
