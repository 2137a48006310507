import subprocess
import sys

import gymnasium
import pytest

from env.gym.registration import ENVS, register_envs

MAKE = """
import gymnasium
gymnasium.make("env.gym.registration:{env_id}", {arguments}).reset(seed=0)
gymnasium.make_vec("env.gym.registration:{env_id}", num_envs=2, {arguments}).reset(seed=0)
"""
LIGHT = """
import sys
import gymnasium
before = set(sys.modules)
import env.gym.registration
loaded = {name for name in set(sys.modules) - before if not name.startswith("gymnasium")}
assert loaded <= {"env", "env.gym", "env.gym.registration"}, loaded
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [("nextswipe/Swipe-v0", 'preset="rapid"'), ("nextswipe/MiniSwipe-v0", "")],
)
def test_an_environment_is_made_without_an_import_of_ours(env_id: str, arguments: str) -> None:
    run(MAKE.format(env_id=env_id, arguments=arguments))


def test_registering_imports_none_of_the_environments() -> None:
    run(LIGHT)


def test_both_ways_of_making_are_registered_once() -> None:
    register_envs()
    register_envs()
    for env_id in ENVS:
        spec = gymnasium.spec(env_id)
        assert spec.entry_point
        assert spec.vector_entry_point
        assert spec.max_episode_steps is None
