"""What one page costs without HTTP: 10 cards out of 200 candidates, and where the time goes.

People, items and model are not blank: some hundred pages are swiped in memory first and learned
from, through the same folds as in the server. Then pages are drawn for these people and timed as a
whole and by step; again while another index is made on its own thread, as in a server; and again
among 10,000 items, for what size costs. The scoring stage is set against Vowpal Wabbit's own text
parser on the shortest text that carries the same features, in the same run: what a page would pay,
before any scoring, if it spoke text to VW.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

import msgspec
import numpy as np

from env import generated, responses, user_fold, users
from env.blocks import Blocks, decisions_of
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
from policies.cells import LEAST_ITEMS
from policies.vowpal import features_text, text_parser
from serve.bench.embedded import Embedded
from serve.bench.recall import measure_recall
from serve.bench.resident import resident_bytes
from serve.bench.upload_seen import measure_uploads
from serve.config import Config
from serve.follower import Served, untrained
from serve.indexing import Indexing
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
N_WORLD_ITEMS = 10_000
"""Items whose answers are simulated; further ones are answered as one of these."""
CARD_MS = 20_000
BASE_ITEMS = 10_000


class PagesTimed(msgspec.Struct, frozen=True):
    """What pages cost, in ms."""

    p50_ms: float
    p99_ms: float


class DecideResult(msgspec.Struct, frozen=True):
    """What a page costs.

    Attributes:
        growth: page_p50_ms by that of a catalogue of 10,000 items, in the same run.
        while_indexing: pages that are drawn while another index is made; None without an index.
        stages: share of each step in the whole; `fill` is scoring, exploring and drawing.
        recall_at_200: of each interest, what part of the 200 best matches was found.
        upload_visible_s: from an upload to a page's candidates with it, by interest alone; the
            longest of some.
        index_s: the time that an index took, beside nothing else.
        bytes_per_item: resident memory by part: catalogue, states (of the items, and eligibility)
            and index.
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
    growth: float
    while_indexing: PagesTimed | None
    stages: dict[str, float]
    recall_at_200: dict[str, float]
    upload_visible_s: float
    index_s: float
    bytes_per_item: dict[str, int]
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
    n_candidates: int = 200,
    n_warm_pages: int = N_WARM_PAGES,
    least_items: int = LEAST_ITEMS,
) -> DecideResult:
    """Swipe to warm up, then time pages.

    Args:
        n_items: in the generated catalogue.
        n_pages: timed.
        seed: of catalogue, people and choices.
        now_ms: the wall clock.
        clock_ns: a steady clock.
        advance: told of progress.
        n_candidates: of a page.
        n_warm_pages: swiped before.
        least_items: from which on there is an index.
    """
    config = Config()
    config = msgspec.structs.replace(
        config, feed=msgspec.structs.replace(config.feed, candidates=n_candidates)
    )
    base = None
    if n_items != BASE_ITEMS:
        small = _Room.of(config, min(BASE_ITEMS, n_items), seed, now_ms, advance)
        small.warm_up(n_warm_pages, advance)
        base, _ = small.time_pages(n_pages, Stopwatch(clock_ns), clock_ns, advance)
    room = _Room.of(config, n_items, seed, now_ms, advance)
    room.warm_up(n_warm_pages, advance)
    room.memory["states"] = room.grown_by()
    indexing = Indexing(room.pipeline, least_items=least_items)
    began_ns = clock_ns()
    is_indexed = indexing.poll()
    index_s = (clock_ns() - began_ns) / 1e9
    room.memory["index"] = room.grown_by()
    stopwatch = Stopwatch(clock_ns)
    timed, contexts = room.time_pages(n_pages, stopwatch, clock_ns, advance)
    score_us = _median_us(clock_ns, room.pipeline.served.policy.score, contexts)
    parse = text_parser(config.learner.bits)
    texts = [features_text(c.features) for c in contexts]
    text_us = _median_us(clock_ns, parse, texts)
    return DecideResult(
        items=n_items,
        pages=n_pages,
        candidates=n_candidates,
        seed=seed,
        page_p50_ms=timed.p50_ms,
        page_p99_ms=timed.p99_ms,
        growth=timed.p50_ms / (base or timed).p50_ms,
        while_indexing=room.time_while_indexing(clock_ns, advance) if is_indexed else None,
        stages={step: round(share, 4) for step, share in stopwatch.shares().items()},
        recall_at_200=measure_recall(room.pipeline, room.states, seed, room.now_ms),
        upload_visible_s=measure_uploads(room.pipeline, room.states, room.now_ms, clock_ns),
        index_s=index_s if is_indexed else 0.0,
        bytes_per_item={part: n // n_items for part, n in room.memory.items()},
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
    resident: int
    memory: dict[str, int]
    n_lines: int = 0

    @classmethod
    def of(
        cls, config: Config, n_items: int, seed: int, now_ms: int, advance: Advance
    ) -> "_Room":
        crowd = generated.people(seed, N_PEOPLE, now_ms)
        resident = resident_bytes()
        pipeline = Pipeline(config, draw_key=b"bench", served=untrained(vowpal_args(config)))
        embedded = Embedded(seed)
        for k, record in enumerate(embedded.records(n_items, now_ms)):
            pipeline.catalogue.apply(record)
            if k % 10_000 == 0:
                advance("items", k, n_items)
        room = cls(
            pipeline=pipeline,
            learning=Learning(learning_args(config)),
            blocks=Blocks(),
            viewers=[],
            states=[users.newcomer(profile) for _, profile in crowd],
            rng=np.random.default_rng(seed),
            now_ms=now_ms,
            resident=resident,
            memory={},
        )
        room.memory["catalogue"] = room.grown_by()
        known = [pipeline.catalogue.item(k) for k in range(min(n_items, N_WORLD_ITEMS))]
        room.viewers = people(make_world(responses.generated(), known, seed), crowd)
        room.grown_by()
        return room

    def grown_by(self) -> int:
        """Return by how many bytes this process has grown since the last call."""
        before, self.resident = self.resident, resident_bytes()
        return self.resident - before

    def warm_up(self, n_pages: int, advance: Advance) -> None:
        """Swipe some pages and serve what was learned from them."""
        for k in range(n_pages):
            self.swipe_page(k)
            advance("warm up", k + 1, n_pages)
        learning = self.learning
        policy = learning.policy.frozen(1)
        served = Served(policy, learning.states, learning.audiences, 1)
        self.pipeline.warm(served)
        self.pipeline.swap(served)

    def time_pages(
        self, n: int, stopwatch: Stopwatch, clock_ns: Callable[[], int], advance: Advance
    ) -> tuple[PagesTimed, list[Context]]:
        """Draw pages; return what they cost, and the first ones' contexts."""
        spent_ns: list[int] = []
        contexts: list[Context] = []
        for k in range(n):
            stopwatch.start()
            began_ns = clock_ns()
            page = self.draw_page(k, f"timed-{k}", stopwatch)
            spent_ns.append(clock_ns() - began_ns)
            if len(contexts) < N_TEXT_PAGES:
                contexts.append(self.context_of(page))
            advance("pages", k + 1, n)
        return _timed(spent_ns), contexts

    def time_while_indexing(
        self, clock_ns: Callable[[], int], advance: Advance
    ) -> PagesTimed:
        """Draw pages while another index is made beside them."""
        maker = Thread(target=Indexing(self.pipeline, least_items=0).poll)
        spent_ns: list[int] = []
        maker.start()
        while maker.is_alive():
            began_ns = clock_ns()
            self.draw_page(len(spent_ns), f"indexing-{len(spent_ns)}")
            spent_ns.append(clock_ns() - began_ns)
            advance("pages while indexing", len(spent_ns), len(spent_ns))
        maker.join()
        return _timed(spent_ns)

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
            k_item = self.pipeline.catalogue.index_of(decision.item_id) or 0
            known = self.pipeline.catalogue.ids[k_item % N_WORLD_ITEMS]
            answer = self.viewers[who].answer(known, self.rng)
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
        catalogue = self.pipeline.catalogue
        for item_id in page.candidates:
            k = catalogue.index_of(item_id) or 0
            block = pack_halves(catalogue.blocks[k])
            self.blocks.fold(ItemRecord(item_id, self.now_ms, catalogue.item(k), block))
        return self.blocks.page(page).context

    def _fold(self, who: int, record: PageRecord | FeedbackRecord) -> None:
        self.n_lines += 1
        self.states[who] = user_fold.fold(self.states[who], record) or self.states[who]
        self.learning.fold([LogLine(self.n_lines, record)])


def _timed(spent_ns: Sequence[int]) -> PagesTimed:
    p50, p99 = np.percentile(np.array(spent_ns) / 1e6, [50, 99])
    return PagesTimed(float(p50), float(p99))


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
