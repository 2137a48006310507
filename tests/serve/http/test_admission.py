import asyncio
from pathlib import Path

import pytest
from servers import ask, serving, stocked

from serve.http.api import Admission, FullError, make_app

FEED = b'{"user_id": "ann", "size": 2}'


async def test_all_who_have_come_are_counted_before_anybody_is_served() -> None:
    places = Admission(2)
    order: list[str] = []

    async def come(name: str) -> None:
        try:
            async with places:
                order.append(f"{name} served")
        except FullError:
            order.append(f"{name} refused")

    await asyncio.gather(*(come(name) for name in "abcd"))
    assert order == ["c refused", "d refused", "a served", "b served"]


async def test_a_place_is_given_back_whatever_happens() -> None:
    places = Admission(1)
    with pytest.raises(ZeroDivisionError):
        async with places:
            raise ZeroDivisionError
    waiting = asyncio.create_task(places.__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(FullError):
        places.check()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    places.check()


async def test_a_burst_is_answered_whole_and_served_in_part(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        app = make_app(server.engine, server.keys, queue=2)
        answers = await asyncio.gather(*(ask(app, "POST", "/v1/feed", FEED) for _ in range(10)))
        assert [answer.status for answer in answers] == [200, 200] + 8 * [429]
        for answer in answers[2:]:
            assert answer.problem() == (429, "")
            assert answer.headers["retry-after"] == "1"
        assert (await ask(app, "POST", "/v1/feed", FEED)).status == 200


async def test_health_is_answered_however_much_is_in_hand(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        app = make_app(server.engine, server.keys, queue=1)
        page, health = await asyncio.gather(
            ask(app, "POST", "/v1/feed", FEED), ask(app, "GET", "/readyz")
        )
        assert (page.status, health.status) == (200, 200)
