"""A small world with a known truth that logs pages as the server does, for tests of replay.

A like is the only reward; its probability is linear in the logged features, so that a reward
model can find it, plus a taste of each user that no feature shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from env.columns.schema import N_ACTION, N_SHARED, N_STATIC, POPULARITY, SCHEMA, action_index
from env.interface import Policy, fill_page
from env.pages.records import page_record
from env.records import (
    Card,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    LogLine,
    Record,
    block_hash,
    item_key,
    pack_halves,
)
from env.reward import Reward
from env.vocabulary import (
    Context,
    Decision,
    Features,
    Float32s,
    Floats,
    Item,
    ItemId,
    Page,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
    decision_id,
)

LIKES = Reward(valid_play=0.0, long_view=0.0, like=1.0)
QUALITY = 3
"""The static column that users like; popularity is the dynamic one."""
START_MS = 1_700_000_000_000


@dataclass
class World:
    """Users, items, and the chance of a like.

    Attributes:
        seen_share: chance that a card is reached; the page's first always is.
        ended_share: chance that the end of a session is reported.
    """

    n_items: int = 40
    n_candidates: int = 12
    n_slots: int = 4
    seen_share: float = 0.9
    ended_share: float = 0.9
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    static: Float32s = field(init=False)
    taste: dict[UserKey, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.static = quantise(self.rng.random((self.n_items, N_STATIC)))

    def items(self) -> Iterator[Record]:
        """Yield the uploads."""
        for i, row in enumerate(self.static):
            item = Item(ItemId(f"v{i}"), duration_s=30.0)
            yield ItemRecord(item.item_id, START_MS, item, pack_halves(row))

    def likes(self, page: Page, _decision: Decision | None = None) -> Floats:
        """Return the true chance of a like of each candidate: an oracle."""
        features = page.context.features
        appeal = (
            0.2 * features.actions[:, QUALITY] + 0.5 * features.actions[:, action_index(POPULARITY)]
        )
        base = 0.1 + 0.1 * float(features.shared[0]) + self.taste[page.context.user]
        return np.asarray(base + appeal, dtype=np.float64)

    def context(self, page_id: str, user: UserKey, at_ms: int) -> Context:
        """Return a page's context with fresh dynamic features."""
        index = self.rng.choice(self.n_items, size=self.n_candidates, replace=False)
        ids = tuple(ItemId(f"v{i}") for i in index)
        dynamic = quantise(self.rng.random((self.n_candidates, N_ACTION - N_STATIC)))
        features = Features(
            shared=quantise(self.rng.random(N_SHARED)),
            actions=np.concatenate([self.static[index], dynamic], axis=1),
            keys=np.array([item_key(i) for i in ids], dtype=np.uint64),
        )
        scene = Scene(at_ms=at_ms, country="MY", hour=20)
        return Context(PageId(page_id), user, SessionId(f"s-{user}"), scene, ids, features)

    def slots(self) -> tuple[SlotRule, ...]:
        """Return open slots and, last, a reserved one that half of the candidates may take."""
        everything = np.ones(self.n_candidates, dtype=np.bool_)
        half = np.arange(self.n_candidates) % 2 == 0
        rule = SlotRule(everything, half)
        return (rule,) * (self.n_slots - 1) + (SlotRule(half, half, "reserved"),)

    def pages(
        self, policy: Policy, n_users: int, pages_each: int, eps: float, arm: str = ""
    ) -> Iterator[tuple[Page, list[Record]]]:
        """Yield pages, each with its record and the feedback that it got."""
        for user_number in range(n_users):
            user = UserKey(f"{arm}u{user_number}")
            self.taste[user] = float(self.rng.choice([-0.08, 0.08]))
            for number in range(pages_each):
                at_ms = START_MS + 1_000 + (user_number * pages_each + number) * 60_000
                context = self.context(f"{arm}p{user_number}-{number}", user, at_ms)
                seed = int(self.rng.integers(2**63))
                page = fill_page(context, policy, self.slots(), eps, seed)
                yield page, [self.record(page, arm), *self.answers(page)]

    def record(self, page: Page, arm: str = "") -> Record:
        """Return the page's record."""
        features = page.context.features
        blocks = [pack_halves(row) for row in features.actions[:, :N_STATIC]]
        return page_record(
            page,
            blocks=b"".join(block_hash(block) for block in blocks),
            n_static=N_STATIC,
            feature_schema=SCHEMA,
            cards=tuple(Card(d.item_id, blocks[d.action], duration_s=30.0) for d in page.decisions),
            reasons=("popular",) * len(page.decisions),
            arm=arm,
        )

    def answers(self, page: Page) -> Iterator[Record]:
        """Yield the events: cards in order, until the user is gone."""
        at_ms, likes, n_seen = page.context.scene.at_ms, self.likes(page), 0
        while n_seen < len(page.decisions) and (n_seen == 0 or self.rng.random() < self.seen_share):
            decision = page.decisions[n_seen]
            at_ms += 2_000
            yield event(page, decision.slot, "impression", at_ms)
            if self.rng.random() < likes[decision.action]:
                yield event(page, decision.slot, "like", at_ms + 500)
            n_seen += 1
        if self.rng.random() < self.ended_share:
            yield event(page, page.decisions[n_seen - 1].slot, "leave", at_ms + 1_000)


def event(page: Page, slot: int, kind: FeedbackKind, at_ms: int) -> FeedbackRecord:
    """Return one event about a slot of a page."""
    context = page.context
    return FeedbackRecord(
        event_id=f"{kind}-{slot}",
        decision_id=decision_id(context.page_id, slot),
        at_ms=at_ms,
        user=context.user,
        session=context.session,
        kind=kind,
    )


def lines(records: list[Record]) -> Iterator[LogLine]:
    """Yield records as lines of a log."""
    for i, record in enumerate(records):
        yield LogLine(i + 1, record)


def quantise(values: Floats) -> Float32s:
    """Return values as float16 holds them."""
    return values.astype(np.float16).astype(np.float32)
