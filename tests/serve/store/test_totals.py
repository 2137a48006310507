"""The totals: what is appended is added, once, whoever appends it, and nothing else is."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import Server, kept_in, serving, stocked

from env.records import FeedbackRecord, PageRecord
from env.vocabulary import ItemId, UserId
from serve.store import totals
from serve.store.totals import Total
from serve.wire.feed import Event, FeedbackRequest, FeedRequest
from serve.wire.items import ItemBody, ItemsRequest
from serve.wire.users import ProfileBody

ANN = UserId("ann")


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on both stores."""
    with kept_in(request.param):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def kept(server: Server) -> dict[Total, int]:
    with server.store.view() as view:
        return view.totals()


async def test_the_totals_are_the_fold_of_the_log_whichever_replica_writes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(tmp_path)) for _ in range(2)]
        await stocked(replicas[0], 30)
        asked = [
            replicas[k % 2].engine.feed(FeedRequest(f"p{k % 3}", f"r{k // 2}")) for k in range(24)
        ]
        pages = await asyncio.gather(*asked)
        told = FeedbackRequest(
            tuple(
                Event(f"{card.slot}", card.decision_id, "like", 1)
                for page in pages
                for card in page.items[:3]
            )
        )
        for replica in replicas:
            await replica.engine.feedback(told)
        await replicas[1].engine.shelf.delete(ItemId("i3"))
        await replicas[1].engine.delete_user(UserId("p0"))
        folded = totals.count(replicas[0].records())
        assert kept(replicas[0]) == kept(replicas[1]) == folded
        assert folded[Total("pages")] == len(replicas[0].of(PageRecord))
        assert folded[Total("feedback_events", "like")] == len(replicas[0].of(FeedbackRecord)) > 0
        assert folded[Total("item_changes", "put")] == 30
        assert folded[Total("item_changes", "removed")] == 1
        assert folded[Total("user_changes", "put")] == 3
        assert folded[Total("user_changes", "forgotten")] == 1
        assert folded[Total("candidates_removed", "delivered")] > 0
        assert folded[Total("pages_degraded")] > 0


async def test_what_says_nothing_new_adds_nothing(server: Server) -> None:
    await stocked(server, 5)
    await server.engine.put_user(ANN, ProfileBody(country="GB"))
    page = await server.engine.feed(FeedRequest(ANN, "r", size=2))
    like = FeedbackRequest((Event("1", page.items[0].decision_id, "like", 1),))
    await server.engine.feedback(like)
    before = kept(server)
    await stocked(server, 5)
    await server.engine.put_user(ANN, ProfileBody(country="GB"))
    await server.engine.feed(FeedRequest(ANN, "r", size=2))
    assert (await server.engine.feedback(like)).duplicates == 1
    assert kept(server) == before


async def test_what_the_filters_took_away_is_in_the_log_by_reason(server: Server) -> None:
    await stocked(server, 12)
    prolific = [ItemBody(f"m{k}", creator="m", title=f"Take {k}") for k in range(6)]
    await server.engine.shelf.put_many(ItemsRequest(tuple(prolific)))
    for k in range(3):
        await server.engine.feed(FeedRequest(ANN, f"r{k}", size=4))
    summed: Counter[str] = Counter()
    for page in server.of(PageRecord):
        assert all(0 < n <= 18 for n in page.removed.values())
        assert sum(page.removed.values()) + len(page.candidates) <= 18
        summed.update(page.removed)
    assert summed["creator"] >= 4, "of six by one creator, two may be candidates"
    assert summed["delivered"] > 0
    kept_by_reason = {t.label: n for t, n in kept(server).items() if t.name == "candidates_removed"}
    assert kept_by_reason == dict(summed)
