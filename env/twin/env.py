"""`nextswipe/MiniSwipe-v0`: the exactly solvable twin of `SwipeEnv`.

Learners are graded in it by their normalised score (`env.twin.policies`). A learner that
misses the conflict between watch time now and returns later in the twin will miss it in the large
world too, where the distance to the optimum is unknown.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from env.arrays.draws import life_keys, uniforms
from env.twin.model import (
    ACTIONS,
    N_ACTIONS,
    N_LEVELS,
    N_LOADS,
    N_PULSES,
    N_SATIATIONS,
    N_STATES,
    START,
    MiniConstants,
    MiniModel,
    level_after,
)
from env.twin.solve import OBJECTIVES, MiniObjective
from env.vocabulary import Bools, Float32s, Floats, Ints, Keys

CARD_LANE = 0
LEAVE_LANE = 2


@dataclass(frozen=True, slots=True)
class MiniCardOutcome:
    """The outcome of one card for each user."""

    watch_s: Floats  # (n,) seconds
    left: Bools  # (n,) whether the session ended
    gap_days: Ints  # (n,) until the next session; 0 within a session and after churn
    churned: Bools  # (n,) whether it was the last session


@dataclass(slots=True)
class MiniUserBatch:
    """n simulated users, each in a slot; all arrays have shape (n,)."""

    model: MiniModel
    seeds: Ints
    lives: Ints  # number of the life in its slot, from 0
    keys: Keys
    state: Ints  # in [0, 336)
    day: Ints  # of the life
    cards: Ints  # swiped in the life

    @classmethod
    def born(cls, model: MiniModel, seeds: Ints) -> "MiniUserBatch":
        """Return the first life of each slot."""
        none = np.zeros(len(seeds), dtype=np.int64)
        return cls(
            model=model,
            seeds=seeds,
            lives=none.copy(),
            keys=life_keys(seeds, none),
            state=np.full(len(seeds), START),
            day=none.copy(),
            cards=none.copy(),
        )

    def renew(self, who: Ints) -> None:
        """Start the next life of these slots."""
        self.lives[who] += 1
        self.keys[who] = life_keys(self.seeds[who], self.lives[who])
        self.state[who], self.day[who], self.cards[who] = START, 0, 0

    def swipe(self, actions: Ints) -> MiniCardOutcome:
        """Show each user one card; returning users are then at the start of their next session."""
        self.cards += 1
        row = self.state * N_ACTIONS + actions
        moves, bores, leaves = uniforms(self.keys, self.cards, CARD_LANE, 3)
        model = self.model
        level = level_after(
            self.state // N_PULSES,
            model.direction[actions],
            (moves < model.move.take(row)).astype(np.int64),
            (bores < model.bored.take(row)).astype(np.int64),
        )
        left = leaves < model.exit.take(row)
        self.state = level * N_PULSES + model.pulse.take(row)
        gap_days, churned = np.zeros(len(row), dtype=np.int64), np.zeros(len(row), dtype=np.bool_)
        who = np.flatnonzero(left)
        gap_days[who], churned[who] = self._stay_away(who, level[who])
        return MiniCardOutcome(model.watch_s.take(row), left, gap_days, churned)

    def _stay_away(self, who: Ints, level: Ints) -> tuple[Ints, Bools]:
        goes, waits, rests = uniforms(self.keys[who], self.cards[who], LEAVE_LANE, 3)
        model = self.model
        churned: Bools = goes < model.churn[level]
        # The inverse CDF of the geometric distribution on 1, 2, ..; a return chance of 1 divides by
        # an infinite logarithm and gives 1 day, as it should.
        with np.errstate(divide="ignore"):
            days = 1 + np.floor(np.log1p(-waits) / np.log1p(-model.comeback[level]))
        rested = np.where(rests < model.constants.relax, model.inward[level], level)
        gap_days = np.where(churned, 0, days.astype(np.int64))
        self.state[who] = np.where(churned, self.state[who], rested * N_PULSES)
        self.day[who] += gap_days
        return gap_days, churned


ObsMode = Literal["flat", "ids"]
OBS_MODES: tuple[ObsMode, ...] = get_args(ObsMode)
HORIZON_DAYS = 60
COLOURS = ((86, 196, 142), (236, 176, 88), (226, 104, 118))
"""Colours of the bars of satisfaction, satiation and load."""
N_SEEDS = 2**62


class MiniSwipeEnv(gymnasium.Env[Float32s | np.int64, int | np.int64]):
    """One user of 336 states, one card a step, sessions across days.

    ## Observation
    The full state; nothing is hidden in the twin.

    - `obs="flat"`: `Box(0, 1, (3,), float32)`: satisfaction, satiation / 3, load / 3.
    - `obs="ids"`: `Discrete(336)`, a row of the tables of `env.twin.model`: (level of
      satisfaction · 4 + satiation) · 4 + load.

    ## Action
    `Discrete(4)`: 0 nourish same, 1 nourish diverse, 2 bait same, 3 bait diverse.

    ## Reward
    - `reward="watch"`: expected seconds of the card, without noise.
    - `reward="days"`: 1 for the day of a return, paid and discounted at the step that ends the
      session, so `day_discount ** gap_days`; else 0.

    A policy's return sums rewards times the product of the earlier steps' `info["discount"]`; its
    expectation is the value that `env.twin.solve` computes.

    ## Starting State
    Satisfaction .5, rested, day 0.

    ## Episode End
    Terminated when the user never returns (at most 4 in 1,000 sessions); truncated when the next
    session is on day `horizon_days` or later (the first day is 0). A session's end does not end the
    episode: the next observation is the start of the next session.

    ## Info
    - `watch_s`, `days`: both rewards, whichever is chosen.
    - `session_end`: whether the user left after this card.
    - `gap_days`: days to the next session; 0 within a session and after churn.
    - `discount`: of later rewards: 1 within a session, `day_discount ** gap_days` after it, 0 after
      churn.
    - `day`: of the next card.

    ## Arguments
    `reward`, `obs`, `horizon_days` (60), `constants` (`env.twin.model.MiniConstants`),
    `render_mode` (None, "ansi" or "rgb_array").

    ## Version
    v0: the constants are frozen; another set makes another version.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}

    def __init__(
        self,
        *,
        reward: MiniObjective = "watch",
        obs: ObsMode = "flat",
        horizon_days: int = HORIZON_DAYS,
        constants: MiniConstants | None = None,
        render_mode: str | None = None,
    ) -> None:
        require_options(reward, obs, horizon_days)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            modes = ", ".join(self.metadata["render_modes"])
            raise ValueError(f"render_mode must be None or one of {modes}, got {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = observation_space(obs)
        self.action_space = spaces.Discrete(N_ACTIONS)
        self._reward: MiniObjective = reward
        self._obs: ObsMode = obs
        self._horizon_days = horizon_days
        self._model = MiniModel.of(MiniConstants() if constants is None else constants)
        self._user: MiniUserBatch | None = None
        self._over = False
        self._last = ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s | np.int64, dict[str, Any]]:
        """Start the seed's first life, or the next one if no seed is given; options are ignored."""
        super().reset(seed=seed, options=options)
        if seed is not None or self._user is None:
            first = first_seed(seed, self.np_random)
            self._user = MiniUserBatch.born(self._model, np.array([first]))
        else:
            self._user.renew(np.array([0]))
        self._over, self._last = False, ""
        return observe(self._obs, self._user.state)[0], {"day": 0}

    def step(
        self, action: int | np.int64
    ) -> tuple[Float32s | np.int64, float, bool, bool, dict[str, Any]]:
        """Show the user one card.

        Raises:
            ValueError: the action is invalid; the state does not change.
            RuntimeError: `reset` has to be called first.
        """
        if self._user is None:
            raise RuntimeError("expected reset() before the first step()")
        if self._over:
            raise RuntimeError("the episode is over: expected reset() before the next step()")
        actions = np.asarray(action)[None]
        if actions.shape != (1,):
            raise ValueError(f"expected one action, got {action!r}")
        require_actions(actions)
        swipes = self._user.swipe(actions)
        rewards, info = account(self._model, swipes)
        day = int(self._user.day[0])
        terminated, truncated = bool(swipes.churned[0]), day >= self._horizon_days
        self._over = terminated or truncated
        self._last = _tell(int(action), swipes)
        told = {name: value[0].item() for name, value in info.items()} | {"day": day}
        observation = observe(self._obs, self._user.state)[0]
        return observation, float(rewards[self._reward][0]), terminated, truncated, told

    # Gymnasium's type of a frame is a variable that no class binds.
    def render(self) -> str | NDArray[np.uint8] | None:  # type: ignore[override]
        """Return the user's state: with the last action as one line, or as three bars.

        The image of mode "rgb_array" has shape (96, 192, 3): satisfaction, satiation and load.
        """
        if self.render_mode is None or self._user is None:
            return None
        state = int(self._user.state[0])
        level, satiation, load = split(state)
        if self.render_mode == "rgb_array":
            return _paint(observe("flat", self._user.state)[0])
        return (
            f"day {int(self._user.day[0])}, card {int(self._user.cards[0])}: "
            f"satisfaction {'#' * level:.<{N_LEVELS - 1}} {level / (N_LEVELS - 1):.2f}, "
            f"satiation {satiation}/{N_SATIATIONS - 1}, load {load}/{N_LOADS - 1}{self._last}\n"
        )


def require_options(reward: str, obs: str, horizon_days: int) -> None:
    """Raise ValueError if an option is unknown."""
    if reward not in OBJECTIVES:
        raise ValueError(f"reward must be one of {', '.join(OBJECTIVES)}, got {reward!r}")
    if obs not in OBS_MODES:
        raise ValueError(f"obs must be one of {', '.join(OBS_MODES)}, got {obs!r}")
    if horizon_days < 1:
        raise ValueError(f"horizon_days must be at least 1, got {horizon_days}")


def first_seed(seed: int | None, generator: np.random.Generator) -> int:
    """Return the seed of the first user: the given one, else a drawn one.

    Raises:
        ValueError: the seed is not in [0, 2^62).
    """
    if seed is None:
        return int(generator.integers(N_SEEDS))
    if not 0 <= seed < N_SEEDS:
        raise ValueError(f"seed must be in [0, 2^62), got {seed}")
    return seed


def require_actions(actions: Ints) -> None:
    """Raise ValueError unless all actions, shape (n,), are in [0, 4)."""
    if actions.dtype.kind not in "iu":
        raise ValueError(f"actions must be whole numbers, got {actions.dtype}")
    wrong = np.flatnonzero((actions < 0) | (actions >= N_ACTIONS))
    if len(wrong):
        raise ValueError(
            f"action must be in 0..{N_ACTIONS - 1} ({', '.join(ACTIONS)}), "
            f"got {actions[wrong[0]]} for user {wrong[0]}"
        )


def observation_space(obs: ObsMode) -> "spaces.Box | spaces.Discrete[np.int64]":
    """Return the space of one observation."""
    if obs == "flat":
        return spaces.Box(0.0, 1.0, (3,), np.float32)
    return spaces.Discrete(N_STATES)


def split(states: Any) -> tuple[Any, Any, Any]:
    """Return level, satiation and load of a state or of an array of states."""
    return states // N_PULSES, states // N_LOADS % N_SATIATIONS, states % N_LOADS


def observe(obs: ObsMode, states: Ints) -> Any:
    """Return the observations of n users: float32 of shape (n, 3), or int64 of shape (n,)."""
    if obs == "ids":
        return states.copy()
    level, satiation, load = split(states)
    shares = (level / (N_LEVELS - 1), satiation / (N_SATIATIONS - 1), load / (N_LOADS - 1))
    return np.stack(shares, axis=1).astype(np.float32)


def account(
    model: MiniModel, swipes: MiniCardOutcome
) -> tuple[dict[MiniObjective, Floats], dict[str, Any]]:
    """Return both rewards of a step, and its info without the day; all of shape (n,)."""
    discount = np.where(swipes.churned, 0.0, model.constants.day_discount**swipes.gap_days)
    days = np.where(swipes.gap_days > 0, discount, 0.0)
    rewards: dict[MiniObjective, Floats] = {"watch": swipes.watch_s, "days": days}
    info = {
        "watch_s": swipes.watch_s,
        "days": days,
        "session_end": swipes.left,
        "gap_days": swipes.gap_days.astype(np.float64),
        "discount": discount,
    }
    return rewards, info


def _paint(shares: Float32s) -> NDArray[np.uint8]:
    """Return a bar for each share, in [0, 1], one below the other."""
    frame = np.full((96, 192, 3), 24, dtype=np.uint8)
    for k, (share, colour) in enumerate(zip(shares.tolist(), COLOURS, strict=True)):
        frame[8 + 29 * k : 8 + 29 * k + 22, 8 : 8 + round(176 * share)] = colour
    return frame


def _tell(action: int, swipes: MiniCardOutcome) -> str:
    said = f"; {ACTIONS[action]} watched {swipes.watch_s[0]:.1f} s"
    if swipes.churned[0]:
        return f"{said}, left for good"
    if swipes.left[0]:
        return f"{said}, left, back after {swipes.gap_days[0]} d"
    return said


class MiniSwipeVectorEnv(VectorEnv[Float32s | Ints, Ints, Any]):
    """n users of `env.twin.env.MiniSwipeEnv`; its data sheet holds, with the following additions.

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
        reward: MiniObjective = "watch",
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
                f"expected render_mode=None of many users, got {render_mode!r}: make one user's "
                "environment to render it"
            )
        self.num_envs = num_envs
        self.single_observation_space = observation_space(obs)
        self.single_action_space = spaces.Discrete(N_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._reward: MiniObjective = reward
        self._obs: ObsMode = obs
        self._horizon_days = horizon_days
        self._model = MiniModel.of(MiniConstants() if constants is None else constants)
        self._crowd: MiniUserBatch | None = None
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
            self._crowd = MiniUserBatch.born(self._model, first + np.arange(self.num_envs))
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
