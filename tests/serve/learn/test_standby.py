"""Two learners that met: the overtaken one waits, and takes over when the newest is gone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from histories import config_of
from servers import START_MS
from waiting import DEADLINE_S, wait_until

from serve.clock import now_ms
from serve.config import Config
from serve.learn.standby import stand_by
from serve.monitoring.heartbeats import Heartbeats, LearnerHeartbeat
from serve.monitoring.status import SILENT_S
from serve.processes.replica import LearnerReplica
from serve.store.generations import begin_epoch
from serve.store.open import open_store
from serve.store.store import Store, write_now


@contextmanager
def waiting(store: Store, folder: Path, clock: Callable[[], float]) -> Iterator[threading.Thread]:
    """Let somebody stand by, on a clock that the test moves."""
    stop = threading.Event()
    arguments = {"monotonic_s": clock, "poll_s": 0.001}
    thread = threading.Thread(
        target=stand_by, args=(store, Heartbeats(folder), stop), kwargs=arguments
    )
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(DEADLINE_S)


class Steps:
    """A clock whose looks are counted."""

    def __init__(self) -> None:
        self.now_s, self.n = 0.0, 0

    def __call__(self) -> float:
        self.n += 1
        return self.now_s

    def wait_for_looks(self, n: int = 5) -> None:
        before = self.n
        wait_until(lambda: self.n >= before + n)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(config_of(tmp_path), lambda: START_MS) as store:
        write_now(store, begin_epoch)
        yield store


def test_it_waits_while_the_newest_learner_speaks(store: Store, tmp_path: Path) -> None:
    clock, beats = Steps(), Heartbeats(tmp_path)
    beats.write("learner-1", LearnerHeartbeat(0, 1, "learning"))
    with waiting(store, tmp_path, clock) as thread:
        for second in range(1, 40):
            beats.write("learner-1", LearnerHeartbeat(second, 1, "learning"))
            clock.now_s += 1.0
            clock.wait_for_looks()
        assert thread.is_alive()
        clock.now_s += SILENT_S + 1.0
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_it_takes_over_at_once_from_one_that_has_stopped(store: Store, tmp_path: Path) -> None:
    clock, beats = Steps(), Heartbeats(tmp_path)
    beats.write("learner-1", LearnerHeartbeat(0, 1, "learning"))
    with waiting(store, tmp_path, clock) as thread:
        clock.wait_for_looks()
        assert thread.is_alive()
        beats.write("learner-1", LearnerHeartbeat(1, 1, "stopped"))
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_an_epoch_that_never_spoke_is_waited_for_as_long(store: Store, tmp_path: Path) -> None:
    clock = Steps()
    with waiting(store, tmp_path, clock) as thread:
        clock.wait_for_looks()
        clock.now_s += SILENT_S
        clock.wait_for_looks()
        assert thread.is_alive()
        write_now(store, begin_epoch)
        clock.wait_for_looks(20)
        clock.now_s += SILENT_S
        clock.wait_for_looks()
        assert thread.is_alive(), "the second epoch has its own time"
        clock.now_s += 1.0
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_learning_goes_on_in_the_one_that_lives(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with closing(LearnerReplica(config, now_ms=now_ms)) as first:
        wait_until(lambda: state_of(config) == (1, "learning"))
        with closing(LearnerReplica(config, now_ms=now_ms)):
            wait_until(lambda: state_of(config) == (2, "learning"))
        first.check()
        wait_until(lambda: state_of(config) == (3, "learning"))
    assert state_of(config) == (3, "stopped")


def state_of(config: Config) -> tuple[int, str]:
    """Return epoch and state of the newest learner that has spoken."""
    beats = Heartbeats(Path(config.data.folder)).read().values()
    learners = [beat for beat in beats if isinstance(beat, LearnerHeartbeat)]
    newest = max(learners, key=lambda beat: beat.epoch, default=None)
    return (0, "none") if newest is None else (newest.epoch, newest.state)
