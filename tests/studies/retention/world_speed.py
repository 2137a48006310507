"""How fast the simulated world is, beside RecSim's interest evolution in the same run.

Both answer the same question as often as they can: a user has seen a card, who has which
candidates now? Ours steps a vector of users on one core and writes the whole observation of K
candidates; RecSim (Ie et al., arXiv 1909.04847; here without TensorFlow) steps one user, for it
has no vector form, and writes its observation of as many documents. Rounds of the two alternate,
so that a machine that slows down slows both; of each the median round counts.

Rejected: many RecSim environments in a `SyncVectorEnv` (a loop over them: no faster), and more
processes for either (the figure is of one core).
"""

import contextlib
import io
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from env.gym.observation import ObsMode
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.world.presets import Preset

Advance = Callable[[str, int, int], None]
Clock = Callable[[], int]
MORE_CANDIDATES = 100
N_LIVES = 8


class EnvSize(msgspec.Struct, frozen=True):
    """How much is measured.

    Attributes:
        users: in the vector.
        candidates: K.
        rounds: of each side; the median counts.
        round_s: shortest length of a round.
        steps_compared: of the scalar environment against its place in a vector.
    """

    users: int = 2_048
    candidates: int = 20
    rounds: int = 5
    round_s: float = 2.0
    steps_compared: int = 400


class EnvResult(msgspec.Struct, frozen=True):
    """What was measured, in steps of one user a second on one core.

    Attributes:
        user_steps_per_s: with the full observation.
        ids_per_s: with the candidates' ids only.
        dynamics_only_per_s: answers, moods, departures and returns, without candidates or
            observation.
        recsim_per_s: RecSim with as many candidates.
        recsim_ratio: user_steps_per_s / recsim_per_s.
        recsim_ratio_ids: ids_per_s / recsim_per_s.
        more_candidates: `user_steps_per_s`, `recsim_per_s` and their ratio with 100 candidates.
        scalar_equals_vector: lives in the scalar environment were those in the vector, bit for bit.
    """

    preset: str
    size: EnvSize
    seed: int
    n_dims: int
    user_steps_per_s: float
    ids_per_s: float
    dynamics_only_per_s: float
    recsim_per_s: float | None
    recsim_ratio: float | None
    recsim_ratio_ids: float | None
    more_candidates: dict[str, float]
    scalar_equals_vector: bool


def run_env(
    size: EnvSize, *, preset: str, seed: int, clock_ns: Clock, advance: Advance
) -> EnvResult:
    """Measure.

    Args:
        size: how much.
        preset: of the world, by name or path.
        seed: of users and choices.
        clock_ns: a steady clock.
        advance: told of progress.
    """
    sides: dict[str, Callable[[], int]] = {
        "full": _steps_of(_vector(size, preset, "dict", size.candidates), seed),
        "ids": _steps_of(_vector(size, preset, "ids", size.candidates), seed),
        "dynamics": _swipes_of(_vector(size, preset, "ids", size.candidates), seed),
        "full, more": _steps_of(_vector(size, preset, "dict", MORE_CANDIDATES), seed),
    }
    if has_recsim():
        sides["recsim"] = _recsim(size.candidates, seed)
        sides["recsim, more"] = _recsim(MORE_CANDIDATES, seed)
    speed = _median_speeds(sides, size, clock_ns, advance)
    recsim, more = speed.get("recsim"), {"user_steps_per_s": speed["full, more"]}
    if "recsim, more" in speed:
        more["recsim_per_s"] = speed["recsim, more"]
        more["recsim_ratio"] = speed["full, more"] / speed["recsim, more"]
    world = _vector(size, preset, "dict", size.candidates)
    return EnvResult(
        preset=preset,
        size=size,
        seed=seed,
        n_dims=world.swiping.stock.n_dims,
        user_steps_per_s=speed["full"],
        ids_per_s=speed["ids"],
        dynamics_only_per_s=speed["dynamics"],
        recsim_per_s=recsim,
        recsim_ratio=None if recsim is None else speed["full"] / recsim,
        recsim_ratio_ids=None if recsim is None else speed["ids"] / recsim,
        more_candidates=more,
        scalar_equals_vector=lives_are_equal(preset, seed, size.steps_compared, advance),
    )


def has_recsim() -> bool:
    """Return whether RecSim is installed: the extra `bench`."""
    from importlib.util import find_spec

    return find_spec("recsim") is not None


def lives_are_equal(preset: str | Preset, seed: int, n_steps: int, advance: Advance) -> bool:
    """Return whether lives in the scalar environment are those of a vector, bit for bit.

    Args:
        preset: of the world.
        seed: of the first life; each next one has the next seed.
        n_steps: of each.
        advance: told of progress.
    """
    crowd = SwipeVectorEnv(N_LIVES, preset=preset)
    alone = [SwipeEnv(preset=preset) for _ in range(N_LIVES)]
    together, _ = crowd.reset(seed=seed)
    apart = [env.reset(seed=seed + i)[0] for i, env in enumerate(alone)]
    rng = np.random.default_rng(seed)
    for k in range(n_steps):
        if not all(_same(together, one, i) for i, one in enumerate(apart)):
            return False
        actions = rng.integers(crowd.swiping.settings.n_candidates, size=N_LIVES)
        was_over = crowd.swiping.over.copy()
        together, reward, terminated, truncated, info = crowd.step(actions)
        for i, env in enumerate(alone):
            if was_over[i]:
                apart[i] = env.reset()[0]
                continue
            apart[i], own, ended, cut, own_info = env.step(actions[i])
            said = all(np.array_equal(value[i], own_info[name]) for name, value in info.items())
            if not said or (own, ended, cut) != (reward[i], terminated[i], truncated[i]):
                return False
        advance("scalar and vector", k + 1, n_steps)
    return True


def _same(together: Any, one: Any, place: int) -> bool:
    return all(np.array_equal(together[name][place], one[name]) for name in together)


def _vector(size: EnvSize, preset: str, obs: ObsMode, n_candidates: int) -> SwipeVectorEnv:
    return SwipeVectorEnv(size.users, preset=preset, obs=obs, n_candidates=n_candidates, copy=False)


def _steps_of(env: SwipeVectorEnv, seed: int) -> Callable[[], int]:
    """Return what makes one step of a vector, and returns how many users made it."""
    env.reset(seed=seed)
    actions = _actions(env, seed)
    turn = itertools.cycle(range(len(actions)))

    def step() -> int:
        env.step(actions[next(turn)])
        return env.num_envs

    return step


def _swipes_of(env: SwipeVectorEnv, seed: int) -> Callable[[], int]:
    """Return what lets the crowd swipe, leave and come back, whatever is shown."""
    env.reset(seed=seed)
    crowd, stock = env.swiping.crowd, env.swiping.stock
    rng = np.random.default_rng(seed)
    rows = rng.integers(stock.n, size=(64, env.num_envs))
    turn = itertools.cycle(range(len(rows)))

    def swipe() -> int:
        swiped = crowd.swipe(stock, rows[next(turn)])
        crowd.part(np.flatnonzero(swiped.leaves))
        return env.num_envs

    return swipe


def _actions(env: SwipeVectorEnv, seed: int) -> Any:
    """Return some turns of random actions, drawn before they are timed."""
    rng = np.random.default_rng(seed)
    return rng.integers(env.swiping.settings.n_candidates, size=(64, env.num_envs))


def _recsim(n_candidates: int, seed: int) -> Callable[[], int]:
    """Return what makes one step of RecSim's interest evolution, one document a step."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # of gym, which RecSim still imports, and which prints more
        from recsim.environments import interest_evolution

        env = interest_evolution.create_environment(
            {
                "num_candidates": n_candidates,
                "slate_size": 1,
                "resample_documents": True,
                "seed": seed,
            }
        )
    env.reset()
    rng = np.random.default_rng(seed)
    slates = rng.integers(n_candidates, size=(64, 1)).tolist()
    turn = itertools.cycle(range(len(slates)))

    def step() -> int:
        *_, is_over, _ = env.step(slates[next(turn)])
        if is_over:
            env.reset()
        return 1

    return step


def _median_speeds(
    sides: dict[str, Callable[[], int]], size: EnvSize, clock_ns: Clock, advance: Advance
) -> dict[str, float]:
    """Return the median speed of each side over rounds that take turns."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for name, step in sides.items():
        _time(step, size.round_s / 4, clock_ns)  # warm up
        advance("rounds", 0, size.rounds)
        speeds[name] = []
    for k in range(size.rounds):
        for name, step in sides.items():
            speeds[name].append(_time(step, size.round_s, clock_ns))
        advance("rounds", k + 1, size.rounds)
    return {name: float(np.median(of_rounds)) for name, of_rounds in speeds.items()}


def _time(step: Callable[[], int], round_s: float, clock_ns: Clock) -> float:
    """Return steps a second over a round."""
    began_ns, n_steps = clock_ns(), 0
    while True:
        n_steps += step()
        spent_ns = clock_ns() - began_ns
        if spent_ns >= round_s * 1e9:
            return n_steps / (spent_ns / 1e9)
