"""Long histories: repeats, the size of what is kept, false positives, and what a page costs.

Users swipe most of their cards at random, then pages of the real pipeline. What they saw is also
kept item by item, which is the truth that the kept sets are compared with.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from env.items.catalogue import Catalogue
from env.records import Drawn, FeedbackRecord, PageRecord
from env.users import fold as user_fold
from env.users.state import UserState, encode_state, newcomer
from env.vocabulary import Bools, DecisionId, Floats, Ints, PageId, Scene, SessionId, UserKey
from policies.candidates.context import seen_earlier
from serve.bench.room import InProcessServer
from serve.config import Config
from serve.feed.pipeline import Pipeline
from serve.wire.feed import FeedRequest

NOW_MS = 1_767_225_600_000
DAY_MS = 86_400_000
CARDS_A_DAY = 150
PAGE = 10
_LEARNED_PAGES = 200
Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RepeatsSize:
    """How much is swiped."""

    users: int = 4
    cards: int = 20_000  # of each
    items: int = 100_000
    pages: int = 300  # of the pipeline, the last of these cards


class RepeatsResult(msgspec.Struct, frozen=True):
    """The figures of long histories."""

    users: int
    cards: int  # of each user
    repeats: int  # cards shown again while unseen eligible items remained
    unseen_least: int  # unseen eligible items that remained, of the user with the fewest
    bytes_per_10000: float  # of the packed sets, for each 10,000 cards in them
    row_bytes: float  # of a user's whole row
    false_positive: float  # share of the unseen items that count as seen
    page_ratio: float  # a page's time over that of a user who has the ring alone


@dataclass
class _User:
    name: str
    state: UserState
    seen: Bools  # (n_items,) what was truly shown
    repeats: int = 0
    n_pages: int = 0
    at_ms: int = NOW_MS
    times: list[tuple[float, float]] = field(default_factory=list)


def run_repeats(size: RepeatsSize, config: Config, *, seed: int, advance: Advance) -> RepeatsResult:
    """Return the figures; the same seed swipes the same cards."""
    room = InProcessServer.of(config, size.items, seed, NOW_MS, advance)
    room.warm_up(_LEARNED_PAGES, advance)
    catalogue = room.pipeline.catalogue
    users = [
        _User(
            f"reader {k}",
            newcomer(room.states[k].profile),
            np.zeros(len(catalogue), dtype=np.bool_),
        )
        for k in range(size.users)
    ]
    for k, user in enumerate(users):
        rng = np.random.default_rng([seed, 7, k])
        _swipe_at_random(user, catalogue, size.cards - PAGE * size.pages, rng)
        advance("histories", k + 1, size.users)
    for k in range(size.pages):
        for user in users:
            _swipe_page(user, room.pipeline)
        advance("pages", k + 1, size.pages)
    ratios = np.concatenate([_ratios(user) for user in users])
    return RepeatsResult(
        users=size.users,
        cards=size.cards,
        repeats=sum(user.repeats for user in users),
        unseen_least=min(_n_unseen(user, room.pipeline) for user in users),
        bytes_per_10000=_bytes_per_10000([user.state for user in users]),
        row_bytes=float(np.mean([len(encode_state(user.state)) for user in users])),
        false_positive=float(np.mean([_false_positive(user, catalogue) for user in users])),
        page_ratio=float(np.median(ratios)),
    )


def _swipe_at_random(
    user: _User, catalogue: Catalogue, n_cards: int, rng: np.random.Generator
) -> None:
    index = rng.permutation(len(catalogue))[:n_cards]
    for begin in range(0, n_cards, PAGE):
        page = _page_of(user, catalogue, index[begin : begin + PAGE])
        _answer(user, page)
        user.seen[index[begin : begin + PAGE]] = True


def _page_of(user: _User, catalogue: Catalogue, index: Ints) -> PageRecord:
    user.n_pages += 1
    return PageRecord(
        page_id=PageId(f"{user.name} {user.n_pages}"),
        at_ms=user.at_ms,
        user=UserKey(user.name),
        session=SessionId(f"{user.at_ms // DAY_MS}"),
        scene=Scene(user.at_ms),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=0,
        rules=(),
        slots=(0,) * len(index),
        drawn=tuple(Drawn(slot, 0, 1.0) for slot in range(len(index))),
        cards=tuple(catalogue.card(k) for k in index.tolist()),
        reasons=("",) * len(index),
        policy="any@0",
        explorer={},
        eps=0.0,
    )


def _answer(user: _User, page: PageRecord) -> None:
    """Let a user look at each card of a page for some seconds."""
    state: UserState | None = user_fold.fold(user.state, page)
    for drawn in page.drawn:
        user.at_ms += DAY_MS // CARDS_A_DAY
        state = user_fold.fold(
            state,
            FeedbackRecord(
                event_id=f"{page.page_id} {drawn.slot}",
                decision_id=DecisionId(f"{page.page_id}:{drawn.slot}"),
                at_ms=user.at_ms,
                user=page.user,
                session=page.session,
                kind="dwell",
                value=5.0,
            ),
        )
    if state is None:
        raise RuntimeError("expected the state of a known user")
    user.state = state


def _swipe_page(user: _User, pipeline: Pipeline) -> None:
    """Draw a page with and without the sets, in turn which comes first, and swipe the former."""
    ring_alone = msgspec.structs.replace(user.state, seen_sets=())
    user.n_pages += 1
    draws: list[tuple[PageRecord | None, float]] = []
    states = [user.state, ring_alone]
    for state in states if user.n_pages % 2 else reversed(states):
        began = time.perf_counter()
        page = _drawn(user, state, pipeline)
        draws.append((page, time.perf_counter() - began))
    mine, other = draws if user.n_pages % 2 else reversed(draws)
    user.times.append((mine[1], other[1]))
    page = mine[0]
    if page is None:
        raise RuntimeError("expected a page from a full catalogue, got none")
    index = [pipeline.catalogue.index_of(card.item_id) or 0 for card in page.cards]
    user.repeats += int(np.count_nonzero(user.seen[index]))
    user.seen[index] = True
    _answer(user, page)


def _drawn(user: _User, state: UserState, pipeline: Pipeline) -> PageRecord | None:
    return pipeline.page(
        FeedRequest(user_id=user.name, size=PAGE),
        UserKey(user.name),
        state,
        session=SessionId(f"{user.at_ms // DAY_MS}"),
        page_id=PageId(f"{user.name} page {user.n_pages}"),
        now_ms=user.at_ms,
    )


def _ratios(user: _User) -> Floats:
    mine, other = np.array(user.times).T
    return np.asarray(mine / other)


def _n_unseen(user: _User, pipeline: Pipeline) -> int:
    """Return how many listed items a user has not seen; nearly all of them are eligible."""
    return int(np.count_nonzero(pipeline.catalogue.listed & ~user.seen))


def _bytes_per_10000(states: Sequence[UserState]) -> float:
    sets = [some for state in states for some in state.seen_sets]
    n_bytes = sum(len(some.packed) for some in sets)
    return 10_000.0 * n_bytes / max(sum(some.n for some in sets), 1)


def _false_positive(user: _User, catalogue: Catalogue) -> float:
    """Return the share of the unseen items, without copies of seen ones, that count as seen."""
    known = np.zeros(len(catalogue), dtype=np.bool_)
    known[seen_earlier(user.state.seen_sets, catalogue)] = True
    truly = np.zeros(len(catalogue), dtype=np.bool_)
    truly[catalogue.with_copies(np.flatnonzero(user.seen))] = True
    return float(known[~truly].mean())
