"""SwipeEnv as a feed whose log is our own: users swipe pages, and every line is as a server's.

Users are observed in the columns of a request (`env.gym.feed_observation`), quantised as the log
holds them: a ranker that was learned from the log is played on the very numbers that it was learned
from, and is one that a feed of this schema can be ranked by.

The clock is the users' own: who comes back after two days asks for a page two days later. So gaps
in the log are those of the world, which is what retention is learned from.

Rejected: pages by the whole pipeline (a simulated server has one clock for all, see
`tests.studies.served_world.world`, and users' calendars are not on it).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from env.columns.schema import SCHEMA
from env.gym.feed_memory import FeedItems
from env.gym.vector import SwipeVectorEnv
from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    RuleRecord,
    block_hash,
    pack_halves,
)
from env.vocabulary import (
    Bools,
    Float32s,
    Floats,
    Ints,
    Item,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
    decision_id,
)
from tests.studies.served_world.items import DAY_MS, item_id

START_MS = 19_676 * DAY_MS
"""A midnight, UTC: days of the world are days of the calendar."""

CARD_MS = 1_000
"""From one card's news to the next; within a turn all users swipe at this pace."""

_DONE: tuple[FeedbackKind, ...] = ("like", "comment", "share", "follow", "not_interested")
Logits = Callable[[Float32s, Float32s], Floats]
"""From users (n, N_SHARED) and candidates (n, K, N_ACTION) to logits, shape (n, K)."""


@dataclass(frozen=True, slots=True)
class PagePolicy:
    """Draws a page card by card: softmax of what is left, mixed with uniform over it.

    Attributes:
        name: as it stands in the log.
        logits: of the candidates.
        uniform: share of uniform, in [0, 1).
    """

    name: str
    logits: Logits
    uniform: float = 0.0


@dataclass(frozen=True, slots=True)
class WorldArgs:
    """Who is there, for how long, and what they are shown.

    Attributes:
        users: at a time; each lives once.
        days: of a life.
        candidates: from which a page is drawn.
        page: cards of a page.
        preset: of the world.
    """

    users: int = 1_000
    days: int = 21
    candidates: int = 20
    page: int = 5
    preset: str = "kuairand"

    def open(self) -> SwipeVectorEnv:
        """Return the world."""
        return SwipeVectorEnv(
            self.users,
            preset=self.preset,
            obs="feed",
            actions="page",
            page_size=self.page,
            n_candidates=self.candidates,
            horizon_days=self.days,
        )


@dataclass(slots=True)
class Turned:
    """What happened in a turn to those whose life went on, n users."""

    place: Ints  # (n,)
    session: Ints  # (n,) of the life, from 0
    at_ms: Ints  # (n,)
    shared: Float32s  # (n, N_SHARED)
    personal: Float32s  # (n, K, N_DYNAMIC)
    stock_rows: Ints  # (n, K)
    action: Ints  # (n, page)
    propensity: Floats  # (n, page)
    n_cards: Ints  # (n,) that were seen
    events: dict[str, Floats] = field(default_factory=dict)  # each (n, page)
    reward: Floats = field(default_factory=lambda: np.zeros(0))  # (n,) engagement
    leaves: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    gap_days: Floats = field(default_factory=lambda: np.zeros(0))
    is_gone: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))  # for good


def play(args: WorldArgs, policy: PagePolicy, seed: int) -> Iterator[Turned]:
    """Yield the turns of a life of each user under a policy, until all have ended.

    Two policies meet the same users, who differ only in what they are shown.

    Args:
        args: of the world.
        policy: which draws the pages.
        seed: of the users and the draws.
    """
    env = args.open()
    observation, _ = env.reset(seed=seed)
    generator = np.random.default_rng(seed)
    n = args.users
    alive, session = np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.int64)
    while alive.any():
        if not isinstance(observation, dict):
            raise TypeError("expected an environment of dict observations")
        uniforms = generator.random((args.page, n))
        shared = observation["user"]
        actions = np.concatenate([observation["item"], observation["personal"]], axis=-1)
        action, propensity = _draw(policy, shared, actions, uniforms)
        crowd, here = env.swiping.crowd, np.flatnonzero(alive)
        seconds = crowd.day * 86_400.0 + crowd.hour * 3_600.0 + crowd.watched_s
        turned = Turned(
            place=here,
            session=session[here],
            at_ms=START_MS + np.round(1_000.0 * seconds[here]).astype(np.int64),
            shared=shared[here],
            personal=observation["personal"][here],
            stock_rows=env.swiping.candidates.rows[here].copy(),
            action=action[here],
            propensity=propensity[here],
            n_cards=np.zeros(0, dtype=np.int64),
        )
        observation, _, terminated, truncated, info = env.step(action)
        turned.n_cards = info["n_cards"][here]
        turned.events = {name: info[f"page_{name}"][here] for name in ("watch_s", *_DONE)}
        turned.reward, turned.leaves = info["engagement"][here], info["session_end"][here]
        turned.gap_days, turned.is_gone = info["gap_days"][here], terminated[here]
        session += info["session_end"]
        alive &= ~(terminated | truncated)
        yield turned


def _draw(
    policy: PagePolicy, shared: Float32s, actions: Float32s, uniforms: Floats
) -> tuple[Ints, Floats]:
    """Return the cards of each user's page and their probabilities, both (n, page)."""
    logits = policy.logits(shared, actions)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    left, place = np.ones(raised.shape, dtype=np.bool_), np.arange(len(raised))
    cards, chances = [], []
    for uniform in uniforms:
        softmax = raised * left
        pmf = (1.0 - policy.uniform) * softmax / softmax.sum(axis=1, keepdims=True)
        pmf += policy.uniform * left / left.sum(axis=1, keepdims=True)
        upto = pmf.cumsum(axis=1)
        card = (uniform[:, None] * upto[:, -1:] >= upto).sum(axis=1)
        cards.append(card)
        chances.append(pmf[place, card])
        left[place, card] = False
    return np.stack(cards, axis=1), np.stack(chances, axis=1)


def item_records(args: WorldArgs) -> list[ItemRecord]:
    """Return the lines of the log that name the items of a world, with their blocks."""
    ids, blocks = _items(args)
    return [
        ItemRecord(name, START_MS, Item(name), block)
        for name, block in zip(ids, blocks, strict=True)
    ]


class PageWriter:
    """Makes the log's lines of what happened."""

    def __init__(self, args: WorldArgs, policy: PagePolicy) -> None:
        """Write pages of a world's items, drawn by this policy."""
        self._policy = policy
        self._ids, self._blocks = _items(args)
        self._hashes = [block_hash(block) for block in self._blocks]
        self._duration_s = _columns(args).duration_s
        self._n_pages = 0

    def records(self, turned: Turned) -> Iterator[Record]:
        """Yield the pages and feedback of a turn."""
        for i in range(len(turned.place)):
            page = self._page(turned, i)
            yield page
            yield from self._feedback(turned, i, page)

    def _page(self, turned: Turned, i: int) -> PageRecord:
        rows, at_ms = turned.stock_rows[i].tolist(), int(turned.at_ms[i])
        user = UserKey(f"person-{int(turned.place[i]):06d}")
        everything = np.packbits(np.ones(len(rows), dtype=np.bool_), bitorder="little").tobytes()
        actions = turned.action[i].tolist()
        self._n_pages += 1
        return PageRecord(
            page_id=PageId(f"page-{self._n_pages:08d}"),
            at_ms=at_ms,
            user=user,
            session=SessionId(f"{user}/{int(turned.session[i])}"),
            scene=Scene(at_ms=at_ms),
            candidates=tuple(self._ids[row] for row in rows),
            blocks=b"".join(self._hashes[row] for row in rows),
            dynamic=pack_halves(turned.personal[i]),
            shared=pack_halves(turned.shared[i]),
            feature_schema=SCHEMA,
            rules=(RuleRecord("", everything, everything),),
            slots=(0,) * len(actions),
            drawn=tuple(
                Drawn(slot, action, chance)
                for slot, (action, chance) in enumerate(
                    zip(actions, turned.propensity[i].tolist(), strict=True)
                )
            ),
            cards=tuple(
                Card(
                    item_id=self._ids[rows[action]],
                    block=self._blocks[rows[action]],
                    duration_s=float(self._duration_s[rows[action]]),
                )
                for action in actions
            ),
            reasons=("",) * len(actions),
            policy=self._policy.name,
            explorer={},
            eps=0.0,
        )

    def _feedback(self, turned: Turned, i: int, page: PageRecord) -> Iterator[FeedbackRecord]:
        for slot in range(int(turned.n_cards[i])):
            watch_s = float(turned.events["watch_s"][i, slot])
            said = [name for name in _DONE if turned.events[name][i, slot]]
            told: list[tuple[FeedbackKind, float]] = [("dwell", watch_s)]
            told += [(name, 0.0) for name in said]
            for kind, value in [*told, ("leave", 0.0)]:
                yield FeedbackRecord(
                    event_id=f"{kind}-{slot}",
                    decision_id=decision_id(page.page_id, slot),
                    at_ms=page.at_ms + (slot + 1) * CARD_MS,
                    user=page.user,
                    session=page.session,
                    kind=kind,
                    value=value,
                )


def _items(args: WorldArgs) -> tuple[list[ItemId], list[bytes]]:
    """Return ids and static blocks of a world's items."""
    columns = _columns(args)
    ids = [item_id(serial) for serial in columns.stock.serial.tolist()]
    return ids, [pack_halves(block) for block in columns.blocks]


def _columns(args: WorldArgs) -> FeedItems:
    swiping = args.open().swiping
    return FeedItems.of(swiping.stock, swiping.reward)
