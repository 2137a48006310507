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

from serve.access.callers import KeyRing
from serve.access.exposure import allowed_hosts, asks_always
from serve.config import Config
from serve.content.embedding import Embedder
from serve.content.hook import HookArgs
from serve.content.titles import configured_titles
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
from serve.learn.fold import LearnerState
from serve.learn.follower import Follower
from serve.learn.learner import OnlineLearner
from serve.learn.projections import ProjectionTrainer
from serve.learn.rankers import follow_rankers, open_rankers
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.learn.standby import stand_by
from serve.monitoring.arms import ArmsFollower
from serve.monitoring.heartbeats import FeedHeartbeat, Heartbeats
from serve.monitoring.metrics import Metrics
from serve.monitoring.status import SILENT_S
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
        secret, always = load_secret(Path(config.data.folder)), asks_always(config.server)
        keys = KeyRing(self._store, secret, now_ms=now_ms, always=always)
        self._keeping = Background("keys", keys.run)
        self._beating = Background("beats", self._beat_until)
        self.app: Starlette = make_app(
            self.engine,
            keys,
            self._metrics,
            queue=config.server.queue,
            origins=config.server.origins,
            hosts=allowed_hosts(config.server),
        )

    def check(self) -> None:
        """Raise if a thread has died."""
        self._following.check()
        self._indexing.check()
        self._ranking.check()
        self._collaborating.check()
        self._keeping.check()
        self._beating.check()

    def close(self) -> None:
        """Stop following, commit the queued writes, close the store."""
        self._following.close()
        self._indexing.close()
        self._ranking.close()
        self._collaborating.close()
        self._keeping.close()
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


def _read_arms(store: Store, config: Config, now_ms: Callable[[], int]) -> Background | None:
    """Start to follow the experiment for the metrics; None: there is none."""
    if len(config.experiment.arms) < 2:
        return None
    beats = Heartbeats(Path(config.data.folder))
    follower = ArmsFollower(store, beats, config, now_ms=now_ms, monotonic_s=time.monotonic)
    return Background("arms", follower.run)


class LearnerReplica:
    """The online learner, and what trains and embeds beside it, each on its own thread.

    Item factors and projections are trained and uploads embedded here, since there is one learner
    and no request waits for it.

    A second learner takes over by epoch, not by a lock. The one that was overtaken stands by and
    takes over again when its successor is gone, under an epoch of its own.
    """

    def __init__(
        self, config: Config, *, now_ms: Callable[[], int], silent_s: float = SILENT_S
    ) -> None:
        """Begin to learn.

        Args:
            config: the settings.
            now_ms: the wall clock.
            silent_s: seconds without a sign of life after which a successor counts as gone.
        """
        self._config, self._now_ms, self._silent_s = config, now_ms, silent_s
        self._store = open_store(config, now_ms)
        self._beats = Heartbeats(Path(config.data.folder))
        self._trainer: CollaborativeTrainer | None = None
        self._training: Background | None = None
        titles = configured_titles(config)
        self._projections = ProjectionTrainer(self._store, titles=titles, now_ms=now_ms)
        self._projecting = Background("projections", self._projections.run)
        args = HookArgs.of(config)
        self._embedder: Embedder | None = None
        self._embedding: Background | None = None
        if args is not None:
            self._embedder = Embedder(self._store, args, now_ms=now_ms, titles=titles)
            self._embedding = Background("embedding", self._embedder.run)
        self._reading = _read_arms(self._store, config, now_ms)
        self._learning = Background("learner", partial(self._learn, self._begin()))

    def _begin(self) -> OnlineLearner:
        """Take the next epoch of learning, and then of training."""
        config = self._config
        learner = OnlineLearner(
            self._store,
            open_snapshots(config),
            learning_args(config),
            now_ms=self._now_ms,
            monotonic_s=time.monotonic,
            publish_every_s=config.learner.publish_every_s,
            tick_after_s=None if config.clock.simulated else max(config.join.settle_ms / 1000, 1.0),
            beats=self._beats,
            told=(self._tell,),
            embedding=None if self._embedder is None else self._embedder.counts,
            corrects_ms=config.join.corrects_ms,
        )
        logger.info("learning epoch=%d from offset=%d", learner.epoch, learner.learning.offset)
        if config.collaborative.enabled:
            self._trainer = CollaborativeTrainer(
                self._store,
                open_generations(config),
                config.collaborative,
                monotonic_s=time.monotonic,
            )
            self._training = Background("collaborative", partial(_train, self._trainer))
        return learner

    def _learn(self, learner: OnlineLearner, stop: Event) -> None:
        """Learn until told to stop; while a newer learner lives, stand by."""
        while True:
            learner.run(stop)
            if stop.is_set():
                return
            self._end_training()
            stand_by(
                self._store, self._beats, stop, monotonic_s=time.monotonic, silent_s=self._silent_s
            )
            if stop.is_set():
                return
            learner = self._begin()

    def _tell(self, learning: LearnerState) -> None:
        self._projections.offer(learning)
        if self._trainer is not None:
            self._trainer.offer(learning)

    def _end_training(self) -> None:
        if self._training is not None:
            self._training.close()
        self._trainer, self._training = None, None

    def check(self) -> None:
        """Raise if learning has failed; one that was overtaken stands by and is healthy."""
        self._learning.check()
        self._projecting.check()
        for beside in (self._training, self._embedding, self._reading):
            if beside is not None:
                beside.check()

    def close(self) -> None:
        """Publish the last version and close the store."""
        self._learning.close()
        self._projecting.close()
        for beside in (self._embedding, self._reading):
            if beside is not None:
                beside.close()
        self._end_training()
        self._store.close()


def _train(trainer: CollaborativeTrainer, stop: Event) -> None:
    """Train until told to stop; a trainer that was overtaken waits for its learner to notice."""
    trainer.run(stop)
    stop.wait()
