"""One person's first weeks under a policy, visit by visit, and what the same policy does to many.

People draw from their own life and card, not from a shared stream, so the same seed is the same
person under each policy, with the same habits and hours: what differs was chosen.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from env.choosers import ChooserName, chooser
from env.film import Film
from env.population import DrawnCast
from env.presets import Preset
from env.still import Swipe
from env.vector import SwipeVectorEnv
from env.vocabulary import Floats


class Visit(msgspec.Struct, frozen=True):
    """A session.

    Attributes:
        day: from 0.
        hour: in [0, 24).
        satisfaction: before each card, hidden from the server, shape (n_cards,).
    """

    day: int
    hour: float
    swipes: tuple[Swipe, ...]
    satisfaction: tuple[float, ...]

    @property
    def watched_s(self) -> float:
        """Seconds watched."""
        return sum(swipe.reply.watch_s for swipe in self.swipes)


class Story(msgspec.Struct, frozen=True):
    """A person's visits under a policy.

    Attributes:
        stays: whether they are to come back after the last one.
    """

    policy: ChooserName
    seed: int
    days: int
    visits: tuple[Visit, ...]
    stays: bool

    @property
    def watched_s(self) -> float:
        """Seconds, of all visits."""
        return sum(visit.watched_s for visit in self.visits)


class Averages(msgspec.Struct, frozen=True):
    """What a policy comes to, over n people.

    Attributes:
        outcomes: visits, seconds watched and last satisfaction of each, shape (3, n).
        card_s: watched of a card.
    """

    outcomes: Floats
    card_s: float

    @property
    def n_people(self) -> int:
        """Number of people."""
        return int(self.outcomes.shape[1])

    @property
    def visits(self) -> float:
        """Mean number of a person."""
        return float(self.outcomes[0].mean())

    @property
    def watched_s(self) -> float:
        """Mean seconds of a person."""
        return float(self.outcomes[1].mean())

    @property
    def satisfaction(self) -> float:
        """Mean at the end."""
        return float(self.outcomes[2].mean())


def tell(preset: Preset, policy: ChooserName, seed: int, days: int) -> Story:
    """Return the visits of one person.

    Args:
        preset: of the world.
        policy: by name.
        seed: of the person.
        days: at least 1.
    """
    cast = DrawnCast(preset)
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


def average(preset: Preset, policy: ChooserName, seed: int, days: int, n_people: int) -> Averages:
    """Return what the policy does to many people, each until their own last day.

    Args:
        preset: of the world.
        policy: by name.
        seed: of the first person.
        days: at least 1.
        n_people: at least 1.
    """
    env = SwipeVectorEnv(n_people, preset=preset, horizon_days=days, copy=False)
    choose = chooser(policy, seed)
    observation, _ = env.reset(seed=seed)
    lives = np.ones(n_people, dtype=np.bool_)
    watched_s, cards, visits, satisfaction = np.zeros((4, n_people))
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
    """Return who of the people is nearest to the mean under all policies at once.

    By the sum of squared distances in standard deviations, of each outcome under each policy.

    Args:
        averages: of the same people, one a policy.
    """
    distance = np.zeros(averages[0].n_people)
    for average in averages:
        mean = average.outcomes.mean(axis=1, keepdims=True)
        sd = average.outcomes.std(axis=1, keepdims=True)
        distance += (((average.outcomes - mean) / np.where(sd > 0.0, sd, 1.0)) ** 2).sum(axis=0)
    return int(distance.argmin())
