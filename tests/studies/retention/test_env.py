import msgspec
import pytest
from typer.testing import CliRunner

from env.world.presets import load
from tests.studies.commands import app
from tests.studies.retention.world_speed import EnvSize, has_recsim, lives_are_equal, run_env


def silent(step: str, done: int, total: int) -> None:
    """Take progress."""


class Ticks:
    """A steady clock that moves by itself, so that a round ends after so many steps."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


def test_speeds_are_steps_of_users_over_the_time_they_took() -> None:
    size = EnvSize(users=16, candidates=5, rounds=3, round_s=0.01, steps_compared=5)
    result = run_env(size, preset="rapid", seed=1, clock_ns=Ticks(1_000_000), advance=silent)
    # Each step of 16 users takes a tick of 1 ms of this clock; a step of RecSim's one user too.
    assert result.user_steps_per_s == pytest.approx(16_000.0)
    assert result.ids_per_s == pytest.approx(16_000.0)
    assert result.dynamics_only_per_s == pytest.approx(16_000.0)
    if has_recsim():
        assert result.recsim_ratio == pytest.approx(16.0)
        assert result.more_candidates["recsim_ratio"] == pytest.approx(16.0)
    assert result.scalar_equals_vector


def test_lives_are_compared_until_after_some_have_ended() -> None:
    short = msgspec.structs.replace(load("rapid"), horizon_days=2)
    ends: list[int] = []
    assert lives_are_equal(short, 3, 150, lambda step, done, total: ends.append(done))
    assert ends[-1] == 150


def test_the_command_says_what_it_should_show() -> None:
    printed = CliRunner().invoke(app, ["env", "--help"], env={"COLUMNS": "200"})
    assert printed.exit_code == 0
    assert "aim for recsim_ratio is 200" in " ".join(printed.output.split())
