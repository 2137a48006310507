"""The learner's process follows the experiment for the metrics, and only where there is one."""

import threading
from contextlib import closing
from pathlib import Path

import msgspec
from histories import START_MS, config_of, make_history
from waiting import wait_until

from serve.config import Experiment
from serve.jobs.arms import read_arms
from serve.monitoring.heartbeats import ARMS, ArmsHeartbeat, Heartbeats
from serve.processes.replica import LearnerReplica
from serve.store.data_folder import count_lines


def test_the_process_that_learns_tells_the_readout(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    make_history(config, rounds=range(2), publish=False)
    beats = Heartbeats(tmp_path)

    def told() -> int:
        beat = beats.read().get(ARMS)
        return beat.offset if isinstance(beat, ArmsHeartbeat) else 0

    with closing(LearnerReplica(config, now_ms=lambda: START_MS)) as replica:
        wait_until(lambda: told() == count_lines(config))
        replica.check()
    beat = beats.read()[ARMS]
    assert isinstance(beat, ArmsHeartbeat)
    assert beat.readout == read_arms(config)


def test_one_arm_is_not_followed(tmp_path: Path) -> None:
    config = msgspec.structs.replace(config_of(tmp_path), experiment=Experiment())
    make_history(config, rounds=range(1), publish=False)
    beats = Heartbeats(tmp_path)
    with closing(LearnerReplica(config, now_ms=lambda: START_MS)):
        wait_until(lambda: bool(beats.read()))
        threads = {thread.name for thread in threading.enumerate()}
    assert "learner" in threads
    assert "arms" not in threads
    assert ARMS not in beats.read()
