import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from servers import START_MS, Server, items, serving, stocked
from starlette.types import ASGIApp
from waiting import DEADLINE_S

from env.records import FeedbackRecord, PageRecord
from env.vocabulary import Profile
from serve.http.api import make_app
from serve.wire.client import ClientError, FeedClient
from serve.wire.feed import Event, FeedbackRequest, FeedRequest, SceneBody
from serve.wire.items import ItemBody, ItemsResponse
from serve.wire.users import BlocksRequest, ProfileBody


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an app on a free port of the loopback address and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(DEADLINE_S):
            while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
                await asyncio.sleep(0)
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    with serving(tmp_path) as server:
        yield await stocked(server)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[FeedClient]:
    async with listening(server.app) as address, FeedClient(address) as client:
        yield client


async def test_a_visit_over_a_real_socket(server: Server, client: FeedClient) -> None:
    page = await client.feed(FeedRequest("ann", size=5, scene=SceneBody(country="GB")))
    assert len(page.items) == 5
    events = tuple(Event(f"e{card.slot}", card.decision_id, "dwell", 1, 2.5) for card in page.items)
    answer = await client.feedback(FeedbackRequest(events))
    assert (answer.accepted, answer.duplicates, answer.refused) == (5, 0, ())
    assert [record.value for record in server.of(FeedbackRecord)] == [2.5] * 5


async def test_items_and_users_over_a_real_socket(client: FeedClient) -> None:
    assert await client.put_items(items(70)) == ItemsResponse(10, 0, 60)
    item = await client.put_item("a/b?c", ItemBody(title="Odd name", tags=("x",)))
    assert await client.get_item("a/b?c") == item
    assert (item.item_id, item.published_ms) == ("a/b?c", START_MS)
    assert (await client.search_items("odd & #name")).items == (item,)
    assert (await client.search_items("odd name")).items == (item,)
    await client.delete_item("a/b?c")
    user = await client.put_user("ann", ProfileBody(country="SG", follows=("c1",)))
    assert user.profile == Profile(
        country="SG", follows=user.profile.follows, registered_ms=START_MS
    )
    assert await client.get_user("ann") == user
    await client.delete_user("ann")
    assert (await client.ready()).items == 70


async def test_blocks_over_a_real_socket(client: FeedClient) -> None:
    await client.put_user("a/b?c", ProfileBody())
    answer = await client.put_blocks("a/b?c", BlocksRequest(("c1",), ("#Dogs",)))
    assert (answer.user_id, answer.creators, answer.tags) == ("a/b?c", ("c1",), ("dogs",))
    assert await client.get_blocks("a/b?c") == answer
    with pytest.raises(ClientError, match="nobody of id bob"):
        await client.get_blocks("bob")


async def test_a_problem_is_raised_with_its_field(client: FeedClient) -> None:
    with pytest.raises(ClientError, match="no item nothing") as refused:
        await client.get_item("nothing")
    problem = refused.value.problem
    assert problem is not None
    assert (problem.status, problem.field) == (404, "item_id")


@pytest.mark.slow
async def test_many_users_at_once_are_all_answered(server: Server, client: FeedClient) -> None:
    asked = (client.feed(FeedRequest(f"u{i % 20}", size=3)) for i in range(100))
    pages = await asyncio.gather(*asked)
    assert len({page.page_id for page in pages}) == 100
    assert len(server.of(PageRecord)) == 100
    assert server.live_states() == server.folded_states()


async def test_an_answer_that_was_lost_is_asked_for_again_and_counts_once(server: Server) -> None:
    """A proxy cuts the connection of every other request after the server has done its work."""
    async with (
        listening(server.app) as address,
        cutting(address) as (through, cuts),
        FeedClient(through) as client,
    ):
        page = await client.feed(FeedRequest("ann", size=3))
        events = tuple(Event(f"e{c.slot}", c.decision_id, "like", 1) for c in page.items)
        answer = await client.feedback(FeedbackRequest(events))
    assert (answer.accepted, answer.duplicates) == (0, 3)
    assert len(cuts) == 2
    assert len(server.of(PageRecord)) == 1
    assert len(server.of(FeedbackRecord)) == 3


async def test_a_delete_whose_answer_was_lost_is_done(server: Server) -> None:
    async with (
        listening(server.app) as address,
        cutting(address) as (through, cuts),
        FeedClient(through) as client,
    ):
        await client.delete_item("i1")
    assert len(cuts) == 1
    async with listening(server.app) as address, FeedClient(address) as client:
        with pytest.raises(ClientError, match="no item i1"):
            await client.delete_item("i1")


@pytest.mark.slow
async def test_a_server_that_is_full_is_asked_again_when_it_says(server: Server) -> None:
    n_asked = 6
    async with listening(make_app(server.engine, server.keys, queue=1)) as address:
        async with FeedClient(address) as client:
            asked = (client.feed(FeedRequest(f"u{i}", size=1)) for i in range(3))
            assert len(await asyncio.gather(*asked)) == 3
        async with FeedClient(address, repeats=0) as client:
            asked = (client.feed(FeedRequest(f"u{i}", size=1)) for i in range(n_asked))
            ends = await asyncio.gather(*asked, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, ClientError)]
    assert 0 < len(refused) < n_asked
    assert {(end.problem.status, end.again_s) for end in refused if end.problem} == {(429, 1.0)}


async def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with FeedClient(f"http://127.0.0.1:{port}", repeats=1) as client:
        with pytest.raises(ClientError, match="POST /v1/feed"):
            await client.feed(FeedRequest("ann"))


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await FeedClient("http://127.0.0.1:1").feed(FeedRequest("ann"))


@asynccontextmanager
async def cutting(address: str) -> AsyncIterator[tuple[str, list[int]]]:
    """Pass connections on to a server, but cut every other one when its answer has come."""
    port = int(address.rpartition(":")[2])
    cuts: list[int] = []
    n_connections = 0

    async def handle(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        far, on = await asyncio.open_connection("127.0.0.1", port)
        sending = asyncio.create_task(_copy(near, on))
        answer = await far.read(1 << 20)
        if n_connections % 2:
            cuts.append(len(answer))
        else:
            back.write(answer)
            await back.drain()
        sending.cancel()
        for writer in (on, back):
            writer.close()

    proxy = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", cuts


async def _copy(near: asyncio.StreamReader, on: asyncio.StreamWriter) -> None:
    while data := await near.read(1 << 16):
        on.write(data)
        await on.drain()
