"""What one page costs without HTTP: 10 cards out of 100 candidates, and where the time goes.

People, items and model are not blank: some hundred pages are swiped in memory first and learned
from, through the same folds as in the server. Then pages are drawn for these people and timed as a
whole and by step. The scoring stage is set against Vowpal Wabbit's own text parser on the shortest
text that carries the same features, in the same run: what a page would pay, before any scoring,
if it spoke text to VW.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np

from env import generated, responses, user_fold, users
from env.blocks import Blocks, decisions_of
from env.content import static_block
from env.records import (
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    LogLine,
    PageRecord,
    pack_halves,
)
from env.users import UserState
from env.viewer import Viewer, people
from env.vocabulary import Context, PageId, SessionId, UserKey
from env.world import make_world
from policies.vowpal import features_text, text_parser
from serve.config import Config
from serve.follower import Served, untrained
from serve.learning import Learning
from serve.pipeline import Pipeline
from serve.replica import learning_args, vowpal_args
from serve.stopwatch import Stopwatch
from serve.wire import FeedRequest

Advance = Callable[[str, int, int], None]
T = TypeVar("T")

N_PEOPLE = 100
N_WARM_PAGES = 500
N_TEXT_PAGES = 200
CARD_MS = 20_000


class DecideResult(msgspec.Struct, frozen=True):
    """What a page costs.

    Attributes:
        stages: share of each step in the whole; `fill` is scoring, exploring and drawing.
        score_us: the policy's scores of a page's candidates, median.
        text_us: VW's text parser on the same features, median.
        ratio_to_text: text_us / score_us.
    """

    items: int
    pages: int
    candidates: int
    seed: int
    page_p50_ms: float
    page_p99_ms: float
    stages: dict[str, float]
    score_us: float
    text_us: float
    ratio_to_text: float


def run_decide(
    *,
    n_items: int,
    n_pages: int,
    seed: int,
    now_ms: int,
    clock_ns: Callable[[], int],
    advance: Advance,
    n_warm_pages: int = N_WARM_PAGES,
) -> DecideResult:
    """Swipe to warm up, then time pages.

    Args:
        n_items: in the generated catalogue.
        n_pages: timed.
        seed: of catalogue, people and choices.
        now_ms: the wall clock.
        clock_ns: a steady clock.
        advance: told of progress.
        n_warm_pages: swiped before.
    """
    config = Config()
    room = _Room.of(config, n_items, seed, now_ms)
    for k in range(n_warm_pages):
        room.swipe_page(k)
        advance("warm up", k + 1, n_warm_pages)
    learning = room.learning
    served = Served(learning.policy.frozen(1), learning.states, learning.audiences, 1)
    room.pipeline.swap(served)
    stopwatch = Stopwatch(clock_ns)
    spent_ns: list[int] = []
    contexts: list[Context] = []
    for k in range(n_pages):
        stopwatch.start()
        began_ns = clock_ns()
        page = room.draw_page(k, f"timed-{k}", stopwatch)
        spent_ns.append(clock_ns() - began_ns)
        if len(contexts) < N_TEXT_PAGES:
            contexts.append(room.context_of(page))
        advance("pages", k + 1, n_pages)
    score_us = _median_us(clock_ns, room.pipeline.served.policy.score, contexts)
    parse = text_parser(config.learner.bits)
    texts = [features_text(c.features) for c in contexts]
    text_us = _median_us(clock_ns, parse, texts)
    p50, p99 = np.percentile(np.array(spent_ns) / 1e6, [50, 99])
    return DecideResult(
        items=n_items,
        pages=n_pages,
        candidates=config.feed.candidates,
        seed=seed,
        page_p50_ms=float(p50),
        page_p99_ms=float(p99),
        stages={step: round(share, 4) for step, share in stopwatch.shares().items()},
        score_us=score_us,
        text_us=text_us,
        ratio_to_text=text_us / score_us,
    )


@dataclass
class _Room:
    """A server's parts in memory, with people in front of them."""

    pipeline: Pipeline
    learning: Learning
    blocks: Blocks
    viewers: list[Viewer]
    states: list[UserState]
    rng: np.random.Generator
    now_ms: int
    n_lines: int = 0

    @classmethod
    def of(cls, config: Config, n_items: int, seed: int, now_ms: int) -> "_Room":
        items = generated.catalogue(seed, n_items, now_ms)
        crowd = generated.people(seed, N_PEOPLE, now_ms)
        room = cls(
            pipeline=Pipeline(config, draw_key=b"bench", served=untrained(vowpal_args(config))),
            learning=Learning(learning_args(config)),
            blocks=Blocks(),
            viewers=people(make_world(responses.generated(), items, seed), crowd),
            states=[users.newcomer(profile) for _, profile in crowd],
            rng=np.random.default_rng(seed),
            now_ms=now_ms,
        )
        for item in items:
            record = ItemRecord(item.item_id, now_ms, item, pack_halves(static_block(item)))
            room.pipeline.catalogue.apply(record)
            room.blocks.fold(record)
        return room

    def draw_page(self, k: int, page_id: str, stopwatch: Stopwatch | None = None) -> PageRecord:
        """Draw a page for the next person in turn."""
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

    def swipe_page(self, k: int) -> None:
        """Draw a page, let its person answer every card, and fold what comes of it."""
        who, page = k % N_PEOPLE, self.draw_page(k, f"warm-{k}")
        self._fold(who, page)
        for decision in decisions_of(page):
            self.now_ms += CARD_MS // N_PEOPLE
            answer = self.viewers[who].answer(decision.item_id, self.rng)
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
                self._fold(who, event)

    def context_of(self, page: PageRecord) -> Context:
        """Return what a page was drawn on."""
        return self.blocks.page(page).context

    def _fold(self, who: int, record: PageRecord | FeedbackRecord) -> None:
        self.n_lines += 1
        self.states[who] = user_fold.fold(self.states[who], record) or self.states[who]
        self.learning.fold([LogLine(self.n_lines, record)])


def _median_us(
    clock_ns: Callable[[], int], work: Callable[[T], object], inputs: Sequence[T]
) -> float:
    """Return the median time of some work on each of its inputs."""
    spent_ns = []
    for value in inputs:
        began_ns = clock_ns()
        work(value)
        spent_ns.append(clock_ns() - began_ns)
    return float(np.median(spent_ns)) / 1e3
