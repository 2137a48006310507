"""What one user may ask for and say."""

from pathlib import Path

import pytest
from servers import Server, serving, stocked

from serve.feed.engine import TOO_MANY, TOO_OFTEN
from serve.wire.codec import ProblemError
from serve.wire.feed import Event, FeedbackRequest, FeedbackResponse, FeedRequest


def events(server: Server, decision: str, n: int, first: int) -> tuple[Event, ...]:
    return tuple(
        Event(f"e{k}", decision, "dwell", server.watch.now_ms, 1.0 + k)
        for k in range(first, first + n)
    )


async def tell(server: Server, decision: str, n: int, first: int) -> FeedbackResponse:
    return await server.engine.feedback(FeedbackRequest(events(server, decision, n, first)))


async def test_a_card_takes_a_bounded_number_of_events(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        page = await server.engine.feed(FeedRequest("ann", request_id="first"))
        first, second = (card.decision_id for card in page.items[:2])
        assert (await tell(server, first, 500, 0)).accepted == 500
        over = await tell(server, first, 3, 500)
        assert (over.accepted, [each.reason for each in over.refused]) == (0, [TOO_MANY] * 3)
        assert (await tell(server, second, 1, 900)).accepted == 1
        # Asking for the page again does not open its cards again.
        await server.engine.feed(FeedRequest("ann", request_id="first"))
        assert [each.reason for each in (await tell(server, first, 1, 501)).refused] == [TOO_MANY]


async def test_a_user_who_says_too_much_is_heard_again_later(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        page = await server.engine.feed(FeedRequest("ann"))
        other = await server.engine.feed(FeedRequest("bob"))
        ann, bob = page.items[2].decision_id, other.items[0].decision_id
        for k in range(2):
            assert (await tell(server, page.items[k].decision_id, 500, 500 * k)).accepted == 500
        with pytest.raises(ProblemError, match=r"limits\.events_per_minute") as refused:
            await tell(server, ann, 1, 2000)
        assert refused.value.problem.status == 429
        # Others of the same request are heard.
        both = (*events(server, ann, 1, 2000), *events(server, bob, 1, 0))
        told = await server.engine.feedback(FeedbackRequest(both))
        assert (told.accepted, [each.reason for each in told.refused]) == (1, [TOO_OFTEN])
        server.watch.now_ms += 10
        assert (await tell(server, ann, 1, 2000)).accepted == 1


async def test_repeats_use_up_no_limit(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        page = await server.engine.feed(FeedRequest("ann"))
        decision = page.items[0].decision_id
        assert (await tell(server, decision, 250, 0)).accepted == 250
        for _ in range(6):
            again = await tell(server, decision, 250, 0)
            assert (again.accepted, again.duplicates, again.refused) == (0, 250, ())
        assert (await tell(server, decision, 250, 250)).accepted == 250


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
