from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from env.gym.registration import register_envs
from env.twin.env import COLOURS, MiniSwipeEnv, MiniSwipeVectorEnv
from env.twin.model import START
from env.twin.solve import MiniObjective

MINI = "nextswipe/MiniSwipe-v0"
BAIT_DIVERSE = 3


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_envs()


@pytest.mark.parametrize("obs", ["flat", "ids"])
@pytest.mark.parametrize("reward", ["watch", "days"])
def test_gymnasiums_checker_has_nothing_to_say(obs: str, reward: str) -> None:
    env = gymnasium.make(MINI, obs=obs, reward=reward, disable_env_checker=True)
    check_env(env.unwrapped)


def test_make_vec_takes_the_native_one() -> None:
    envs = gymnasium.make_vec(MINI, num_envs=3, obs="ids", render_mode=None)
    assert isinstance(envs, MiniSwipeVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    seen, _ = envs.reset(seed=0)
    assert seen in envs.observation_space
    assert seen.tolist() == [START] * 3


def test_observations_of_many_fit_their_space() -> None:
    envs = MiniSwipeVectorEnv(5)
    seen, _ = envs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert seen.dtype == np.float32
        assert seen in envs.observation_space
        seen, *_ = envs.step(rng.integers(0, 4, 5))


def test_user_i_of_many_is_the_same_whatever_the_number() -> None:
    rng = np.random.default_rng(3)
    actions = rng.integers(0, 4, (400, 4096))
    many, few = MiniSwipeVectorEnv(4096, horizon_days=9), MiniSwipeVectorEnv(3, horizon_days=9)
    many.reset(seed=0)
    few.reset(seed=1000)
    for chosen in actions:
        *outcome, info = many.step(chosen)
        *alone, told = few.step(chosen[1000:1003])
        for together, apart in zip(outcome, alone, strict=True):
            assert np.array_equal(together[1000:1003], apart)
        for name, value in told.items():
            assert np.array_equal(info[name][1000:1003], value)


def test_the_next_life_is_another_one() -> None:
    env = MiniSwipeEnv(obs="ids")

    def life() -> list[object]:
        return [env.step(BAIT_DIVERSE)[0] for _ in range(60)]

    env.reset(seed=7)
    first = life()
    env.reset()
    second = life()
    env.reset(seed=7)
    assert life() == first
    assert first != second


def test_without_a_seed_lives_differ_between_environments() -> None:
    def life() -> list[object]:
        env = MiniSwipeEnv(obs="ids")
        env.reset()
        seen: list[object] = []
        for _ in range(200):
            state, _, terminated, truncated, _ = env.step(BAIT_DIVERSE)
            seen.append(state)
            if terminated or truncated:
                break
        return seen

    assert life() != life()


@pytest.mark.parametrize("reward", ["watch", "days"])
def test_infos_add_up(reward: MiniObjective) -> None:
    envs = MiniSwipeVectorEnv(500, reward=reward)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    before = np.zeros(500, dtype=np.int64)
    over = np.zeros(500, dtype=np.bool_)
    n_churned = 0
    for _ in range(600):
        _, rewards, terminated, truncated, info = envs.step(rng.integers(0, 4, 500))
        gap, left = info["gap_days"], info["session_end"]
        assert np.array_equal(rewards, info["watch_s" if reward == "watch" else reward])
        assert ((gap > 0) <= left).all()
        assert np.array_equal(terminated, left & (gap == 0))
        assert np.array_equal(info["discount"], np.where(terminated, 0.0, 0.97**gap))
        assert np.array_equal(info["days"], np.where(gap > 0, 0.97**gap, 0.0))
        assert np.array_equal(info["day"], np.where(over, 0, before + gap))
        assert np.array_equal(truncated, info["day"] >= 60)
        assert (info["watch_s"][~over] > 0.0).all()
        assert (rewards[over] == 0.0).all()
        assert (info["discount"][over] == 1.0).all()
        assert gap.dtype == np.float64
        before, over = info["day"], terminated | truncated
        n_churned += int(terminated.sum())
    assert n_churned > 0


def test_who_returns_is_rested() -> None:
    envs = MiniSwipeVectorEnv(500, obs="ids")
    envs.reset(seed=0)
    for _ in range(100):
        seen, _, terminated, truncated, info = envs.step(np.zeros(500, dtype=np.int64))
        back = info["gap_days"] > 0
        assert (seen[back] % 16 == 0).all()
        # What nourishes loads, so within a session nobody is rested.
        within = info["watch_s"] > 0.0
        assert (seen[within & ~back] % 16 != 0).all()
        assert not (terminated & truncated).any()


def test_a_horizon_of_one_day_is_one_session() -> None:
    env = MiniSwipeEnv(horizon_days=1)
    env.reset(seed=1)
    over = False
    while not over:
        _, _, terminated, truncated, info = env.step(0)
        over = terminated or truncated
        assert over == info["session_end"]


def test_what_was_returned_does_not_change_afterwards() -> None:
    """RLlib keeps references to the arrays of earlier steps."""
    envs = MiniSwipeVectorEnv(50, obs="ids")
    kept: list[tuple[Any, Any]] = []
    seen, info = envs.reset(seed=0)
    for _ in range(200):
        arrays = (seen, *info.values())
        kept.append((arrays, [np.copy(array) for array in arrays]))
        seen, reward, terminated, truncated, info = envs.step(np.full(50, BAIT_DIVERSE))
        arrays = (reward, terminated, truncated)
        kept.append((arrays, [np.copy(array) for array in arrays]))
    for arrays, copies in kept:
        assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


def test_a_user_is_told_in_a_line() -> None:
    env = MiniSwipeEnv(render_mode="ansi")
    assert env.render() is None
    env.reset(seed=0)
    assert env.render() == (
        "day 0, card 0: satisfaction ##########.......... 0.50, satiation 0/3, load 0/3\n"
    )
    env.step(0)
    line = env.render()
    assert line is not None
    assert "day 0, card 1:" in line
    assert "satiation 1/3, load 1/3; nourish same watched 17.0 s" in line
    while not env.step(0)[-1]["session_end"]:
        pass
    assert "left, back after" in str(env.render())


def test_an_image_has_a_bar_for_each_part_of_the_state() -> None:
    env = MiniSwipeEnv(render_mode="rgb_array")
    env.reset(seed=0)
    observation = np.zeros(3)
    for _ in range(5):
        observation = np.asarray(env.step(0)[0])
        frame = np.asarray(env.render())
        assert frame.shape == (96, 192, 3)
        assert frame.dtype == np.uint8
        bars = [int((frame == colour).all(axis=2).any(axis=0).sum()) for colour in COLOURS]
        assert bars == [round(176 * share) for share in observation.tolist()]
    assert observation.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "likes"}, "reward must be one of watch, days, got 'likes'"),
        ({"obs": "dict"}, "obs must be one of flat, ids, got 'dict'"),
        ({"horizon_days": 0}, "horizon_days must be at least 1, got 0"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiniSwipeEnv(**options)
    with pytest.raises(ValueError, match=message):
        MiniSwipeVectorEnv(2, **options)


def test_wrong_use_is_refused() -> None:
    env, envs = MiniSwipeEnv(), MiniSwipeVectorEnv(2)
    for one in (env, envs):
        with pytest.raises(RuntimeError, match=r"expected reset\(\) before the first step"):
            one.step(np.array([0, 0]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be in"):
        env.reset(seed=2**62)
    env.reset(seed=0)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be in 0..3 \(nourish same.* got 4"):
        env.step(4)
    with pytest.raises(ValueError, match=r"expected one action, got \[0\]"):
        env.step([0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got -1 for user 1"):
        envs.step(np.array([0, -1]))
    with pytest.raises(ValueError, match="actions must be whole numbers, got float64"):
        envs.step(np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"actions of shape \(2,\), got \(3,\)"):
        envs.step(np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        MiniSwipeVectorEnv(0)
    with pytest.raises(ValueError, match="render_mode=None of many users, got 'ansi'"):
        MiniSwipeVectorEnv(2, render_mode="ansi")
    with pytest.raises(ValueError, match="None or one of ansi, rgb_array, got 'human'"):
        MiniSwipeEnv(render_mode="human")


def test_a_life_that_is_over_goes_no_further() -> None:
    env = MiniSwipeEnv(horizon_days=1)
    env.reset(seed=0)
    while not any(env.step(0)[2:4]):
        pass
    with pytest.raises(RuntimeError, match=r"the episode is over: expected reset\(\)"):
        env.step(0)


def test_what_is_chosen_for_a_place_whose_life_is_over_is_not_looked_at() -> None:
    envs = MiniSwipeVectorEnv(40, horizon_days=1)
    envs.reset(seed=0)
    over = np.zeros(40, dtype=np.bool_)
    n_over = 0
    for _ in range(60):
        n_over += int(over.sum())
        _, _, terminated, truncated, _ = envs.step(np.where(over, 99, 0))
        over = terminated | truncated
    assert n_over > 40
