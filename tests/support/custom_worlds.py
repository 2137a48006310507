"""A world of one's own to train in, by the name `custom_worlds:tastes`, and wrong ones."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

K = 5
CARDS_A_VISIT, CARDS_A_LIFE = 10, 30


class Tastes(VectorEnv[Any, Any, Any]):
    """Users like items along their taste; a life is three visits of ten cards."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Dict(
            {
                "user": spaces.Box(-9.0, 9.0, (2,), np.float32),
                "item": spaces.Box(-9.0, 9.0, (K, 2), np.float32),
            }
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = spaces.Discrete(K)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.cards = np.zeros(num_envs, dtype=np.int64)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cards[:] = 0
        self.taste = self.np_random.normal(size=(self.num_envs, 2)).clip(-3.0, 3.0)
        return self._observe(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        shown = self.items[np.arange(self.num_envs), actions]
        was_over = self.cards == CARDS_A_LIFE
        liked = np.where(was_over, 0.0, (shown * self.taste).sum(axis=1))
        self.cards = np.where(was_over, 0, self.cards + 1)
        ended = (self.cards % CARDS_A_VISIT == 0) & ~was_over
        info = {"session_end": ended, "discount": np.where(ended, 0.97, 1.0)}
        over = self.cards == CARDS_A_LIFE
        return self._observe(), liked, over, np.zeros_like(over), info

    def _observe(self) -> dict[str, Any]:
        self.items = self.np_random.normal(size=(self.num_envs, K, 2)).clip(-3.0, 3.0)
        return {"user": self.taste.astype(np.float32), "item": self.items.astype(np.float32)}


def tastes(num_envs: int) -> Tastes:
    return Tastes(num_envs)


class OneUser(gymnasium.Env[Any, Any]):
    """One user at a time, which says nothing of sessions; a life is three cards."""

    observation_space = spaces.Dict(
        {
            "user": spaces.Box(-9.0, 9.0, (2,), np.float32),
            "item": spaces.Box(-9.0, 9.0, (K, 2), np.float32),
            "personal": spaces.Box(-9.0, 9.0, (K, 1), np.float32),
            "mask": spaces.Box(0, 1, (K,), np.int8),
        }
    )
    action_space = spaces.Discrete(K)
    mask = np.ones(K, np.int8)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_left = 3
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_left -= 1
        return self._observe(), float(action), self.n_left == 0, False, {}

    def _observe(self) -> dict[str, Any]:
        rows = np.arange(2 * K, dtype=np.float32).reshape(K, 2) / 10.0
        personal = np.full((K, 1), 7.0, np.float32)
        return {"user": rows[0], "item": rows, "personal": personal, "mask": self.mask}


class Masked(OneUser):
    mask = np.array([1, 1, 1, 1, 0], np.int8)


def one_by_one(num_envs: int) -> Any:
    return SyncVectorEnv([OneUser] * num_envs)


def masked(num_envs: int) -> Any:
    return SyncVectorEnv([Masked] * num_envs)


def one_alone(num_envs: int) -> Any:
    return OneUser()


def too_few(num_envs: int) -> Any:
    return Tastes(num_envs - 1)


def flat(num_envs: int) -> Any:
    return gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync")


def fails(num_envs: int) -> Any:
    raise KeyError("catalogue.csv")


def too_many_actions(num_envs: int) -> Any:
    world = Tastes(num_envs)
    world.single_action_space = spaces.Discrete(K + 1)
    return world


def resets_at_once(num_envs: int) -> Any:
    return SyncVectorEnv([OneUser] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
