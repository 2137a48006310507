import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from small_worlds import PRESET

from env.gym.registration import register_envs
from env.gym.swipe import SwipeEnv
from env.world.presets import NAMED

OBS = ("dict", "flat", "ids")
ACTIONS = ("next", "page", "weights")
SHIPPED = [(preset, actions) for preset in NAMED for actions in ACTIONS]
SHIPPED.remove(("kuaisim", "next"))  # its laws are of slates


@pytest.mark.parametrize("obs", OBS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_gymnasium_finds_nothing_wrong(obs: str, actions: str) -> None:
    register_envs()
    env = gymnasium.make("nextswipe/Swipe-v0", preset=PRESET, obs=obs, actions=actions)
    check_env(env.unwrapped)


@pytest.mark.parametrize("obs", OBS)
@pytest.mark.parametrize(("preset", "actions"), SHIPPED)
def test_gymnasium_finds_nothing_wrong_with_the_shipped_presets(
    preset: str, obs: str, actions: str
) -> None:
    check_env(SwipeEnv(preset=preset, obs=obs, actions=actions), skip_render_check=True)


def test_gymnasium_finds_nothing_wrong_with_a_live_supply() -> None:
    register_envs()
    env = gymnasium.make("nextswipe/Swipe-v0", preset=PRESET, supply="live", steps_per_day=2)
    check_env(env.unwrapped)


@pytest.mark.parametrize("actions", ACTIONS)
def test_copies_of_the_environment_can_be_stepped_side_by_side(actions: str) -> None:
    register_envs()
    env = gymnasium.make_vec(
        "nextswipe/Swipe-v0", 3, vectorization_mode="sync", preset=PRESET, actions=actions
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        assert env.step(env.action_space.sample())[1].shape == (3,)


def live_out(env: SwipeEnv, seed: int | None) -> tuple[float, bool, bool]:
    """Return the sum of the rewards of an episode, and how it ended."""
    env.reset(seed=seed)
    total = 0.0
    for _ in range(20_000):
        _, reward, terminated, truncated, _ = env.step(3)
        total += reward
        if terminated or truncated:
            return total, terminated, truncated
    raise AssertionError("the episode never ended")


def test_an_episode_ends_at_the_horizon_or_when_nobody_returns() -> None:
    env = SwipeEnv(preset=PRESET)
    ends = [live_out(env, seed)[1:] for seed in range(12)]
    assert all(terminated != truncated for terminated, truncated in ends)
    assert any(truncated for _, truncated in ends)


def test_the_next_episode_is_another_life_and_the_seed_brings_the_first_one_back() -> None:
    env = SwipeEnv(preset=PRESET)
    first, second = live_out(env, 1)[0], live_out(env, None)[0]
    assert first != second
    assert live_out(env, 1)[0] == first
    assert live_out(env, None)[0] == second


def test_a_step_after_the_end_is_refused() -> None:
    env = SwipeEnv(preset=PRESET)
    live_out(env, 0)
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(0)
    env.reset()
    env.step(0)


@pytest.mark.parametrize("action", [20, -1])
def test_an_illegal_action_can_be_followed_by_a_legal_one(action: int) -> None:
    env = SwipeEnv(preset=PRESET)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected candidates 0 to 19"):
        env.step(action)
    env.step(1)


def test_a_reset_without_a_seed_begins_some_life() -> None:
    env = SwipeEnv(preset=PRESET)
    observation, info = env.reset()
    assert env.observation_space.contains(observation)
    assert info == {}
