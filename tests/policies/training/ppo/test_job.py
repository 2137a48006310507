"""Trainings end to end, in the twin and small: killed and resumed, seeded, written down."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.twin.model import MiniConstants, MiniModel
from env.twin.solve import DynamicProgramme
from policies.training.ppo.job import TrainingResult, train
from policies.training.settings import RetentionArgs, TwinWorld
from policies.training.training_folder import KEPT
from serve.jobs.train_ppo import twin_pmf

ARGS = RetentionArgs(
    world=TwinWorld("watch"), seed=3, n_steps=12_288, n_envs=64, n_cards=32, epochs=1, hidden=16
)
"""Six iterations."""
CHILD = """
import sys
from pathlib import Path
import msgspec
from policies.training.settings import RetentionArgs
from policies.training.ppo.job import train
args = msgspec.json.decode(sys.argv[1], type=RetentionArgs)
train(
    args,
    folder=Path(sys.argv[2]),
    checkpoint_every=1,
    advance=lambda progress: print("iteration", progress.iteration, flush=True),
)
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many


def test_a_training_that_was_killed_and_resumed_is_the_one_that_never_was(
    tmp_path: Path,
) -> None:
    killed_at = random.Random(5).randint(3, ARGS.n_iterations - 1)
    _train_and_kill(tmp_path, killed_at)
    iterations: list[int] = []
    resumed = train(
        ARGS, folder=tmp_path, checkpoint_every=1, advance=lambda p: iterations.append(p.iteration)
    )
    assert 1 < iterations[0] <= killed_at + 1
    assert iterations[-1] == ARGS.n_iterations
    assert len(list(tmp_path.glob("checkpoint-*"))) == KEPT
    assert list((tmp_path / "events").glob("events.out.tfevents.*"))
    straight = train(ARGS)
    # It goes on with the same lives and draws; what is asked for is 1% of the value.
    np.testing.assert_allclose(twin_pmf(resumed), twin_pmf(straight), atol=1e-6)
    assert _value(resumed) == pytest.approx(_value(straight), rel=0.01)


def test_a_folder_of_other_arguments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_bytes(msgspec.json.encode(ARGS))
    with pytest.raises(ValueError, match="training of other arguments \\(seed 3, not 4\\)"):
        train(msgspec.structs.replace(ARGS, seed=4), folder=tmp_path)


def _train_and_kill(folder: Path, killed_at: int) -> None:
    """Train in a process that is killed as soon as it has told of an iteration."""
    command = [sys.executable, "-c", CHILD, msgspec.json.encode(ARGS).decode(), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == f"iteration {killed_at}\n":
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL


def _value(trained: TrainingResult) -> float:
    return DynamicProgramme.of(MiniModel.of(MiniConstants())).value(twin_pmf(trained), "watch")
