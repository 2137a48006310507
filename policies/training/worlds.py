"""The environments that policies are trained in, in the form that RLlib needs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from env.gym.registration import register_envs
from env.gym.vector import SwipeVectorEnv
from env.twin.model import N_ACTIONS, N_LEVELS, N_LOADS, N_SATIATIONS
from env.vocabulary import Float32s
from policies.training.custom_world import ENV_ID, CustomVectorEnv, arguments_of
from policies.training.fitted_model import Grid
from policies.training.layout import ObservationLayout, Scaling
from policies.training.settings import CustomWorld, FeedWorld, TwinWorld

TUNED, JUDGED, SEARCHED = 2**33, 2**34, 2**35
"""Ranges of a searched ranker: user_rows of the bandit's fits, of the comparison of fits, and of
the search."""

TRIED = 2**36
"""Users by whom settings are chosen."""

HELD_OUT = 2**40
"""From here on user_rows are only for measurement; nothing is trained or chosen by them."""

LIMITED = 2**41
"""Held-out user_rows by whom constraints are measured."""


TWIN_GRID = Grid((N_LEVELS, N_SATIATIONS, N_LOADS))
"""The twin's observed state: satisfaction, and the modes satiation and load."""

_N_SAMPLED = 64
_N_CARDS_SAMPLED = 200
_SAMPLE_SEED = 2**20


@dataclass(frozen=True, slots=True)
class TrainingEnvironment:
    """An environment by name, and the form of its observations."""

    env_id: str  # Gymnasium's, with the module that registers it
    arguments: dict[str, Any]  # of its vector environment
    layout: ObservationLayout  # of a flat observation
    user_scaling: Scaling | None = None  # of a user's columns; None: unscaled
    item_scaling: Scaling | None = None  # of a candidate's row; None: unscaled


def open_world(world: TwinWorld | FeedWorld | CustomWorld) -> TrainingEnvironment:
    """Return the description of an environment.

    Outside of the twin, columns are scaled by a sample under a random policy, always the same one.
    """
    match world:
        case TwinWorld(objective=objective, horizon_days=days):
            register_envs()
            return TrainingEnvironment(
                "env.gym.registration:nextswipe/MiniSwipe-v0",
                {"reward": objective, "obs": "flat", "horizon_days": days},
                ObservationLayout.fixed(3, N_ACTIONS),
            )
        case FeedWorld():
            register_envs()
            return _open_feed(world)
        case CustomWorld():
            arguments = arguments_of(world)
            users = CustomVectorEnv(_N_SAMPLED, **arguments)
            user, row = _sample(users, users.layout)
            users.close()
            scalings = Scaling.of_known(user), Scaling.of_known(row)
            return TrainingEnvironment(ENV_ID, arguments, users.layout, *scalings)


def _open_feed(world: FeedWorld) -> TrainingEnvironment:
    arguments: dict[str, Any] = {
        "preset": world.preset,
        "reward": world.objective,
        "n_candidates": world.n_candidates,
        "supply": world.supply,
        "world_seed": world.world_seed,
        "steps_per_day": world.steps_per_day,
        "horizon_days": world.horizon_days,
    }
    is_feed = world.columns == "feed"
    users = SwipeVectorEnv(_N_SAMPLED, obs="feed" if is_feed else "dict", **arguments)
    layout = ObservationLayout.of(users.single_observation_space)
    user, row = _sample(users, layout)
    return TrainingEnvironment(
        "env.gym.registration:nextswipe/Swipe-v0",
        arguments | {"obs": "feed_flat" if is_feed else "flat"},
        layout,
        Scaling.of_columns(user, of_feed=is_feed),
        Scaling.of_columns(row, of_feed=is_feed),
    )


def _sample(
    users: "VectorEnv[Any, Any, Any]", layout: ObservationLayout
) -> tuple[Float32s, Float32s]:
    """Return users (m, n_user) and shown candidates (m, n_row) of a sample."""
    user_rows, rows = [], []
    generator = np.random.default_rng(_SAMPLE_SEED)
    users.reset(seed=_SAMPLE_SEED)
    for _ in range(_N_CARDS_SAMPLED):
        actions = generator.integers(layout.n_candidates, size=_N_SAMPLED)
        user, row, _ = layout.arrays(users.step(actions)[0])
        user_rows.append(user)
        rows.append(row[np.arange(_N_SAMPLED), actions])
    return np.concatenate(user_rows), np.concatenate(rows)
