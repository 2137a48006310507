"""A simulated user as a scalar object, for the HTTP swarm: `Crowd` is the vectorised form.

The user is fixed; each card replaces their small frozen state. Keeping the state before a card is
therefore cheap, and the true expected reward of any candidate can be computed later for a decision
logged at that state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from env.arrays.reals import sum_rows
from env.columns.schema import VECTOR_DIM
from env.reward import Reward
from env.vocabulary import Feedback, Floats, Ints, ItemId, Profile, UserId
from env.world import answers as chances
from env.world.answers import N_UNIFORMS, answer, evening_scene, utility
from env.world.moods import (
    BASE_SATISFACTION,
    N_TOPICS,
    churn_chance,
    exit_chance,
    rest,
    return_chance,
    satiate,
    satisfy,
    tire,
)
from env.world.returns import days_away, drift_interests, gap_days, visit_hour
from env.world.world import APPEAL, LANGUAGE, TOPIC, UserParameters, World, terms_of, terms_of_one

NOON = 12.0


@dataclass(frozen=True, slots=True)
class SimulatedUserState:
    """A simulated user's state at one moment."""

    satiation: Floats  # (N_TOPICS,) >= 0
    drift: Floats  # (VECTOR_DIM,) of interests, from the user's own taste
    load: float = 0.0  # mental load, >= 0
    satisfaction: float = BASE_SATISFACTION  # in [0, 1]; hidden from the server
    position: int = 0  # cards of this session so far
    exit_chance: float = 0.0  # probability of leaving after the last card
    watched_s: float = 0.0  # in this session
    hour: float = NOON  # of the visit, in [0, 24)


@dataclass(slots=True)
class SimulatedUser:
    """A user with their state, in a world."""

    world: World
    user: UserParameters
    state: SimulatedUserState

    def answer(self, item_id: ItemId, rng: np.random.Generator) -> Feedback:
        """Return the user's response to a card, and update their state.

        Args:
            item_id: of the world's catalogue.
            rng: nine numbers are drawn from it.

        Raises:
            KeyError: the world was made without this item.
        """
        world, state = self.world, self.state
        k = world.index_of(item_id)
        item = world.columns[:, k]
        appeal, bait, language, topic = item[:4].tolist()
        affinity = float(sum_rows(world.vectors[k] * (self.user.taste + state.drift)))
        u = utility(
            world.model.rates,
            affinity,
            appeal + self.user.lean,
            language == self.user.language,
            float(state.satiation[int(topic)]),
            state.load,
            evening_scene(world.population.evening, state.hour),
        )
        drawn = answer(
            world.model.rates,
            u,
            terms_of_one(item),
            affinity / world.model.priors.affinity_sd,
            rng.random(N_UNIFORMS).tolist(),
            rng.standard_normal(),
        )
        engaged = float(drawn.engaged)
        watched_s, normal = float(drawn.watch_s), rng.standard_normal()
        self.state = _move(world, state, int(topic), bait, engaged, watched_s, normal)
        return Feedback(
            seen=True,
            left=True,
            dwell_s=watched_s,
            like=bool(drawn.like),
            comment=bool(drawn.comment),
            share=bool(drawn.share),
            follow=bool(drawn.follow),
            not_interested=bool(drawn.not_interested),
        )

    def leaves(self, rng: np.random.Generator) -> bool:
        """Return whether the user closes the app after the last card."""
        return bool(rng.random() < self.state.exit_chance)

    def expected_reward(self, index: Ints, reward: Reward) -> Floats:
        """Return the exact expected reward of each candidate now, see `expected_reward`."""
        return expected_reward(self.world, self.user, self.state, index, reward)

    def begin(self, rng: np.random.Generator) -> None:
        """Open the app for the first time; two numbers are drawn from `rng` for the hour."""
        self.state = replace(self.state, hour=self._visit_hour(rng.random(), rng))

    def leave(self, rng: np.random.Generator) -> int | None:
        """End the session and apply the time away; the state then holds the next visit's hour.

        Args:
            rng: five numbers, and one per dimension of interests, are drawn from it.

        Returns:
            Days from the date of this visit to that of the next one, at least 1; None if the user
            never returns, with their state unchanged.
        """
        moods, state = self.world.moods, self.state
        churns, returns, peak = rng.random(3).tolist()
        if churns < churn_chance(moods, state.satisfaction):
            return None
        return_class = self.user.return_class
        chance = return_chance(moods, return_class, state.satisfaction, state.watched_s)
        gap = gap_days(chance, returns)
        hour = self._visit_hour(peak, rng)
        self.rest(float(days_away(gap, state.hour, hour)), rng)
        self.state = replace(self.state, hour=hour)
        return int(gap)

    def rest(self, days: float, rng: np.random.Generator | None = None) -> None:
        """Apply days away, > 0, and open a session; interests drift only if `rng` is given."""
        world, state = self.world, self.state
        satiation, satisfaction = rest(world.moods, state.satiation, state.satisfaction, days)
        drift = state.drift
        if rng is not None:
            normals = rng.standard_normal(len(drift))
            drift = drift_interests(
                world.population, drift, world.model.priors.taste_sd, days, normals
            )
        self.state = SimulatedUserState(
            satiation, drift, satisfaction=float(satisfaction), hour=state.hour
        )

    def _visit_hour(self, uniform: float, rng: np.random.Generator) -> float:
        peaks, sd_h = np.array(self.user.peak_hours), self.world.population.peak_sd_h
        return float(visit_hour(peaks, sd_h, uniform, rng.standard_normal()))


def expected_reward(
    world: World, user: UserParameters, state: SimulatedUserState, index: Ints, reward: Reward
) -> Floats:
    """Return the exact expected reward of showing each candidate to a user, shape (n,).

    `state` is that before the card; `index` holds rows of the world's items, shape (n,). The reward
    is linear in the events, so event probabilities give the expectation.
    """
    item = world.columns.take(index, axis=1)
    affinity = world.vectors.take(index, axis=0) @ (user.taste + state.drift)
    u = utility(
        world.model.rates,
        affinity,
        item[APPEAL] + user.lean,
        item[LANGUAGE] == user.language,
        state.satiation[item[TOPIC].astype(np.intp)],
        state.load,
        evening_scene(world.population.evening, state.hour),
    )
    return chances.expected_reward(
        world.model.rates,
        reward,
        np.asarray(u),
        terms_of(item),
        affinity / world.model.priors.affinity_sd,
    )


def simulated_users(world: World, users: Sequence[tuple[UserId, Profile]]) -> list[SimulatedUser]:
    """Return these users as simulated users, rested and neutral.

    A user with imported impressions is drawn from their posterior, any other from the prior of
    their cohort.
    """
    return [
        SimulatedUser(world, world.user(user_id, profile), newborn()) for user_id, profile in users
    ]


def newborn() -> SimulatedUserState:
    """Return the state of a user before their first card."""
    return SimulatedUserState(satiation=np.zeros(N_TOPICS), drift=np.zeros(VECTOR_DIM))


def _move(
    world: World,
    state: SimulatedUserState,
    topic: int,
    bait: float,
    engaged: float,
    watched_s: float,
    normal: float,
) -> SimulatedUserState:
    moods = world.moods
    satiation = satiate(moods, state.satiation, topic)
    had = float(satiation[topic])
    load = tire(moods, state.load, bait)
    satisfaction = satisfy(moods, state.satisfaction, engaged, bait, load, had, normal)
    position = state.position + 1
    leaving = exit_chance(moods, had, load, satisfaction, bait, engaged, position)
    return SimulatedUserState(
        satiation=satiation,
        drift=state.drift,
        load=float(load),
        satisfaction=float(satisfaction),
        position=position,
        exit_chance=float(leaving),
        watched_s=state.watched_s + watched_s,
        hour=state.hour,
    )
