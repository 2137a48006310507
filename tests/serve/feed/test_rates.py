"""What one user may ask for and say."""

from pathlib import Path

import pytest
from servers import Server, serving, stocked

from serve.feed.engine import TOO_MANY, TOO_OFTEN
from serve.wire.codec import ProblemError
from serve.wire.feed import Event, FeedbackRequest, FeedbackResponse, FeedRequest


async def tell(server: Server, decision: str, n: int, first: int) -> FeedbackResponse:
    events = tuple(
        Event(f"e{k}", decision, "dwell", server.watch.now_ms, 1.0 + k)
        for k in range(first, first + n)
    )
    return await server.engine.feedback(FeedbackRequest(events))


async def test_a_card_takes_a_bounded_number_of_events(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        page = await server.engine.feed(FeedRequest("ann"))
        first, second = (card.decision_id for card in page.items[:2])
        assert (await tell(server, first, 500, 0)).accepted == 500
        over = await tell(server, first, 3, 500)
        assert (over.accepted, [each.reason for each in over.refused]) == (0, [TOO_MANY] * 3)
        assert (await tell(server, second, 1, 900)).accepted == 1


async def test_a_user_who_says_too_much_is_heard_again_later(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        page = await server.engine.feed(FeedRequest("ann"))
        other = await server.engine.feed(FeedRequest("bob"))
        for k in range(2):
            assert (await tell(server, page.items[k].decision_id, 500, 500 * k)).accepted == 500
        over = await tell(server, page.items[2].decision_id, 1, 2000)
        assert [each.reason for each in over.refused] == [TOO_OFTEN]
        assert (await tell(server, other.items[0].decision_id, 1, 0)).accepted == 1
        server.watch.now_ms += 10
        assert (await tell(server, page.items[2].decision_id, 1, 2000)).accepted == 1


async def test_a_user_who_asks_too_often_gets_pages_again_later(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        for _ in range(1000):
            await server.engine.feed(FeedRequest("ann", size=1))
        with pytest.raises(ProblemError, match=r"limits\.pages_per_minute") as refused:
            await server.engine.feed(FeedRequest("ann", size=1))
        assert refused.value.problem.status == 429
        await server.engine.feed(FeedRequest("bob", size=1))
        server.watch.now_ms += 10
        await server.engine.feed(FeedRequest("ann", size=1))
