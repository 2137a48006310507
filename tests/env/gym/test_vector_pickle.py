"""A vector environment that was pickled goes on as it would have: training is resumed with it."""

import pickle
from typing import Literal

import numpy as np
import pytest
from small_worlds import PRESET

from env.gym.vector import SwipeVectorEnv
from env.twin.env import MiniSwipeVectorEnv

N_PEOPLE, N_CANDIDATES, N_CARDS = 8, 5, 60


@pytest.mark.parametrize("supply", ["fixed", "live"])
def test_the_feed_goes_on_as_it_was(supply: Literal["fixed", "live"]) -> None:
    users = SwipeVectorEnv(
        N_PEOPLE, preset=PRESET, obs="flat", n_candidates=N_CANDIDATES, supply=supply
    )
    _go_on_as_they_were(users, N_CANDIDATES)


def test_the_twin_goes_on_as_it_was() -> None:
    _go_on_as_they_were(MiniSwipeVectorEnv(N_PEOPLE), 4)


def _go_on_as_they_were(users: SwipeVectorEnv | MiniSwipeVectorEnv, n_actions: int) -> None:
    generator = np.random.default_rng(0)
    users.reset(seed=3)
    for _ in range(N_CARDS):
        users.step(generator.integers(n_actions, size=N_PEOPLE))
    others = pickle.loads(pickle.dumps(users))
    for _ in range(N_CARDS):
        actions = generator.integers(n_actions, size=N_PEOPLE)
        for kept, pickled in zip(users.step(actions)[:4], others.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(kept, pickled)
