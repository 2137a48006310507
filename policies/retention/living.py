"""Evaluation rollouts measure a trained ranker over whole lives, from the first day to the end.

The returns that a training reports are biased by which lives ended lately: all its users begin on
one day, and those who leave for good end first.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from env.vocabulary import Bools, Floats
from policies.pmfs import draw, softmax
from policies.ranker import Ranker
from policies.retention.worlds import World

_DRAWS_STREAM = 3


def life_returns(ranker: Ranker, world: World, n_people: int, seed: int) -> Floats:
    """Return the discounted return of the first life of n users, shape (n,).

    Cards are drawn from the softmax of the ranker's logits, as in serving.

    Args:
        seed: of lives and draws: two rankers with one seed get the same users.
    """
    earned, discount = np.zeros(n_people), np.ones(n_people)
    for alive, rewards, info in _lived(ranker, world, n_people, seed):
        earned += np.where(alive, discount * rewards, 0.0)
        discount *= info["discount"]
    return earned


class LifeEvents(NamedTuple):
    """Counts of events in lives."""

    counts: Floats  # (n_events, n) of each event
    cards: Floats  # (n,) of each life


def life_events(
    ranker: Ranker, world: World, events: Sequence[str], n_people: int, seed: int
) -> LifeEvents:
    """Return the counts of events in the first lives of n users; see `life_returns`.

    Args:
        world: of one card a step.
        events: by their names in `info`.
    """
    counts, cards = np.zeros((len(events), n_people)), np.zeros(n_people)
    for alive, _, info in _lived(ranker, world, n_people, seed):
        counts += alive * np.array([info[name] for name in events])
        cards += alive
    return LifeEvents(counts, cards)


def _lived(
    ranker: Ranker, world: World, n_people: int, seed: int
) -> Iterator[tuple[Bools, Floats, dict[str, Any]]]:
    """Yield the users alive before each card, its rewards and its info, until all lives ended."""
    people = gymnasium.make_vec(
        world.env_id,
        num_envs=n_people,
        vectorization_mode="vector_entry_point",
        **world.arguments,
    )
    generator = np.random.default_rng([seed, _DRAWS_STREAM])
    alive = np.ones(n_people, dtype=np.bool_)
    observation, _ = people.reset(seed=seed)
    while alive.any():
        users, rows, _ = world.layout.arrays(observation)
        actions = draw(softmax(ranker.batch_scores(users, rows)), generator)
        observation, rewards, terminated, truncated, info = people.step(actions)
        yield alive.copy(), rewards, info
        alive &= ~(terminated | truncated)
    people.close()
