"""A data folder in which users have swiped and a learner has published, made without a server."""

import asyncio
from pathlib import Path

from waiting import wait_until

from env.records import FeedbackKind
from env.vocabulary import CreatorId, Item, ItemId, UserId
from policies.explorers import SquareCB
from serve.config import (
    Arm,
    ClockSettings,
    Config,
    ContentSettings,
    DataSettings,
    Experiment,
    FeedSettings,
    LearnerSettings,
)
from serve.jobs.import_data import import_items
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.replica import FeedReplica
from serve.store.open import open_store
from serve.store.store import Store
from serve.tokens import N_BYTES
from serve.wire.feed import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedRequest,
    FeedResponse,
    SceneBody,
)

START_MS = 1_800_000_000_000
PAGE_MS = 120_000
HALVES = Experiment("halves", (Arm("control", "uniform"), Arm("treated", "vowpal")))


def config_of(folder: Path, experiment: Experiment = HALVES) -> Config:
    """Return settings for a small model and simulated time."""
    return Config(
        data=DataSettings(str(folder)),
        clock=ClockSettings(simulated=True),
        content=ContentSettings(titles=False),
        feed=FeedSettings(candidates=20, eps=0.1, explorer=SquareCB(gamma=300.0)),
        learner=LearnerSettings(bits=12, learning_rate=1.0),
        experiment=experiment,
    )


def catalogue(n: int = 30) -> list[Item]:
    """Return items of which every third is liked."""
    return [
        Item(
            item_id=ItemId(f"i{k}"),
            creator=CreatorId(f"c{k}"),
            title=f"Film number {k}",
            tags=("good",) if k % 3 == 0 else ("dull",),
            duration_s=30.0,
            published_ms=START_MS - 1_000 * k,
        )
        for k in range(n)
    ]


def make_history(
    config: Config,
    *,
    n_users: int = 16,
    rounds: range = range(4),
    publish: bool = True,
    turned_from: int = 1_000,
    late: bool = False,
    corrects_ms: int | None = None,
) -> None:
    """Let everybody swipe a page a round, the learner publishing after each round.

    From the round `turned_from` on users like what they disliked before. With `late` they like the
    first card of each page a round later, and watch it longer. A new folder gets a fixed secret, so
    that the draws are the same each time.
    """
    folder = Path(config.data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "secret.key").exists():
        (folder / "secret.key").write_bytes(bytes(range(N_BYTES)))
    import_items(config, catalogue(), START_MS)
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        with open_store(config, lambda: 0) as store:
            learner, pages = make_learner(config, store, corrects_ms), list[FeedResponse]()
            for k in rounds:
                if late:
                    asyncio.run(_tell_late(replica, k * n_users, pages))
                taste = "dull" if k >= turned_from else "good"
                pages = asyncio.run(_round(replica, k, n_users, taste))
                while learner.step():
                    pass
                version = learner.publish_if_due(force=True) if publish else None
                if version is not None:
                    _await_version(replica, version.version)
    finally:
        replica.close()


def make_learner(config: Config, store: Store, corrects_ms: int | None = None) -> OnlineLearner:
    """Return a learner that publishes only when it is told to."""
    return OnlineLearner(
        store,
        open_snapshots(config),
        learning_args(config),
        now_ms=lambda: START_MS,
        monotonic_s=lambda: 0.0,
        tick_after_s=None,
        corrects_ms=corrects_ms,
    )


async def _round(replica: FeedReplica, k: int, n_users: int, taste: str) -> list[FeedResponse]:
    pages = []
    for user in range(n_users):
        at_ms = START_MS + (k * n_users + user) * PAGE_MS
        request = FeedRequest(
            user_id=UserId(f"p{user}"), size=4, scene=SceneBody(country="GB", at_ms=at_ms)
        )
        page = await replica.engine.feed(request)
        events = [
            e for card in page.items for e in _answer(card, taste, at_ms + 10_000 * card.slot)
        ]
        answered = await replica.engine.feedback(FeedbackRequest(tuple(events)))
        assert answered.accepted == len(events)
        pages.append(page)
    return pages


async def _tell_late(replica: FeedReplica, n_pages: int, pages: list[FeedResponse]) -> None:
    """Report more of the first card of each page, at the time of the n-th page of all."""
    at_ms = START_MS + n_pages * PAGE_MS
    cards = [page.items[0] for page in pages]
    events = [
        event
        for card in cards
        for event in (
            Event("late like", card.decision_id, "like", at_ms),
            Event("late dwell", card.decision_id, "dwell", at_ms, 29.0),
            Event("late again", card.decision_id, "like", at_ms),
        )
    ]
    if events:
        answered = await replica.engine.feedback(FeedbackRequest(tuple(events)))
        assert answered.accepted == len(events)


def _answer(card: CardBody, taste: str, at_ms: int) -> list[Event]:
    good = taste in card.item.tags
    told: list[tuple[FeedbackKind, float | None]] = [
        ("impression", None),
        ("dwell", 25.0 if good else 1.0),
        ("leave", None),
    ]
    if good:
        told.insert(1, ("like", None))
    return [
        Event(f"{kind}-{card.slot}", card.decision_id, kind, at_ms + 100 * i, value)
        for i, (kind, value) in enumerate(told)
    ]


def _await_version(replica: FeedReplica, version: int) -> None:
    wait_until(lambda: replica.pipeline.served.version >= version)
