"""A server's parts in memory with simulated users, to time work that needs no HTTP."""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from env.pages.records import Blocks, decisions_of
from env.records import FeedbackKind, FeedbackRecord, ItemRecord, LogLine, PageRecord
from env.users import fold as user_fold
from env.users import state as user_state
from env.users.state import UserState
from env.vocabulary import Context, PageId, SessionId, UserKey
from env.world import generated, responses
from env.world.user import SimulatedUser, simulated_users
from env.world.world import make_world
from policies.collaborative.apps import fit_apps
from policies.collaborative.fit import FitArgs, fit
from policies.collaborative.users import UserColumns
from serve.bench.embedded import EmbeddingGenerator
from serve.config import Config
from serve.feed.pipeline import Pipeline, Stopwatch
from serve.learn.collaborative import Generation
from serve.learn.fold import LearnerState
from serve.learn.served import ServingModel, initial_serving_model
from serve.learn.settings import learning_args, vowpal_args
from serve.wire.feed import FeedRequest


def rss_bytes() -> int:
    """Return the resident bytes now, or their peak where the system gives no current value."""
    told = Path("/proc/self/statm")
    if told.exists():
        return int(told.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


Clock = Callable[[], int]
"""A monotonic clock, nanoseconds."""

T = TypeVar("T")


def timed(call: Callable[[], T], clock_ns: Clock) -> tuple[T, float]:
    """Return a call's result and its seconds."""
    began_ns = clock_ns()
    returned = call()
    return returned, (clock_ns() - began_ns) / 1e9


def median_seconds(call: Callable[[], object], rounds: int, clock_ns: Clock) -> float:
    """Return the median seconds of a call over rounds."""
    return float(np.median([timed(call, clock_ns)[1] for _ in range(rounds)]))


Advance = Callable[[str, int, int], None]
N_PEOPLE = 100
N_WORLD_ITEMS = 10_000
"""Items with simulated responses; a further item is answered as one of these."""

CARD_MS = 20_000
PER_USER = 100
"""Answers of a user that item factors are learned from."""


@dataclass
class InProcessServer:
    """A server's parts in memory, with simulated users."""

    pipeline: Pipeline
    learning: LearnerState
    blocks: Blocks
    users: list[SimulatedUser]
    states: list[UserState]
    rng: np.random.Generator
    now_ms: int
    resident: int
    memory: dict[str, int]
    n_lines: int = 0

    @classmethod
    def of(
        cls, config: Config, n_items: int, seed: int, now_ms: int, advance: Advance
    ) -> "InProcessServer":
        """Return a room with the items in the catalogue and users who have not swiped yet."""
        crowd = generated.users(seed, N_PEOPLE, now_ms)
        resident = rss_bytes()
        pipeline = Pipeline(
            config, draw_key=b"bench", served=initial_serving_model(vowpal_args(config))
        )
        embedded = EmbeddingGenerator(seed)
        for k, record in enumerate(embedded.records(n_items, now_ms)):
            pipeline.catalogue.apply(record)
            if k % 10_000 == 0:
                advance("items", k, n_items)
        room = cls(
            pipeline=pipeline,
            learning=LearnerState(learning_args(config)),
            blocks=Blocks(),
            users=[],
            states=[user_state.newcomer(profile) for _, profile in crowd],
            rng=np.random.default_rng(seed),
            now_ms=now_ms,
            resident=resident,
            memory={},
        )
        room.memory["catalogue"] = room.grown_by()
        known = [pipeline.catalogue.item(k) for k in range(min(n_items, N_WORLD_ITEMS))]
        room.users = simulated_users(make_world(responses.generated(), known, seed), crowd)
        room.grown_by()
        return room

    def grown_by(self) -> int:
        """Return the growth of this process in bytes since the last call."""
        before, self.resident = self.resident, rss_bytes()
        return self.resident - before

    def warm_up(self, n_pages: int, advance: Advance) -> None:
        """Swipe some pages, then serve the model and the item factors learned from them."""
        for k in range(n_pages):
            self.swipe_page(k)
            advance("warm up", k + 1, n_pages)
        learning = self.learning
        policy = learning.policy.frozen(1)
        served = ServingModel(policy, learning.states, learning.audiences, 1)
        self.pipeline.warm(served)
        self.pipeline.swap(served)
        if learning.window is not None:
            users = UserColumns.of(self.states)
            factors = fit(learning.window.answers(PER_USER), FitArgs(), 1)
            self.pipeline.collaborate(Generation(factors, fit_apps(users.devices)))

    def draw_page(self, k: int, page_id: str, stopwatch: Stopwatch | None = None) -> PageRecord:
        """Draw a page for the next user in turn."""
        who = k % N_PEOPLE
        page = self.pipeline.page(
            FeedRequest(user_id=str(who)),
            UserKey(str(who)),
            self.states[who],
            session=SessionId("s"),
            page_id=PageId(page_id),
            now_ms=self.now_ms,
            stopwatch=stopwatch,
        )
        if page is None:
            raise RuntimeError("expected a page from a full catalogue, got none")
        return page

    def swipe_page(self, k: int) -> list[LogLine]:
        """Draw a page, simulate the user's answers, fold them, and return the log lines."""
        who, page = k % N_PEOPLE, self.draw_page(k, f"warm-{k}")
        lines = [self._fold(who, page)]
        for decision in decisions_of(page):
            self.now_ms += CARD_MS // N_PEOPLE
            k_item = self.pipeline.catalogue.index_of(decision.item_id) or 0
            known = self.pipeline.catalogue.ids[k_item % N_WORLD_ITEMS]
            answer = self.users[who].answer(known, self.rng)
            said: tuple[tuple[FeedbackKind, float], ...] = (
                ("impression", 0.0),
                ("dwell", answer.dwell_s),
                ("leave", 0.0),
            )
            for kind, value in said:
                event = FeedbackRecord(
                    event_id=f"{kind}-{decision.slot}",
                    decision_id=decision.decision_id,
                    at_ms=self.now_ms,
                    user=page.user,
                    session=page.session,
                    kind=kind,
                    value=value,
                )
                lines.append(self._fold(who, event))
        self.learning.fold(lines)
        return lines

    def context_of(self, page: PageRecord) -> Context:
        """Return the context that a page was drawn in."""
        catalogue = self.pipeline.catalogue
        for item_id in page.candidates:
            k = catalogue.index_of(item_id) or 0
            block = catalogue.block(k)
            self.blocks.fold(ItemRecord(item_id, self.now_ms, catalogue.item(k), block))
        return self.blocks.page(page).context

    def _fold(self, who: int, record: PageRecord | FeedbackRecord) -> LogLine:
        self.n_lines += 1
        self.states[who] = user_fold.fold(self.states[who], record) or self.states[who]
        return LogLine(self.n_lines, record)
