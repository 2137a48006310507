"""A person in front of the feed: answers a card, is moved by it, swipes on or leaves.

The person is fixed; their state is a small frozen value that each card replaces, so keeping the
state before a card is keeping a reference, and the true expected reward of any candidate can be
computed later for a decision that was logged at that state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env import answers
from env.answers import N_UNIFORMS, answer, utility
from env.moods import BASE_SATISFACTION, N_TOPICS, exit_chance, rest, satiate, satisfy, tire
from env.reward import Reward
from env.vocabulary import Feedback, Floats, Ints, ItemId, Profile, UserId
from env.world import (
    APPEAL,
    LANGUAGE,
    TOPIC,
    Person,
    World,
    terms_of,
    terms_of_one,
)


@dataclass(frozen=True, slots=True)
class ViewerState:
    """What a person is like at this moment.

    Attributes:
        load: mental load, >= 0.
        satisfaction: in [0, 1]; hidden from everybody but the world.
        position: cards of this session so far.
        exit_chance: probability of leaving now, after the last card.
    """

    satiation: Floats  # (N_TOPICS,) >= 0
    load: float = 0.0
    satisfaction: float = BASE_SATISFACTION
    position: int = 0
    exit_chance: float = 0.0


@dataclass(slots=True)
class Viewer:
    """A person with their state, in a world."""

    world: World
    person: Person
    state: ViewerState

    def answer(self, item_id: ItemId, rng: np.random.Generator) -> Feedback:
        """Return what the person does about a card, and be moved by it.

        Args:
            item_id: of the world's catalogue.
            rng: nine numbers are taken from it.

        Raises:
            KeyError: the world was made without this item.
        """
        world, state = self.world, self.state
        k = world.index_of(item_id)
        item = world.columns[:, k]
        appeal, bait, language, topic = item[:4].tolist()
        affinity = float(world.vectors[k] @ self.person.taste)
        u = utility(
            world.model.rates,
            affinity,
            appeal + self.person.lean,
            language == self.person.language,
            float(state.satiation[int(topic)]),
            state.load,
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
        self.state = _move(world, state, int(topic), bait, engaged, rng.standard_normal())
        return Feedback(
            seen=True,
            left=True,
            dwell_s=float(drawn.watch_s),
            like=bool(drawn.like),
            comment=bool(drawn.comment),
            share=bool(drawn.share),
            follow=bool(drawn.follow),
            not_interested=bool(drawn.not_interested),
        )

    def leaves(self, rng: np.random.Generator) -> bool:
        """Return whether the person closes the app after the last card."""
        return bool(rng.random() < self.state.exit_chance)

    def expected_reward(self, index: Ints, reward: Reward) -> Floats:
        """Return the exact expected reward of each candidate now, see `expected_reward`."""
        return expected_reward(self.world, self.person, self.state, index, reward)

    def rest(self, days: float) -> None:
        """Be away for some days, or a part of one; the next card opens a session."""
        moods, state = self.world.moods, self.state
        satiation, satisfaction = rest(moods, state.satiation, state.satisfaction, days)
        self.state = ViewerState(satiation=satiation, satisfaction=float(satisfaction))


def expected_reward(
    world: World, person: Person, state: ViewerState, index: Ints, reward: Reward
) -> Floats:
    """Return the exact expected reward of showing each candidate to a person in a state.

    Args:
        world: whose items they are.
        person: of this world.
        state: as it was before the card.
        index: rows of the world's items, shape (n,).
        reward: linear in the events, so the expectation is that of the events.

    Returns:
        Shape (n,).
    """
    item = world.columns.take(index, axis=1)
    affinity = world.vectors.take(index, axis=0) @ person.taste
    u = utility(
        world.model.rates,
        affinity,
        item[APPEAL] + person.lean,
        item[LANGUAGE] == person.language,
        state.satiation[item[TOPIC].astype(np.intp)],
        state.load,
    )
    return answers.expected_reward(
        world.model.rates,
        reward,
        np.asarray(u),
        terms_of(item),
        affinity / world.model.priors.affinity_sd,
    )


def people(world: World, users: Sequence[tuple[UserId, Profile]]) -> list[Viewer]:
    """Return these users as viewers, each their own person, rested and neutral.

    A user with imported impressions is drawn from the posterior that those leave, anybody else
    from the prior of their cohort.
    """
    return [Viewer(world, world.person(user_id, profile), newborn()) for user_id, profile in users]


def newborn() -> ViewerState:
    """Return the state of somebody who has not swiped yet."""
    return ViewerState(satiation=np.zeros(N_TOPICS))


def _move(
    world: World, state: ViewerState, topic: int, bait: float, engaged: float, normal: float
) -> ViewerState:
    moods = world.moods
    satiation = satiate(moods, state.satiation, topic)
    had = float(satiation[topic])
    load = tire(moods, state.load, bait)
    satisfaction = satisfy(moods, state.satisfaction, engaged, bait, load, had, normal)
    position = state.position + 1
    leaving = exit_chance(moods, had, load, satisfaction, bait, engaged, position)
    return ViewerState(satiation, float(load), float(satisfaction), position, float(leaving))
