"""A server in this process: the real engine, store, learner and followers, without HTTP or Ray.

It answers the requests of `serve.swarm`. The learner and the followers run between two windows of
the swarm, and their clock is that of the simulated world, so that a second of the world publishes
as many versions as a second of a real server would. Differences from a served feed:
`docs/decisions/bench-loop.md`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.config import Config
from serve.feed.engine import Engine
from serve.feed.pipeline import Pipeline
from serve.learn.collaborative import CollaborativeTrainer, follow_generations, open_generations
from serve.learn.follower import Follower
from serve.learn.learner import OnlineLearner
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.store.data_folder import open_data
from serve.store.store import Store
from serve.tokens import derive_key, load_secret
from serve.wire.feed import FeedbackRequest, FeedbackResponse, FeedRequest, FeedResponse

LEARN_EVERY_MS = 5_000
"""Simulated time between two steps of the learner; a real one is at most as far behind."""

RESUMABLE_SHARE = 0.001
"""Versions to resume from are rare: nothing is resumed here, and an hour passes in a minute."""


class InProcessFeed:
    """The parts of a server on one store; `serve.swarm.swarm.FeedServer` with a clock of its own.

    Attributes:
        clock_ms: the simulated time, moved by `advance`.
    """

    def __init__(self, config: Config, store: Store, clock_ms: int) -> None:
        """Begin to serve and to learn from a store, which its owner closes."""
        self.clock_ms = self._learns_ms = clock_ms
        self._moved_s = time.perf_counter()
        key = derive_key(load_secret(Path(config.data.folder)), "draw")
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self.pipeline = Pipeline(config, draw_key=key, served=first)
        self._engine = Engine(config, store, self.pipeline, now_ms=lambda: self.clock_ms)
        self._trainer = _trainer(config, store, self._clock_s)
        self.learner = OnlineLearner(
            store,
            open_snapshots(config),
            learning_args(config),
            now_ms=lambda: self.clock_ms,
            monotonic_s=self._clock_s,
            publish_every_s=config.learner.publish_every_s,
            resumable_share=RESUMABLE_SHARE,
            tick_after_s=None,
            told=() if self._trainer is None else (self._trainer.offer,),
            corrects_ms=config.join.corrects_ms,
        )
        self._versions = Follower(
            store,
            open_snapshots(config),
            vowpal_args(config),
            config.audiences,
            self.pipeline.swap,
            self.pipeline.warm,
        )
        generations = open_generations(config)
        self._tastes = follow_generations(store, generations, self.pipeline.collaborate)

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page."""
        return await self._engine.feed(request)

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Accept events."""
        return await self._engine.feedback(request)

    def advance(self, clock_ms: int) -> None:
        """Move the clock; now and then, learn what is new in the log and serve the outcome."""
        self.clock_ms, self._moved_s = clock_ms, time.perf_counter()
        if clock_ms >= self._learns_ms:
            self._learns_ms = clock_ms + LEARN_EVERY_MS
            self.learn()

    def learn(self) -> None:
        """Learn all that is in the log, publish what is due, and serve it."""
        while self.learner.step():
            pass
        if self._trainer is not None:
            self._trainer.train()
        self._versions.poll()
        self._tastes.poll()

    def _clock_s(self) -> float:
        """Return the simulated time; what is done within a call takes the time that it takes."""
        return self.clock_ms / 1000.0 + time.perf_counter() - self._moved_s


@contextmanager
def serving_in_process(config: Config, clock_ms: int) -> Iterator[InProcessFeed]:
    """Serve a data folder in this process; publish what was learned at the end.

    Args:
        config: its clock must be simulated.
        clock_ms: the simulated time now.
    """
    with open_data(config, now_ms=lambda: clock_ms) as store:
        server = InProcessFeed(config, store, clock_ms)
        yield server
        server.learner.publish_if_due(force=True)


def _trainer(
    config: Config, store: Store, clock_s: Callable[[], float]
) -> CollaborativeTrainer | None:
    if not config.collaborative.enabled:
        return None
    return CollaborativeTrainer(
        store, open_generations(config), config.collaborative, monotonic_s=clock_s
    )
