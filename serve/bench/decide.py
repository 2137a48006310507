"""Benchmark of drawing one page without HTTP: 10 cards out of 200 candidates, by step.

Pages are timed in memory after a warm-up that trains the model, again while an index is built, and
against a catalogue of 10,000 items. Scoring is compared with Vowpal Wabbit's text parser. Method:
`docs/decisions/bench-decide.md`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Thread
from typing import TypeVar

import msgspec
import numpy as np

from env.features.scenes import observe
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.users.state import UserState, live_session
from env.vocabulary import Context, Floats, Ints, Item, ItemId, Scene, SessionId
from policies.bandit.policy import features_text, text_parser
from policies.candidates.cells import LEAST_ITEMS
from policies.candidates.query import MATCH_STEP, Query, interests_of, matches_of
from policies.candidates.retrieval import SOURCES, retrieve
from serve.bench.room import Advance, InProcessServer
from serve.config import Config
from serve.feed.pipeline import Pipeline, Stopwatch
from serve.feed.shelf import Indexing

N_BEST = 200

ALONE = {
    source: {other.name: float(other.name == source) for other in SOURCES}
    for source in ("long_interest", "session_interest")
}
"""Shares that use one source only."""


def measure_recall(
    pipeline: Pipeline, states: Sequence[UserState], seed: int, now_ms: int
) -> dict[str, float]:
    """Return the mean share of the `N_BEST` best matches that is found, by source of interest.

    Args:
        pipeline: its index is measured.
        states: user states; those without such an interest are skipped.
        seed: seed of the choices among ties.
        now_ms: time of the requests.
    """
    found: dict[str, list[float]] = {source: [] for source in ALONE}
    for k, state in enumerate(states):
        scene = observe(state, live_session(state, now_ms) or SessionId("s"), now_ms)
        catalogue = pipeline.catalogue
        items = pipeline.served.states.aligned(catalogue)
        for source, interest in interests_of(state, scene, catalogue, items).items():
            matches = matches_of(source, interest, catalogue.vectors, items.reward_mean)
            steps = np.rint(matches / MATCH_STEP)
            exact, some = (
                retrieve(replace(query, nearest=nearest), N_BEST).index
                for nearest, query in (
                    (nearest, _query(pipeline, state, scene, source, seed + k))
                    for nearest in (None, pipeline.nearest)
                )
            )
            if len(exact):
                found[source].append(_part(steps, exact, some))
    return {source: float(np.mean(parts)) for source, parts in found.items() if parts}


def _query(pipeline: Pipeline, state: UserState, scene: Scene, source: str, seed: int) -> Query:
    """Return a query that only one source answers, whatever the items' languages."""
    whole = pipeline.inventory(pipeline.served)
    settings = replace(whole.settings, shares=ALONE[source], foreign_share=1.0)
    alone = replace(whole, settings=settings)
    return Query.of(alone, state, scene, 1, seed)


def _part(steps: Floats, exact: Ints, some: Ints) -> float:
    return float(np.count_nonzero(steps[some] >= steps[exact].min()) / len(exact))


N_UPLOADS = 20


def measure_uploads(
    pipeline: Pipeline,
    states: Sequence[UserState],
    now_ms: int,
    clock_ns: Callable[[], int],
) -> float:
    """Return the longest time, in seconds, from an upload to its being a candidate.

    Each upload has the vector of one user's current interest and is looked for by the session's
    interest alone, so neither freshness nor the delivery guarantee brings it onto the page.

    Args:
        pipeline: the upload is put into its catalogue.
        now_ms: time of the requests.

    Raises:
        RuntimeError: the first page after an upload lacks it, or no user is in a session.
    """
    longest_ns = 0
    for k, state in enumerate(states[:N_UPLOADS]):
        scene = observe(state, live_session(state, now_ms) or SessionId("s"), now_ms)
        catalogue, served = pipeline.catalogue, pipeline.served.states
        interests = interests_of(state, scene, catalogue, served.aligned(catalogue))
        if "session_interest" not in interests:
            continue
        likes = tuple(np.asarray(interests["session_interest"], dtype=np.float64).tolist())
        item = Item(ItemId(f"upload-{k}"), vector=likes, country=scene.country)
        record = ItemRecord(item.item_id, now_ms, item, pack_halves(static_block(item)))
        began_ns = clock_ns()
        catalogue.apply(record)
        found = retrieve(_query(pipeline, state, scene, "session_interest", k), N_BEST)
        longest_ns = max(longest_ns, clock_ns() - began_ns)
        if catalogue.index_of(item.item_id) not in found.index:
            raise RuntimeError(f"expected {item.item_id} among what suits best, it is not there")
    if not longest_ns:
        raise RuntimeError("expected users in sessions, found nobody who has swiped in one")
    return longest_ns / 1e9


T = TypeVar("T")
N_WARM_PAGES = 500
N_TEXT_PAGES = 200
BASE_ITEMS = 10_000


class PagesTimed(msgspec.Struct, frozen=True):
    """Page times in ms."""

    p50_ms: float
    p99_ms: float


class DecideResult(msgspec.Struct, frozen=True):
    """Cost of drawing a page.

    Attributes:
        growth: page_p50_ms over that of a catalogue of 10,000 items, in the same run.
        while_indexing: pages drawn while another index is built; None without an index.
        stages: share of each step in the total; `fill` is scoring, exploring and drawing.
        recall_at_200: share of the 200 best matches found, by interest.
        upload_visible_s: longest time from an upload to its being a candidate by interest alone.
        index_s: time to build an index, with nothing beside it.
        bytes_per_item: resident memory by part: catalogue, states (items and eligibility), index.
        score_us: the policy's scoring of a page's candidates, median.
        text_us: Vowpal Wabbit's text parser on the same features, median.
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
    base_items: int = BASE_ITEMS,
) -> DecideResult:
    """Warm up with simulated users, then time pages.

    Args:
        seed: seed of the catalogue, the users and their choices.
        n_warm_pages: pages swiped before.
        least_items: catalogue size from which an index is built.
        base_items: size of the smaller catalogue, the base of `growth`.
    """
    config = Config()
    config = msgspec.structs.replace(
        config, feed=msgspec.structs.replace(config.feed, candidates=n_candidates)
    )
    base = None
    if n_items > base_items:
        small = InProcessServer.of(config, base_items, seed, now_ms, advance)
        small.warm_up(n_warm_pages, advance)
        base, _ = _time_pages(small, n_pages, Stopwatch(clock_ns), clock_ns, advance)
    room = InProcessServer.of(config, n_items, seed, now_ms, advance)
    room.warm_up(n_warm_pages, advance)
    room.memory["states"] = room.grown_by()
    indexing = Indexing(room.pipeline, least_items=least_items)
    began_ns = clock_ns()
    is_indexed = indexing.poll()
    index_s = (clock_ns() - began_ns) / 1e9
    room.memory["index"] = room.grown_by()
    stopwatch = Stopwatch(clock_ns)
    timed, contexts = _time_pages(room, n_pages, stopwatch, clock_ns, advance)
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
        while_indexing=_time_while_indexing(room, clock_ns, advance) if is_indexed else None,
        stages={step: round(share, 4) for step, share in stopwatch.shares().items()},
        recall_at_200=measure_recall(room.pipeline, room.states, seed, room.now_ms),
        upload_visible_s=measure_uploads(room.pipeline, room.states, room.now_ms, clock_ns),
        index_s=index_s if is_indexed else 0.0,
        bytes_per_item={part: n // n_items for part, n in room.memory.items()},
        score_us=score_us,
        text_us=text_us,
        ratio_to_text=text_us / score_us,
    )


def _time_pages(
    room: InProcessServer,
    n: int,
    stopwatch: Stopwatch,
    clock_ns: Callable[[], int],
    advance: Advance,
) -> tuple[PagesTimed, list[Context]]:
    """Draw pages; return their times, and the contexts of the first ones."""
    spent_ns: list[int] = []
    contexts: list[Context] = []
    for k in range(n):
        stopwatch.start()
        began_ns = clock_ns()
        page = room.draw_page(k, f"timed-{k}", stopwatch)
        spent_ns.append(clock_ns() - began_ns)
        if len(contexts) < N_TEXT_PAGES:
            contexts.append(room.context_of(page))
        advance("pages", k + 1, n)
    return _timed(spent_ns), contexts


def _time_while_indexing(
    room: InProcessServer, clock_ns: Callable[[], int], advance: Advance
) -> PagesTimed:
    """Time pages while another index is built on a thread."""
    maker = Thread(target=Indexing(room.pipeline, least_items=0).poll)
    spent_ns: list[int] = []
    maker.start()
    while maker.is_alive():
        began_ns = clock_ns()
        room.draw_page(len(spent_ns), f"indexing-{len(spent_ns)}")
        spent_ns.append(clock_ns() - began_ns)
        advance("pages while indexing", len(spent_ns), len(spent_ns))
    maker.join()
    return _timed(spent_ns)


def _timed(spent_ns: Sequence[int]) -> PagesTimed:
    p50, p99 = np.percentile(np.array(spent_ns) / 1e6, [50, 99])
    return PagesTimed(float(p50), float(p99))


def _median_us(
    clock_ns: Callable[[], int], work: Callable[[T], object], inputs: Sequence[T]
) -> float:
    spent_ns = []
    for value in inputs:
        began_ns = clock_ns()
        work(value)
        spent_ns.append(clock_ns() - began_ns)
    return float(np.median(spent_ns)) / 1e3
