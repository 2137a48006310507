"""What is written down of uploads and blocks, and what follows from it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from servers import START_MS, Server, ask, items, kept_in, serving, stocked

from env.records import BlockRecord, ItemRecord
from env.users.fold import MAX_BLOCKED
from env.vocabulary import CreatorId, ItemId, UserId
from serve.limits import MAX_BLOCKS
from serve.store.ledger import DEBUT_MS
from serve.wire.codec import ProblemError
from serve.wire.feed import Event, FeedbackRequest, FeedRequest
from serve.wire.items import ItemBody, ItemsRequest
from serve.wire.users import BlocksRequest, BlocksResponse, ProfileBody

ANN, BOB = UserId("ann"), UserId("bob")
NEW = ItemId("new")


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on both stores."""
    with kept_in(request.param):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def debuts(server: Server) -> list[bool]:
    return [record.debut for record in server.of(ItemRecord)]


# --- debuts ---


@pytest.mark.parametrize(
    ("published_ms", "is_debut"),
    [
        (0, True),  # when the server first hears of it
        (START_MS, True),
        (START_MS - DEBUT_MS, True),
        (START_MS - DEBUT_MS - 1, False),
    ],
)
async def test_an_upload_of_the_last_seven_days_is_a_debut(
    server: Server, published_ms: int, is_debut: bool
) -> None:
    await server.engine.shelf.put(NEW, ItemBody(published_ms=published_ms))
    assert debuts(server) == [is_debut]


async def test_items_put_at_once_make_a_debut_each(server: Server) -> None:
    await server.engine.shelf.put_many(items(5))
    assert debuts(server) == [True] * 5


async def test_an_item_that_changes_makes_no_second_debut(server: Server) -> None:
    await server.engine.shelf.put(NEW, ItemBody(title="a"))
    await server.engine.shelf.put(NEW, ItemBody(title="b"))
    assert debuts(server) == [True, False]


async def test_an_item_that_was_taken_down_makes_no_second_debut(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await server.engine.shelf.put(NEW, ItemBody(title="a"))
        await server.engine.shelf.delete(NEW)
    with serving(tmp_path) as server:
        await server.engine.shelf.put(NEW, ItemBody(title="a"))
        assert debuts(server) == [True, False, False]


# --- blocks ---


async def test_blocks_are_kept_added_to_and_taken_back(server: Server) -> None:
    blocking = server.engine.blocking
    await server.engine.put_user(ANN, ProfileBody())
    assert await blocking.get(ANN) == BlocksResponse(ANN, (), ())
    await blocking.put(ANN, BlocksRequest(("c1",), ("#Dogs",)))
    answer = await blocking.put(ANN, BlocksRequest(("c2", "c1"), ("cats",)))
    assert set(answer.creators) == {"c1", "c2"}
    assert answer.tags == ("dogs", "cats")
    assert await blocking.get(ANN) == answer
    left = await blocking.put(ANN, BlocksRequest(("c1",), ("DOGS",), wanted=True))
    assert left == BlocksResponse(ANN, (CreatorId("c2"),), ("cats",))
    assert [record.wanted for record in server.of(BlockRecord)] == [False, False, True]
    assert server.live_states() == server.folded_states()


async def test_a_block_beyond_the_limit_is_refused_and_costs_none_of_the_others(
    server: Server,
) -> None:
    path, blocking = "/v1/users/ann/blocks", server.engine.blocking
    await server.engine.put_user(ANN, ProfileBody())
    for first in range(0, MAX_BLOCKED, MAX_BLOCKS):
        numbers = range(first, first + MAX_BLOCKS)
        creators, tags = (tuple(f"{kind}{i}" for i in numbers) for kind in "ct")
        await blocking.put(ANN, BlocksRequest(creators, tags))
    full = await blocking.get(ANN)
    assert len(full.creators) == len(full.tags) == MAX_BLOCKED
    n_records = len(server.of(BlockRecord))
    for body in (b'{"creators": ["one more"]}', b'{"creators": ["c0"], "tags": ["one more"]}'):
        refused = await ask(server.app, "POST", path, body)
        assert refused.problem() == (409, "")
        assert b"at most 1000 blocked creators" in refused.body
    assert await blocking.get(ANN) == full
    assert len(server.of(BlockRecord)) == n_records
    await blocking.put(ANN, BlocksRequest(("c0",), wanted=True))
    fits = await blocking.put(ANN, BlocksRequest(("one more",), ("t5",)))
    assert fits.creators == (*full.creators[1:], "one more")
    assert server.live_states() == server.folded_states()


async def test_the_answer_lists_those_whom_answers_blocked_after_those_of_the_user(
    server: Server,
) -> None:
    await server.engine.shelf.put_many(
        ItemsRequest(
            tuple(msgspec.structs.replace(body, creator="dull") for body in items(2).items)
        )
    )
    page = await server.engine.feed(FeedRequest(ANN, size=2))
    await server.engine.blocking.put(ANN, BlocksRequest(("bore",)))
    events = [
        Event(f"e{card.slot}", card.decision_id, "not_interested", START_MS) for card in page.items
    ]
    await server.engine.feedback(FeedbackRequest(tuple(events)))
    assert (await server.engine.blocking.get(ANN)).creators == ("bore", "dull")
    assert (await server.engine.feed(FeedRequest(ANN))).items == ()


async def test_blocking_nothing_writes_nothing(server: Server) -> None:
    await server.engine.put_user(ANN, ProfileBody())
    answer = await server.engine.blocking.put(ANN, BlocksRequest())
    assert answer == BlocksResponse(ANN, (), ())
    assert server.of(BlockRecord) == []


async def test_whoever_is_unknown_or_deleted_can_block_nobody(server: Server) -> None:
    await server.engine.put_user(ANN, ProfileBody())
    await server.engine.delete_user(ANN)
    for user_id in (ANN, BOB):
        with pytest.raises(ProblemError, match=f"nobody of id {user_id}"):
            await server.engine.blocking.put(user_id, BlocksRequest(("c1",)))
        with pytest.raises(ProblemError, match=f"nobody of id {user_id}"):
            await server.engine.blocking.get(user_id)
    assert server.of(BlockRecord) == []


async def test_a_block_holds_for_its_user_on_every_replica(tmp_path: Path) -> None:
    with serving(tmp_path) as one, serving(tmp_path) as other:
        await stocked(one, 12)
        await one.engine.put_user(ANN, ProfileBody())
        await one.engine.blocking.put(ANN, BlocksRequest(("c1", "c2"), ("tag5",)))
        anns = {c.item_id for c in (await other.engine.feed(FeedRequest(ANN, size=12))).items}
        bobs = {c.item_id for c in (await other.engine.feed(FeedRequest(BOB, size=12))).items}
        assert bobs - anns == {"i1", "i2", "i5"}
