"""Exact counts: events in every order, days late and twice, against what they add up to.

Each decision's events are drawn, each with a delay of its own, and some are sent again, under the
same id or another one. A real store's log takes them, the learner folds it in batches and finds in
it what late ones correct; then the log is read as a whole. Both must come to the reward of each
item that the events give in any order.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from env.columns.schema import N_DYNAMIC, N_SHARED, N_STATIC, SCHEMA
from env.fair_start.settings import Guards
from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    RuleRecord,
    TickRecord,
    block_hash,
)
from env.reward import Reward
from env.vocabulary import (
    DecisionId,
    Feedback,
    Item,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
    decision_id,
)
from replay.join.dataset import read
from replay.join.late import LateCounts
from serve.config import Config, DataSettings
from serve.learn.fold import LearnerState
from serve.learn.settings import learning_args
from serve.store.open import open_store
from serve.store.store import Store, StorePast

Advance = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total."""

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
N_ITEMS, N_CARDS = 97, 4
PAGE_MS = 700
BLOCK = bytes(2 * N_STATIC)
REACTIONS: tuple[FeedbackKind, ...] = ("like", "comment", "share", "follow", "not_interested")
BATCH = 5_000
AGAIN = 0.05
"""Share of the events that are sent again, under the same id and under another one each."""

STRAY = 0.001
"""Share of the pages about which events come and that are not in the log."""


class CountsResult(msgspec.Struct, frozen=True):
    """What the learner and an offline reader make of events in any order.

    Attributes:
        n_events: that were sent.
        n_lines: lines of the log.
        n_decisions: that they are about.
        n_late: events that came after their card had closed.
        learner_mismatches: items of which the learner's count or sum of rewards is another one.
        row_mismatches: decisions of which the offline reward is another one, or missing.
        uncounted: late events that no outcome counts.
        counts: outcomes of the late events.
    """

    n_events: int
    n_lines: int
    n_decisions: int
    n_late: int
    learner_mismatches: int
    row_mismatches: int
    uncounted: int
    counts: LateCounts


def run_counts(n_events: int, *, seed: int, advance: Advance) -> CountsResult:
    """Send about n events, fold them and compare.

    Args:
        n_events: to send, duplicates included.
        seed: of the events and their delays.
        advance: progress callback.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(Path(folder))
        with open_store(config, lambda: 0) as store:
            sent = Sent.drawn(n_events, seed)
            sent.send(store, advance)
            return compared(config, store, sent, advance)


def config_of(folder: Path) -> Config:
    """Return settings of a small model, whose guards filter nothing."""
    config = Config(data=DataSettings(str(folder)))
    learner = msgspec.structs.replace(config.learner, bits=12)
    return msgspec.structs.replace(config, guards=Guards(enabled=False), learner=learner)


class Sent:
    """Records in the order of their arrival, and what they add up to."""

    def __init__(self, records: list[Record], rewards: dict[DecisionId, tuple[ItemId, float]]):
        self.records = records
        self.rewards = rewards
        self.n_events = sum(isinstance(record, FeedbackRecord) for record in records)

    @classmethod
    def drawn(cls, n_events: int, seed: int) -> "Sent":
        """Draw pages with their events until there are so many."""
        rng, reward = np.random.default_rng(seed), Reward()
        records: list[Record] = []
        rewards: dict[DecisionId, tuple[ItemId, float]] = {}
        n, number = 0, 0
        while n < n_events:
            page = page_of(number, START_MS + PAGE_MS * number)
            number += 1
            is_stray = rng.random() < STRAY
            if not is_stray:
                records.append(page)
            for card, drawn in zip(page.cards, page.drawn, strict=True):
                events = list(events_of(page, drawn.slot, rng))
                n += len(events)
                records += events
                if not is_stray:
                    worth = reward.of(feedback_of(events), card.duration_s)
                    decision = decision_id(page.page_id, drawn.slot)
                    rewards[decision] = card.item_id, worth
        records.sort(key=lambda record: record.at_ms)
        return cls(records, rewards)

    def send(self, store: Store, advance: Advance) -> None:
        """Append the records, those of a batch together."""
        items = [ItemRecord(i, START_MS, Item(i), BLOCK) for i in map(item_of, range(N_ITEMS))]
        store.log.append([TickRecord(0, corrects_ms=30 * DAY_MS), *items], durable=False)
        for start in range(0, len(self.records), BATCH):
            store.log.append(self.records[start : start + BATCH], durable=False)
            advance("append", start, len(self.records))
        store.log.append([TickRecord(self.records[-1].at_ms + DAY_MS)], durable=False)

    def by_item(self) -> dict[ItemId, tuple[int, float]]:
        """Return how many decisions each item has, and the sum of their rewards."""
        sums: dict[ItemId, tuple[int, float]] = {}
        for item_id, reward in self.rewards.values():
            n, total = sums.get(item_id, (0, 0.0))
            sums[item_id] = n + 1, total + reward
        return sums


def compared(config: Config, store: Store, sent: Sent, advance: Advance) -> CountsResult:
    """Fold the log of a store, read it as a whole, and count what differs."""
    learning, n_lines = LearnerState(learning_args(config), StorePast(store)), store.log.count()
    while lines := list(store.log.read(learning.offset, BATCH)):
        learning.fold(lines)
        advance("fold", learning.offset, n_lines)
    n_late = learning.join.counts.late
    dataset = read(store.log.read(), config.reward, past=StorePast(store))
    rows = {
        decision_id(dataset.pages[page].page_id, int(slot)): reward
        for page, slot, reward in zip(dataset.page, dataset.slot, dataset.reward, strict=True)
    }
    counts = learning.late.counts
    learned = learned_by_item(learning)
    expected = sent.by_item()
    return CountsResult(
        n_events=sent.n_events,
        n_lines=n_lines,
        n_decisions=len(sent.rewards),
        n_late=n_late,
        learner_mismatches=sum(
            learned.get(key) != expected.get(key) for key in learned.keys() | expected.keys()
        ),
        row_mismatches=sum(
            bool(rows.get(key) != sent.rewards.get(key, (None, None))[1])
            for key in rows.keys() | sent.rewards.keys()
        ),
        uncounted=n_late - sum(msgspec.structs.astuple(counts)),
        counts=counts,
    )


def learned_by_item(learning: LearnerState) -> dict[ItemId, tuple[int, float]]:
    """Return how many rewards the item statistics have of each item, and their sum."""
    _, _, _, ids, table, _ = msgspec.msgpack.decode(learning.states.to_bytes())
    columns = np.frombuffer(table, dtype="<f8").reshape(len(ids) + 1, -1)[1:]
    return {
        ItemId(key): (int(n), float(total))
        for key, n, total in zip(ids, columns[:, 1], columns[:, 5], strict=True)
    }


def item_of(k: int) -> ItemId:
    """Return the id of the k-th item."""
    return ItemId(f"i{k}")


def page_of(number: int, at_ms: int) -> PageRecord:
    """Return a page of `N_CARDS` items in a visit of its own, features of zeros."""
    every = bytes([2**N_CARDS - 1])
    items = [item_of((number * N_CARDS + k) % N_ITEMS) for k in range(N_CARDS)]
    duration_s = (10.0, 20.0, 60.0, 0.0)
    return PageRecord(
        page_id=PageId(f"page-{number}"),
        at_ms=at_ms,
        user=UserKey(f"user-{number % 1_009}"),
        session=SessionId(f"visit-{number}"),
        scene=Scene(at_ms, country="GB"),
        candidates=tuple(items),
        blocks=block_hash(BLOCK) * N_CARDS,
        dynamic=bytes(2 * N_DYNAMIC * N_CARDS),
        shared=bytes(2 * N_SHARED),
        feature_schema=SCHEMA,
        rules=(RuleRecord("open", every, every),),
        slots=(0,) * N_CARDS,
        drawn=tuple(Drawn(k, k, 1.0 / (N_CARDS - k)) for k in range(N_CARDS)),
        cards=tuple(
            Card(item, BLOCK, duration_s=s) for item, s in zip(items, duration_s, strict=True)
        ),
        reasons=("fresh",) * N_CARDS,
        policy="uniform@0",
        explorer={"kind": "uniform"},
        eps=0.0,
    )


def events_of(page: PageRecord, slot: int, rng: np.random.Generator) -> Iterator[FeedbackRecord]:
    """Yield what is reported of a card, each event at a time of its own, some of it again."""
    dwell_s = round(float(rng.exponential(12.0)), 3)
    told: list[tuple[FeedbackKind, float]] = [("dwell", dwell_s), ("leave", 0.0)]
    told += [("impression", 0.0)] * bool(rng.random() < 0.7)
    told += [("dwell", round(dwell_s * float(rng.random()), 3))] * bool(rng.random() < 0.3)
    told += [(kind, 0.0) for kind in REACTIONS if rng.random() < 0.15]
    for nth, (kind, value) in enumerate(told):
        event = FeedbackRecord(
            event_id=f"{slot}-{nth}",
            decision_id=decision_id(page.page_id, slot),
            at_ms=page.at_ms + delay_ms(rng),
            user=page.user,
            session=page.session,
            kind=kind,
            value=value,
        )
        yield event
        if rng.random() < AGAIN:
            yield msgspec.structs.replace(event, at_ms=event.at_ms + delay_ms(rng))
        if rng.random() < AGAIN:
            other = f"{event.event_id}-again"
            again = event.at_ms + delay_ms(rng)
            yield msgspec.structs.replace(event, event_id=other, at_ms=again)


def delay_ms(rng: np.random.Generator) -> int:
    """Return how late an event comes: log-uniform from 1 s to 2 days."""
    return round(1_000.0 * math.exp(float(rng.random()) * math.log(2 * DAY_MS / 1_000)))


def feedback_of(events: list[FeedbackRecord]) -> Feedback:
    """Return what events say in any order."""
    done = {event.kind: True for event in events if event.kind in REACTIONS}
    dwell_s = max(event.value for event in events)
    return msgspec.structs.replace(Feedback(seen=True, left=True, dwell_s=dwell_s), **done)
