"""The processes of the server as plain objects: a feed replica and the learner.

Both open a data folder and work without Ray. `serve.processes.ray_app` wraps them into deployments;
tests and benchmarks open them directly. The code that opens one closes it.
"""

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread

from starlette.applications import Starlette

from serve.config import Config
from serve.feed.custom_pages import CustomPages
from serve.feed.engine import Engine
from serve.feed.pipeline import Pipeline
from serve.feed.shelf import Indexing
from serve.http.api import make_app
from serve.learn.collaborative import (
    CollaborativeTrainer,
    follow_generations,
    open_generations,
)
from serve.learn.custom import load_customs
from serve.learn.follower import Follower
from serve.learn.learner import OnlineLearner
from serve.learn.rankers import follow_rankers, open_rankers
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.monitoring.arms import ArmsFollower
from serve.monitoring.heartbeats import FeedHeartbeat, Heartbeats
from serve.monitoring.metrics import Metrics
from serve.store.open import open_store
from serve.store.store import Store
from serve.tokens import derive_key, load_secret

logger = logging.getLogger(__name__)
STOP_TIMEOUT_S = 10.0
BEAT_S = 1.0
SWITCH_S = 0.001
"""Time after which a computing thread yields to others.

The event loop and the store's writer alternate at every request, and Python's default of 5 ms is
longer than most requests take.
"""


class Background:
    """A thread that runs until told to stop, and reports its death."""

    def __init__(self, name: str, work: Callable[[Event], None]) -> None:
        self._stop = Event()
        self._error: BaseException | None = None
        self._work = work
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if the thread has ended without being told to, from the error that ended it."""
        if self._error is not None or not (self._thread.is_alive() or self._stop.is_set()):
            raise RuntimeError(f"{self._thread.name} has stopped") from self._error

    def close(self) -> None:
        """Tell it to stop and wait."""
        self._stop.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except BaseException as error:
            logger.exception("thread=%s", self._thread.name)
            self._error = error


class FeedReplica:
    """The store, the engine with its pipeline, and the followers that keep it current."""

    def __init__(self, config: Config, *, now_ms: Callable[[], int]) -> None:
        sys.setswitchinterval(SWITCH_S)
        self._store = open_store(config, now_ms)
        draw_key = derive_key(load_secret(Path(config.data.folder)), "draw")
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self._metrics, customs = Metrics(), load_customs(config)
        custom = CustomPages(config, customs, tell=self._metrics.replaced)
        self.pipeline = Pipeline(config, draw_key=draw_key, served=first, custom=custom)
        self.engine = Engine(config, self._store, self.pipeline, now_ms=now_ms)
        self._beats = Heartbeats(Path(config.data.folder))
        self._now_ms = now_ms
        self._follower = Follower(
            self._store,
            open_snapshots(config),
            vowpal_args(config),
            config.audiences,
            self.pipeline.swap,
            self.pipeline.warm,
            customs,
        )
        self._rankers = follow_rankers(self._store, open_rankers(config), self.pipeline.rank)
        self._tastes = follow_generations(
            self._store, open_generations(config), self.pipeline.collaborate
        )
        self._follower.poll()
        self._rankers.poll()
        self._tastes.poll()
        self._following = Background("follower", self._follower.run)
        self._indexing = Background("indexing", Indexing(self.pipeline).run)
        self._ranking = Background("ranker follower", self._rankers.run)
        self._collaborating = Background("collaborative follower", self._tastes.run)
        self._beating = Background("beats", self._beat_until)
        self.app: Starlette = make_app(self.engine, self._metrics, queue=config.server.queue)

    def check(self) -> None:
        """Raise if a thread has died."""
        self._following.check()
        self._indexing.check()
        self._ranking.check()
        self._collaborating.check()
        self._beating.check()

    def close(self) -> None:
        """Stop following, commit the queued writes, close the store."""
        self._following.close()
        self._indexing.close()
        self._ranking.close()
        self._collaborating.close()
        self._beating.close()
        self._store.close()

    def _beat_until(self, stop: Event) -> None:
        """Write a heartbeat every second until told to stop, and a last one then."""
        self._beat()
        while not stop.wait(BEAT_S):
            self._beat()
        self._beat()

    def _beat(self) -> None:
        self._metrics.followed(self.pipeline.served.version, self._follower.n_refused)
        self._metrics.ranked(self._rankers.version, self._rankers.n_refused)
        self._metrics.collaborated(self._tastes.version, self._tastes.n_refused)
        self._beats.write(
            self._metrics.process, FeedHeartbeat(self._now_ms(), self._metrics.families())
        )


def _learn(learner: OnlineLearner, stop: Event) -> None:
    """Learn until told to stop; a learner that was overtaken stands by until then.

    If it ended instead, it would be started again under a newer epoch than its successor's, and the
    two would take over from each other for ever.
    """
    learner.run(stop)
    stop.wait()


def _train(trainer: CollaborativeTrainer, stop: Event) -> None:
    """Train until told to stop; a trainer that was overtaken stands by, as a learner does."""
    trainer.run(stop)
    stop.wait()


def _read_arms(store: Store, config: Config, now_ms: Callable[[], int]) -> Background | None:
    """Start to follow the experiment for the metrics; None: there is none."""
    if len(config.experiment.arms) < 2:
        return None
    beats = Heartbeats(Path(config.data.folder))
    follower = ArmsFollower(store, beats, config, now_ms=now_ms, monotonic_s=time.monotonic)
    return Background("arms", follower.run)


class LearnerReplica:
    """The online learner on its own thread; a second one takes over by epoch, not by a lock."""

    def __init__(self, config: Config, *, now_ms: Callable[[], int]) -> None:
        self._store = open_store(config, now_ms)
        self._training: Background | None = None
        trainer = self._trainer(config)
        learner = OnlineLearner(
            self._store,
            open_snapshots(config),
            learning_args(config),
            now_ms=now_ms,
            monotonic_s=time.monotonic,
            publish_every_s=config.learner.publish_every_s,
            tick_after_s=None if config.clock.simulated else max(config.join.settle_ms / 1000, 1.0),
            beats=Heartbeats(Path(config.data.folder)),
            told=None if trainer is None else trainer.offer,
        )
        if trainer is not None:
            self._training = Background("collaborative", partial(_train, trainer))
        self._reading = _read_arms(self._store, config, now_ms)
        self._learning = Background("learner", partial(_learn, learner))

    def check(self) -> None:
        """Raise if learning has failed; one that was overtaken stands by and is healthy."""
        self._learning.check()
        for beside in (self._training, self._reading):
            if beside is not None:
                beside.check()

    def close(self) -> None:
        """Publish the last version and close the store."""
        self._learning.close()
        for beside in (self._training, self._reading):
            if beside is not None:
                beside.close()
        self._store.close()

    def _trainer(self, config: Config) -> CollaborativeTrainer | None:
        settings = config.collaborative
        if not settings.enabled:
            return None
        return CollaborativeTrainer(
            self._store, open_generations(config), settings, monotonic_s=time.monotonic
        )
