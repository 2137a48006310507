"""What is blocked, turned away or taken down while a page waits for its commit is on no page."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from servers import ONE_ARM, Server, Watch, items, kept_in, open_kind, serving, stocked

from env.items.catalogue import Catalogue
from env.records import FeedbackKind, PageRecord
from env.users.state import UserState
from env.vocabulary import CreatorId, ItemId, PageId, SessionId, UserId, UserKey
from policies.bandit.settings import HybridBanditArgs
from serve.config import Config, DataSettings
from serve.feed.engine import CHANGING, MAX_DRAWS, Engine
from serve.feed.pipeline import Pipeline
from serve.learn.collaborative import Generation
from serve.learn.served import Folds, initial_serving_model
from serve.wire.feed import Event, FeedbackRequest, FeedRequest, FeedResponse, SceneBody
from serve.wire.items import ItemBody, ItemsRequest
from serve.wire.users import BlocksRequest, ProfileBody

ANN = UserId("ann")
N_ITEMS = 200
Meddle = Callable[[PageRecord], Coroutine[object, object, object]]


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on both stores."""
    with kept_in(request.param):
        yield


class Meddled:
    """A pipeline, after each of whose draws something else is done and committed first."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.meddle: Meddle | None = None
        self.drawn: list[PageRecord] = []
        self.given_out: list[PageRecord] = []
        self.origins: list[str] = []

    @property
    def catalogue(self) -> Catalogue:
        return self._pipeline.catalogue

    @property
    def folds(self) -> Folds:
        return self._pipeline.folds

    @property
    def learned(self) -> Generation:
        return self._pipeline.learned

    def page(
        self,
        request: FeedRequest,
        user: UserKey,
        state: UserState,
        *,
        session: SessionId,
        page_id: PageId,
        now_ms: int,
        origin: str,
    ) -> PageRecord | None:
        page = self._pipeline.page(
            request,
            user,
            state,
            session=session,
            page_id=page_id,
            now_ms=now_ms,
            origin=origin,
        )
        self.origins.append(origin)
        if page is not None:
            self.drawn.append(page)
            if self.meddle is not None:
                with ThreadPoolExecutor(1) as pool:  # the loop of the draw stands still meanwhile
                    pool.submit(asyncio.run, self.meddle(page)).result()
        return page

    def committed(self, page: PageRecord) -> None:
        self.given_out.append(page)
        self._pipeline.committed(page)


class Race:
    """An engine whose draws are meddled with through another replica over the same folder."""

    def __init__(self, engine: Engine, maker: Meddled, other: Server) -> None:
        self.engine = engine
        self.maker = maker
        self.other = other

    def once(self, meddle: Meddle) -> None:
        """Meddle with the first draw only."""

        async def first(page: PageRecord) -> None:
            self.maker.meddle = None
            await meddle(page)

        self.maker.meddle = first


@pytest.fixture
async def stock(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server, N_ITEMS)
        await server.engine.put_user(ANN, ProfileBody())


@pytest.fixture
def race(tmp_path: Path, stock: None) -> Iterator[Race]:
    watch = Watch()
    config = Config(data=DataSettings(str(tmp_path)), experiment=ONE_ARM)
    with (
        serving(tmp_path, watch=watch) as other,
        open_kind(tmp_path, watch) as store,
    ):
        maker = Meddled(
            Pipeline(
                config, draw_key=bytes(32), served=initial_serving_model(HybridBanditArgs(bits=12))
            )
        )
        engine = Engine(config, store, maker, now_ms=watch)
        yield Race(engine, maker, other)


async def test_an_item_that_is_taken_down_before_the_commit_is_not_on_the_page(race: Race) -> None:
    async def take_down(page: PageRecord) -> None:
        await race.other.engine.shelf.delete(page.cards[3].item_id)

    race.once(take_down)
    answer = await race.engine.feed(FeedRequest(ANN))
    first, second = race.maker.drawn
    assert len(answer.items) == 10
    assert first.cards[3].item_id not in {card.item_id for card in answer.items}
    assert race.other.of(PageRecord) == [second]
    assert race.other.live_states() == race.other.folded_states()


@pytest.mark.parametrize("change", [{"listed": False}, {"markets": ("GB",)}])
async def test_an_item_that_may_not_be_shown_any_more_is_not_on_the_page(
    race: Race, change: dict[str, object]
) -> None:
    hidden: list[str] = []

    async def hide(page: PageRecord) -> None:
        item_id = page.cards[0].item_id
        (body,) = (body for body in items(N_ITEMS).items if body.item_id == item_id)
        await race.other.engine.shelf.put(item_id, msgspec.structs.replace(body, **change))
        hidden.append(item_id)

    race.once(hide)
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(race.maker.drawn) == 2
    assert hidden[0] not in {card.item_id for card in answer.items}


async def test_who_is_blocked_before_the_commit_is_not_on_the_page(race: Race) -> None:
    async def block(page: PageRecord) -> None:
        await race.other.engine.blocking.put(ANN, BlocksRequest((page.cards[2].creator,)))

    race.once(block)
    answer = await race.engine.feed(FeedRequest(ANN))
    first, _ = race.maker.drawn
    assert len(answer.items) == 10
    assert first.cards[2].creator not in {card.item.creator for card in answer.items}
    assert race.other.live_states() == race.other.folded_states()


async def test_a_tag_that_is_blocked_before_the_commit_is_not_on_the_page(race: Race) -> None:
    async def block(page: PageRecord) -> None:
        await race.other.engine.blocking.put(ANN, BlocksRequest(tags=page.cards[0].tags))

    race.once(block)
    answer = await race.engine.feed(FeedRequest(ANN))
    first, _ = race.maker.drawn
    (tag,) = first.cards[0].tags
    assert len(answer.items) == 10
    assert all(tag not in card.item.tags for card in answer.items)


async def test_uploads_that_are_not_on_a_page_do_not_have_it_drawn_again(race: Race) -> None:
    async def upload(page: PageRecord) -> None:
        await race.other.engine.shelf.put_many(items(20, first=N_ITEMS))

    race.once(upload)
    answer = await race.engine.feed(FeedRequest(ANN))
    (drawn,) = race.maker.drawn
    assert answer.page_id == drawn.page_id


async def test_a_page_whose_items_go_faster_than_it_is_drawn_is_empty_and_says_so(
    race: Race,
) -> None:
    async def take_down(page: PageRecord) -> None:
        await race.other.engine.shelf.delete(page.cards[0].item_id)

    race.maker.meddle = take_down
    answer = await race.engine.feed(FeedRequest(ANN, "r"))
    assert len(race.maker.drawn) == MAX_DRAWS
    assert (answer.items, answer.degraded) == ((), CHANGING)
    assert race.other.of(PageRecord) == []
    race.maker.meddle = None
    assert len((await race.engine.feed(FeedRequest(ANN, "r"))).items) == 10


@pytest.mark.parametrize("what", ["creators", "tags"])
async def test_the_last_draw_shows_nothing_that_was_blocked_either(race: Race, what: str) -> None:
    async def block(page: PageRecord) -> None:
        if len(race.maker.drawn) < MAX_DRAWS:
            body = BlocksRequest(creators=(f"nobody {len(race.maker.drawn)}",))
        elif what == "creators":
            body = BlocksRequest(creators=(page.cards[0].creator,))
        else:
            body = BlocksRequest(tags=tuple(f"#{tag.upper()}" for tag in page.cards[0].tags))
        await race.other.engine.blocking.put(ANN, body)

    race.maker.meddle = block
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(race.maker.drawn) == MAX_DRAWS
    assert (answer.items, answer.degraded) == ((), CHANGING)
    assert race.other.of(PageRecord) == []


async def test_the_last_draw_is_given_to_whoever_blocks_others_without_pause(race: Race) -> None:
    async def block(page: PageRecord) -> None:
        body = BlocksRequest(creators=(f"nobody {len(race.maker.drawn)}",))
        await race.other.engine.blocking.put(ANN, body)

    race.maker.meddle = block
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(race.maker.drawn) == MAX_DRAWS
    assert len(answer.items) == 10
    assert [page.page_id for page in race.other.of(PageRecord)] == [answer.page_id]


@pytest.mark.parametrize("shown", ["itself", "its near-duplicate"])
async def test_the_last_draw_shows_nothing_that_was_turned_away_meanwhile(
    race: Race, shown: str
) -> None:
    before = await the_first_page_of_ten(race)
    if shown != "itself":
        await replace_by_near_duplicates(race)

    race.maker.meddle = at_last(race, "not_interested", before.items[0].decision_id)
    answer = await race.engine.feed(FeedRequest(ANN))
    (last,) = race.maker.drawn[-1:]
    assert before.items[0].item_id in {card.item_id.removeprefix("near-") for card in last.cards}
    assert len(race.maker.drawn) == 1 + MAX_DRAWS
    assert (answer.items, answer.degraded) == ((), CHANGING)
    race.maker.meddle = None
    after = await race.engine.feed(FeedRequest(ANN))
    shown_then = {card.item_id.removeprefix("near-") for card in after.items}
    assert shown_then == {card.item_id for card in before.items[1:]}


async def test_only_the_page_that_is_given_out_is_on_its_way(race: Race) -> None:
    async def block(page: PageRecord) -> None:
        body = BlocksRequest(creators=(page.cards[0].creator,))
        await race.other.engine.blocking.put(ANN, body)

    race.once(block)
    answer = await race.engine.feed(FeedRequest(ANN, "r"))
    assert len(race.maker.drawn) == 2
    assert race.maker.given_out == race.maker.drawn[1:]
    assert race.maker.given_out[0].page_id == answer.page_id
    assert await race.engine.feed(FeedRequest(ANN, "r")) == answer
    assert len(race.maker.given_out) == 1


async def test_the_last_draw_is_given_to_whoever_likes_something_meanwhile(race: Race) -> None:
    before = await the_first_page_of_ten(race)
    race.maker.meddle = at_last(race, "like", before.items[0].decision_id)
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(race.maker.drawn) == 1 + MAX_DRAWS
    assert len(answer.items) == 10


@pytest.mark.parametrize(
    ("change", "is_given"),
    [
        ({"birth_year": 2020}, False),
        ({"country": "GB"}, False),
        ({"language": "en"}, False),
        ({"device": "phone"}, True),
    ],
)
async def test_the_last_draw_is_for_the_country_language_and_age_that_were_told_meanwhile(
    race: Race, change: dict[str, object], is_given: bool
) -> None:
    async def describe(page: PageRecord) -> None:
        if len(race.maker.drawn) < MAX_DRAWS:
            await block_somebody_else(race)
        else:
            body = msgspec.structs.replace(ProfileBody(), **change)
            await race.other.engine.put_user(ANN, body)

    race.maker.meddle = describe
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(race.maker.drawn) == MAX_DRAWS
    assert (len(answer.items), answer.degraded) == ((10, "") if is_given else (0, CHANGING))


async def test_a_block_that_is_taken_back_lets_the_creator_on_the_page(race: Race) -> None:
    creators = tuple(CreatorId(f"c{k}") for k in range(100))
    await race.engine.blocking.put(ANN, BlocksRequest(creators))
    others = {card.item.creator for card in (await race.engine.feed(FeedRequest(ANN))).items}
    assert others.isdisjoint(creators)
    await race.engine.blocking.put(ANN, BlocksRequest(creators, wanted=True))
    await race.other.engine.shelf.put_many(
        ItemsRequest(
            tuple(
                msgspec.structs.replace(body, listed=False)
                for body in items(N_ITEMS).items
                if body.creator not in creators
            )
        )
    )
    answer = await race.engine.feed(FeedRequest(ANN))
    assert len(answer.items) == 10
    assert {card.item.creator for card in answer.items} <= set(creators)


async def test_a_debut_through_one_replica_is_a_debut_on_the_other_at_its_next_request(
    race: Race,
) -> None:
    await race.other.engine.shelf.put_many(
        ItemsRequest(
            tuple(msgspec.structs.replace(body, listed=False) for body in items(N_ITEMS).items)
        )
    )
    new = await race.other.engine.shelf.put(ItemId("new"), ItemBody(title="New"))
    answer = await race.engine.feed(FeedRequest(ANN))
    assert [card.item_id for card in answer.items] == [new.item_id]
    index = race.maker.catalogue.index_of(new.item_id)
    assert index is not None
    assert race.maker.catalogue.debuts[index]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)  # it looks into the files
async def test_an_address_is_told_to_the_maker_as_the_pseudonym_of_its_block(
    race: Race, tmp_path: Path
) -> None:
    for address in ("192.0.2.7", "192.0.2.99", "192.0.3.7", "2001:db8::1", ""):
        await race.engine.feed(FeedRequest(ANN, scene=SceneBody(address=address)))
    first, same, other, version_6, none = race.maker.origins
    assert first == same
    assert len({first, other, version_6}) == 3
    assert all(len(bytes.fromhex(origin)) == 4 for origin in (first, other, version_6))
    assert none == ""
    written = _written(tmp_path)
    assert ANN.encode() in written
    assert b"192.0." not in written
    assert b"2001:db8" not in written


async def block_somebody_else(race: Race) -> None:
    body = BlocksRequest(creators=(f"nobody {len(race.maker.drawn)}",))
    await race.other.engine.blocking.put(ANN, body)


def ten_items(**changes: object) -> list[ItemBody]:
    """Return ten items whose titles are long enough to name them."""
    return [
        msgspec.structs.replace(body, title=f"A film of number {k}", **changes)
        for k, body in enumerate(items(10).items)
    ]


async def the_first_page_of_ten(race: Race) -> FeedResponse:
    """Unlist all but ten items, and return the page that shows these."""
    others = items(N_ITEMS).items[10:]
    unlisted = [msgspec.structs.replace(body, listed=False) for body in others]
    await race.other.engine.shelf.put_many(ItemsRequest((*ten_items(), *unlisted)))
    page = await race.engine.feed(FeedRequest(ANN))
    assert len(page.items) == 10
    return page


async def replace_by_near_duplicates(race: Race) -> None:
    """Unlist the ten items too, and put others like them."""
    near = [
        msgspec.structs.replace(
            body, item_id=f"near-{body.item_id}", creator=f"copier {body.item_id}"
        )
        for body in ten_items()
    ]
    bodies = (*ten_items(listed=False), *near)
    await race.other.engine.shelf.put_many(ItemsRequest(bodies))


def at_last(race: Race, kind: FeedbackKind, decision_id: str) -> Meddle:
    """Have another user blocked after each draw, and something said of a card after the last."""
    n_before = len(race.maker.drawn)

    async def meddle(page: PageRecord) -> None:
        if len(race.maker.drawn) < n_before + MAX_DRAWS:
            await block_somebody_else(race)
        else:
            event = Event("e", decision_id, kind, 0)
            said = await race.other.engine.feedback(FeedbackRequest((event,)))
            assert said.accepted == 1

    return meddle


def _written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
