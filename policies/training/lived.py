"""Evaluation rollouts measure a trained ranker over whole lives, from the first day to the end.

The returns that a training reports are biased by which lives ended lately: all its user_rows begin
on one day, and those who leave for good end first.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from env.vocabulary import Bools, Floats
from policies.explorers import draw, softmax
from policies.ranker.ranker import Ranker
from policies.training.worlds import TrainingEnvironment

_DRAWS_STREAM = 3


def life_returns(ranker: Ranker, world: TrainingEnvironment, n_users: int, seed: int) -> Floats:
    """Return the discounted return of the first life of n user_rows, shape (n,).

    Cards are drawn from the softmax of the ranker's logits, as in serving.

    Args:
        seed: of lives and draws: two rankers with one seed get the same user_rows.
    """
    earned, discount = np.zeros(n_users), np.ones(n_users)
    for alive, rewards, info in _lived(ranker, world, n_users, seed):
        earned += np.where(alive, discount * rewards, 0.0)
        discount *= info["discount"]
    return earned


class LifeEvents(NamedTuple):
    """Counts of events in lives."""

    counts: Floats  # (n_events, n) of each event
    cards: Floats  # (n,) of each life


def life_events(
    ranker: Ranker, world: TrainingEnvironment, events: Sequence[str], n_users: int, seed: int
) -> LifeEvents:
    """Return the counts of events in the first lives of n users; see `life_returns`.

    Args:
        world: of one card a step.
        events: by their names in `info`.
    """
    counts, cards = np.zeros((len(events), n_users)), np.zeros(n_users)
    for alive, _, info in _lived(ranker, world, n_users, seed):
        counts += alive * np.array([info[name] for name in events])
        cards += alive
    return LifeEvents(counts, cards)


def _lived(
    ranker: Ranker, world: TrainingEnvironment, n_users: int, seed: int
) -> Iterator[tuple[Bools, Floats, dict[str, Any]]]:
    """Yield the users alive before each card, its rewards and its info, until all lives end."""
    users = gymnasium.make_vec(
        world.env_id,
        num_envs=n_users,
        vectorization_mode="vector_entry_point",
        **world.arguments,
    )
    generator = np.random.default_rng([seed, _DRAWS_STREAM])
    alive = np.ones(n_users, dtype=np.bool_)
    observation, _ = users.reset(seed=seed)
    while alive.any():
        user_rows, rows, _ = world.layout.arrays(observation)
        actions = draw(softmax(ranker.batch_scores(user_rows, rows)), generator)
        observation, rewards, terminated, truncated, info = users.step(actions)
        yield alive.copy(), rewards, info
        alive &= ~(terminated | truncated)
    users.close()
