"""`nextswipe/MiniSwipe-v0` as a native vector environment: n simulated users a step."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from env.miniswipe import (
    HORIZON_DAYS,
    ObsMode,
    account,
    first_seed,
    observation_space,
    observe,
    require_actions,
    require_options,
)
from env.miniswipe_crowd import MiniCrowd
from env.miniswipe_model import N_ACTIONS, MiniConstants, MiniModel
from env.miniswipe_programme import Objective
from env.vocabulary import Bools, Float32s, Floats, Ints


class MiniSwipeVectorEnv(VectorEnv[Float32s | Ints, Ints, Any]):
    """n users of `env.miniswipe.MiniSwipeEnv`; its data sheet holds, with the following additions.

    ## Observation, Action, Reward, Info
    As in `MiniSwipeEnv`, with a leading axis of n. Actions have shape (n,), dtype int64 or any
    other integer; each value of `info` is an array of shape (n,).

    ## Seeds
    `reset(seed=s)` gives user i the seed s + i: they live as in `MiniSwipeEnv` after `reset(seed=s
    + i)`, to the last bit, for every n.

    ## Episode End
    NEXT_STEP autoreset: the step after the end of a life starts the slot's next one; its action is
    ignored, its reward is 0 and its discount 1.

    ## Version
    v0
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        reward: Objective = "watch",
        obs: ObsMode = "flat",
        horizon_days: int = HORIZON_DAYS,
        constants: MiniConstants | None = None,
        render_mode: str | None = None,
    ) -> None:
        require_options(reward, obs, horizon_days)
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode is not None:
            raise ValueError(
                f"expected render_mode=None of many people, got {render_mode!r}: make one person's "
                "environment to render it"
            )
        self.num_envs = num_envs
        self.single_observation_space = observation_space(obs)
        self.single_action_space = spaces.Discrete(N_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._reward: Objective = reward
        self._obs: ObsMode = obs
        self._horizon_days = horizon_days
        self._model = MiniModel.of(MiniConstants() if constants is None else constants)
        self._crowd: MiniCrowd | None = None
        self._over: Bools = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s | Ints, dict[str, Any]]:
        """Start a life in each slot: the first of its seed, or the next one without a seed.

        User i has seed + i; options are ignored.
        """
        super().reset(seed=seed, options=options)
        if seed is not None or self._crowd is None:
            first = first_seed(seed, self.np_random)
            self._crowd = MiniCrowd.born(self._model, first + np.arange(self.num_envs))
        else:
            self._crowd.renew(np.arange(self.num_envs))
        self._over = np.zeros(self.num_envs, dtype=np.bool_)
        return observe(self._obs, self._crowd.state), {"day": self._crowd.day.copy()}

    def step(self, actions: Ints) -> tuple[Float32s | Ints, Floats, Bools, Bools, dict[str, Any]]:
        """Show each user one card; slots whose life is over start the next one instead.

        Raises:
            ValueError: actions have the wrong shape or range; the state does not change.
            RuntimeError: `reset` was not called.
        """
        if self._crowd is None:
            raise RuntimeError("expected reset() before the first step()")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"expected actions of shape ({self.num_envs},), got {actions.shape}")
        actions = np.where(self._over, 0, actions)
        require_actions(actions)
        crowd, fresh = self._crowd, np.flatnonzero(self._over)
        swipes = crowd.swipe(actions)
        rewards, info = account(self._model, swipes)
        reward, terminated = rewards[self._reward].copy(), swipes.churned.copy()
        if len(fresh):
            crowd.renew(fresh)
            reward[fresh], terminated[fresh] = 0.0, False
            for name, value in info.items():
                value[fresh] = 1.0 if name == "discount" else 0.0
        truncated = crowd.day >= self._horizon_days
        self._over = terminated | truncated
        info["day"] = crowd.day.copy()
        return observe(self._obs, crowd.state), reward, terminated, truncated, info
