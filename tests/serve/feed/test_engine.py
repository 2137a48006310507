import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from servers import START_MS, Server, Watch, at_once, items, kept_in, serving, stocked

from env.feedback import FIRST_KINDS
from env.records import FeedbackRecord, ItemRecord, PageRecord, UserRecord
from env.users import seen
from env.users.open_cards import PAGE_OPEN_MS
from env.users.state import SESSION_SILENCE_MS
from env.vocabulary import ItemId, Profile, UserId
from serve.feed.engine import FORGED, FORGOTTEN, MAX_DRAWS, NO_SUCH_PAGE, NOTHING_TO_SHOW
from serve.limits import MAX_MS
from serve.wire.codec import ProblemError
from serve.wire.feed import CardBody, Event, FeedbackRequest, FeedRequest, Refusal, SceneBody
from serve.wire.items import ItemBody, ItemsRequest, ItemsResponse
from serve.wire.users import ProfileBody

ANN, BOB = UserId("ann"), UserId("bob")


@pytest.fixture(params=["sqlite", "redis", "toy"], autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on every store."""
    with kept_in(request.param):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def event(card: CardBody, kind: str, event_id: str = "", value: float | None = None) -> Event:
    body = {
        "event_id": event_id or f"{card.slot}-{kind}",
        "decision_id": card.decision_id,
        "kind": kind,
        "at_ms": 5,
        "value": 9.5 if kind == "dwell" and value is None else value,
    }
    return msgspec.convert(body, Event)


async def test_an_unknown_user_is_registered_and_gets_a_page(server: Server) -> None:
    await stocked(server)
    scene = SceneBody(country="MY", language="ms", device="phone")
    page = await server.engine.feed(FeedRequest(ANN, size=7, scene=scene))
    assert [card.slot for card in page.items] == list(range(7))
    assert all(0.0 < card.propensity <= 1.0 for card in page.items)
    assert all(card.item.title == f"Film number {card.item_id[1:]}" for card in page.items)
    (user,) = server.of(UserRecord)
    assert user.user_id == ANN
    assert user.profile == Profile("MY", "ms", device="phone", registered_ms=START_MS)
    (record,) = server.of(PageRecord)
    assert (record.page_id, record.user) == (page.page_id, user.user)
    assert ANN not in record.user


async def test_a_user_is_registered_once_however_many_ask_at_once(server: Server) -> None:
    await stocked(server)
    await asyncio.gather(*(server.engine.feed(FeedRequest(ANN)) for _ in range(20)))
    assert len(server.of(UserRecord)) == 1
    assert len({page.user for page in server.of(PageRecord)}) == 1


async def test_the_same_request_gives_the_same_page(server: Server) -> None:
    await stocked(server)
    first = await server.engine.feed(FeedRequest(ANN, "r1"))
    assert await server.engine.feed(FeedRequest(ANN, "r1", size=3)) == first
    assert await server.engine.feed(FeedRequest(ANN, "r2")) != first
    assert await server.engine.feed(FeedRequest(BOB, "r1")) != first
    assert len(server.of(PageRecord)) == 3


async def test_a_page_that_lost_a_race_is_answered_with_the_winner(tmp_path: Path) -> None:
    watch = Watch()
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(tmp_path, watch=watch)) for _ in range(2)]
        await stocked(replicas[0])
        await replicas[0].engine.put_user(ANN, ProfileBody())
        asked = [replicas[i % 2].engine.feed(FeedRequest(ANN, "r")) for i in range(20)]
        pages = await asyncio.gather(*asked)
        assert all(page == pages[0] for page in pages)
        assert len(replicas[0].of(PageRecord)) == 1
        assert replicas[0].live_states() == replicas[0].folded_states()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)  # it looks into the files
@pytest.mark.slow
async def test_what_a_power_cut_took_back_is_drawn_under_another_id_and_takes_no_feedback(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        await server.engine.put_user(ANN, ProfileBody())
    on_disk = (tmp_path / "nextswipe.db").read_bytes()
    with serving(tmp_path) as server:
        lost = await server.engine.feed(FeedRequest(ANN, "r"))
    (tmp_path / "nextswipe.db").write_bytes(on_disk)  # no fsync had come since
    with serving(tmp_path) as server:
        page = await server.engine.feed(FeedRequest(ANN, "r"))
        assert page.page_id != lost.page_id
        assert await server.engine.feed(FeedRequest(ANN, "r")) == page
        told = FeedbackRequest((event(lost.items[0], "like"), event(page.items[0], "share")))
        answer = await server.engine.feedback(told)
        assert (answer.accepted, answer.duplicates) == (1, 0)
        assert answer.refused == (Refusal("0-like", NO_SUCH_PAGE),)
        (heard,) = server.of(FeedbackRecord)
        assert heard.decision_id == f"{page.page_id}:0"


async def test_a_request_without_an_id_is_a_new_page_each_time(server: Server) -> None:
    await stocked(server)
    pages = [await server.engine.feed(FeedRequest(ANN)) for _ in range(3)]
    assert len({page.page_id for page in pages}) == 3


async def test_nothing_delivered_is_shown_again_while_its_page_is_open(server: Server) -> None:
    await stocked(server)
    shown = [
        card.item_id
        for _ in range(3)
        for card in (await server.engine.feed(FeedRequest(ANN, size=10))).items
    ]
    assert len(set(shown)) == 30


async def test_users_get_nothing_twice_on_any_device_until_all_is_seen_and_then_the_oldest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MAX_RECENT", 4)
    monkeypatch.setattr(seen, "SLACK", 2)
    await stocked(server, 23)
    shown: list[ItemId] = []
    for k, size in enumerate((5, 5, 5, 5, 4)):
        server.watch.now_ms += PAGE_OPEN_MS
        page = await server.engine.feed(FeedRequest(ANN, session_id=f"device {k % 2}", size=size))
        events = tuple(event(card, "leave", f"{k} {card.slot}") for card in page.items)
        assert page.degraded == ("" if k < 4 else "gave way: seen")
        await server.engine.feedback(FeedbackRequest(events))
        shown += [ItemId(card.item_id) for card in page.items]
    assert (len(set(shown[:20])), len(set(shown))) == (20, 23)
    *_, record = server.of(PageRecord)
    told = zip(record.cards, record.reasons, strict=True)
    again = [card.item_id for card, reason in told if reason == "again"]
    assert len(again) == 1
    assert again[0] in shown[:17]  # it is in a set, which keeps no order; later ones in the ring
    assert server.live_states() == server.folded_states()
    (state,) = server.live_states().values()
    assert sum(some.n for some in state.seen_sets) + len(state.seen) // 4 >= 23


async def test_users_do_not_get_their_own_uploads(server: Server) -> None:
    own = tuple(ItemBody(f"own {k}", creator=ANN) for k in range(6))
    await server.engine.shelf.put_many(ItemsRequest((*items(6).items, *own)))
    for user, n in ((ANN, 6), (BOB, 12)):
        page = await server.engine.feed(FeedRequest(user, size=12))
        assert len(page.items) == n
        assert any(card.item_id.startswith("own") for card in page.items) == (user == BOB)


async def test_an_empty_catalogue_gives_an_empty_page_that_says_so(server: Server) -> None:
    page = await server.engine.feed(FeedRequest(ANN))
    assert (page.items, page.degraded) == ((), NOTHING_TO_SHOW)
    assert server.of(PageRecord) == []


async def test_a_visit_goes_on_until_half_an_hour_of_silence(server: Server) -> None:
    await stocked(server)
    await server.engine.feed(FeedRequest(ANN))
    server.watch.now_ms += SESSION_SILENCE_MS
    await server.engine.feed(FeedRequest(ANN))
    server.watch.now_ms += SESSION_SILENCE_MS + 1
    await server.engine.feed(FeedRequest(ANN))
    first, second, third = (page.session for page in server.of(PageRecord))
    assert first == second != third


async def test_a_callers_session_is_kept_under_a_pseudonym_of_its_user(server: Server) -> None:
    await stocked(server)
    for user_id in (ANN, ANN, BOB):
        await server.engine.feed(FeedRequest(user_id, session_id="phone-of-ann"))
    first, second, third = (page.session for page in server.of(PageRecord))
    assert first == second != third
    assert "ann" not in first


async def test_every_kind_of_feedback_is_taken_and_told_apart(server: Server) -> None:
    await stocked(server)
    page = await server.engine.feed(FeedRequest(ANN))
    events = tuple(event(card, kind) for card, kind in zip(page.items, FIRST_KINDS, strict=False))
    answer = await server.engine.feedback(FeedbackRequest(events))
    assert (answer.accepted, answer.duplicates, answer.refused) == (len(events), 0, ())
    records = server.of(FeedbackRecord)
    assert [record.kind for record in records] == list(FIRST_KINDS)
    assert [record.value for record in records] == [0.0, 9.5] + [0.0] * 7
    (first,) = server.of(PageRecord)
    assert {(r.user, r.session) for r in records} == {(first.user, first.session)}
    assert {(r.at_ms, r.client_ms) for r in records} == {(START_MS, 5)}


async def test_an_event_sent_again_counts_once(server: Server) -> None:
    await stocked(server)
    card, other, *_ = (await server.engine.feed(FeedRequest(ANN))).items
    twice = FeedbackRequest((event(card, "like"), event(card, "like"), event(other, "like")))
    first = await server.engine.feedback(twice)
    assert (first.accepted, first.duplicates) == (2, 1)
    again = await server.engine.feedback(twice)
    assert (again.accepted, again.duplicates) == (0, 3)
    assert len(server.of(FeedbackRecord)) == 2


async def test_an_event_id_is_kept_under_a_pseudonym(server: Server) -> None:
    await stocked(server)
    card, *_ = (await server.engine.feed(FeedRequest(ANN))).items
    await server.engine.feedback(FeedbackRequest((event(card, "like", "ann@example.org"),)))
    (record,) = server.of(FeedbackRecord)
    assert "ann" not in record.event_id


async def test_pages_asked_for_at_once_share_no_card(tmp_path: Path) -> None:
    with serving(tmp_path) as one, serving(tmp_path) as other:
        await stocked(one)
        replicas = [one, other]
        asked = [replicas[i % 2].engine.feed(FeedRequest(ANN, size=9)) for i in range(6)]
        pages = await asyncio.gather(*asked)
        shown = [card.item_id for page in pages for card in page.items]
        assert len(shown) == len(set(shown)) == 54
        assert one.live_states() == one.folded_states()


async def test_a_page_is_given_however_often_its_user_changes(server: Server) -> None:
    await stocked(server)
    asked = [server.engine.feed(FeedRequest(ANN, size=1)) for _ in range(3 * MAX_DRAWS)]
    pages = await asyncio.gather(*asked)
    assert len(pages) == len(server.of(PageRecord)) == 3 * MAX_DRAWS
    assert server.live_states() == server.folded_states()


async def test_a_forged_event_is_refused_and_the_rest_is_taken(server: Server) -> None:
    await stocked(server)
    anns = (await server.engine.feed(FeedRequest(ANN))).items
    bobs = (await server.engine.feed(FeedRequest(BOB))).items
    forged = msgspec.structs.replace(anns[0], decision_id=anns[0].decision_id.replace(":0.", ":1."))
    events = (event(anns[0], "like", "1"), event(forged, "like", "2"), event(bobs[0], "like", "3"))
    answer = await server.engine.feedback(FeedbackRequest(events))
    assert (answer.accepted, answer.refused) == (2, (Refusal("2", FORGED),))
    users = [record.user for record in server.of(FeedbackRecord)]
    assert users == [page.user for page in server.of(PageRecord)]


async def test_a_decision_of_a_page_that_is_gone_is_refused(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with serving(old) as server:
        await stocked(server)
        card = (await server.engine.feed(FeedRequest(ANN))).items[0]
    (new / "secret.key").write_bytes((old / "secret.key").read_bytes())
    with serving(new) as server:
        answer = await server.engine.feedback(FeedbackRequest((event(card, "like", "1"),)))
        assert answer.refused == (Refusal("1", NO_SUCH_PAGE),)


async def test_feedback_finds_its_page_on_a_replica_that_did_not_make_it(tmp_path: Path) -> None:
    with serving(tmp_path) as one, serving(tmp_path) as other:
        await stocked(one)
        page = await one.engine.feed(FeedRequest(ANN))
        events = tuple(event(card, "impression") for card in page.items)
        answer = await other.engine.feedback(FeedbackRequest(events))
        assert answer.accepted == len(events)


@pytest.mark.slow
async def test_live_state_is_the_fold_of_the_log_under_several_replicas(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    with serving(tmp_path) as one, serving(tmp_path) as other:
        await stocked(one, 200)
        replicas = [one, other]

        async def visit(user_id: str, n_pages: int) -> None:
            for _ in range(n_pages):
                page = await replicas[rng.integers(2)].engine.feed(FeedRequest(user_id, size=5))
                kinds = rng.choice(FIRST_KINDS, size=12).tolist()
                events = tuple(
                    event(page.items[rng.integers(len(page.items))], kind, f"{k}")
                    for k, kind in enumerate(kinds)
                )
                halves = FeedbackRequest(events[:7]), FeedbackRequest(events[5:])
                answers = await asyncio.gather(
                    *(r.engine.feedback(half) for r, half in zip(replicas, halves, strict=True))
                )
                assert sum(answer.accepted for answer in answers) == len(events)

        await asyncio.gather(*(visit(f"u{i % 6}", 4) for i in range(12)))
        live = one.live_states()
        assert len(live) == 6
        assert live == one.folded_states()


async def test_a_user_who_is_deleted_is_forgotten(server: Server) -> None:
    await stocked(server)
    profile = ProfileBody(country="SG", apps=("secret.app",), tags=("vip",))
    await server.engine.put_user(ANN, profile)
    page = await server.engine.feed(FeedRequest(ANN, "r"))
    await server.engine.feedback(FeedbackRequest((event(page.items[0], "like"),)))
    before = [record for record in server.records() if not isinstance(record, UserRecord)]
    await server.engine.delete_user(ANN)

    assert server.live_states() == server.folded_states() == {}
    with pytest.raises(ProblemError, match="nobody of id ann"):
        await server.engine.get_user(ANN)
    with pytest.raises(ProblemError, match="nobody of id ann"):
        await server.engine.delete_user(ANN)
    first, last = server.of(UserRecord)
    assert (first.user_id, first.profile) == ("", Profile(country="SG"))
    assert (last.user, last.profile) == (first.user, None)
    assert [r for r in server.records() if not isinstance(r, UserRecord)] == before


async def test_feedback_about_a_deleted_user_is_refused(server: Server) -> None:
    await stocked(server)
    anns = (await server.engine.feed(FeedRequest(ANN))).items
    bobs = (await server.engine.feed(FeedRequest(BOB))).items
    await server.engine.delete_user(ANN)
    events = (event(anns[0], "like", "1"), event(bobs[0], "like", "2"))
    answer = await server.engine.feedback(FeedbackRequest(events))
    assert (answer.accepted, answer.refused) == (1, (Refusal("1", FORGOTTEN),))
    assert server.live_states() == server.folded_states()


async def test_a_deleted_user_who_comes_back_is_a_user_else(server: Server) -> None:
    await stocked(server)
    before = await server.engine.feed(FeedRequest(ANN, "r"))
    await server.engine.delete_user(ANN)
    after = await server.engine.feed(FeedRequest(ANN, "r"))
    assert after.page_id != before.page_id
    assert len({page.user for page in server.of(PageRecord)}) == 2


async def test_the_same_profile_again_changes_nothing(server: Server) -> None:
    body = ProfileBody(country="TH")
    first = await server.engine.put_user(ANN, body)
    server.watch.now_ms += 1000
    assert await server.engine.put_user(ANN, body) == first
    assert len(server.of(UserRecord)) == 1
    changed = await server.engine.put_user(ANN, ProfileBody(country="VN"))
    assert changed.profile == Profile(country="VN", registered_ms=START_MS)
    assert await server.engine.get_user(ANN) == changed
    assert server.live_states() == server.folded_states()


async def test_items_put_again_change_nothing(server: Server) -> None:
    shelf = server.engine.shelf
    assert await shelf.put_many(items(50)) == ItemsResponse(50, 0, 0)
    assert await shelf.put_many(items(60)) == ItemsResponse(10, 0, 50)
    assert len(server.of(ItemRecord)) == 60
    changed = msgspec.structs.replace(items(1).items[0], title="Another title")
    assert await shelf.put_many(ItemsRequest((changed,))) == ItemsResponse(0, 1, 0)
    assert (await shelf.get(ItemId("i0"))).title == "Another title"


async def test_an_item_without_an_upload_time_gets_the_time_it_was_first_put(
    server: Server,
) -> None:
    shelf, item_id = server.engine.shelf, ItemId("new")
    assert (await shelf.put(item_id, ItemBody(title="a"))).published_ms == START_MS
    server.watch.now_ms += 1000
    assert (await shelf.put(item_id, ItemBody(title="a"))).published_ms == START_MS
    assert (await shelf.put(item_id, ItemBody(title="b"))).published_ms == START_MS
    assert len(server.of(ItemRecord)) == 2


async def test_an_upload_and_a_takedown_are_true_on_every_replica_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as one, serving(tmp_path) as other:
        await one.engine.shelf.put_many(items(3))
        page = await other.engine.feed(FeedRequest(ANN))
        assert {card.item_id for card in page.items} == {"i0", "i1", "i2"}
        await one.engine.shelf.delete(ItemId("i1"))
        page = await other.engine.feed(FeedRequest(BOB))
        assert {card.item_id for card in page.items} == {"i0", "i2"}
        with pytest.raises(ProblemError, match="no item i1"):
            await other.engine.shelf.get(ItemId("i1"))


async def test_a_replica_that_starts_later_has_the_whole_catalogue(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for first in range(0, 900, 300):
            await server.engine.shelf.put_many(items(300, first))
        await server.engine.shelf.delete(ItemId("i7"))
    with serving(tmp_path) as server:
        assert len(server.engine.shelf) == 900
        assert (await server.engine.lookout.ready()).items == 899
        assert (await server.engine.lookout.ready()).ready


async def test_a_repeated_page_shows_of_a_taken_down_item_that_it_is_gone(server: Server) -> None:
    await stocked(server, 3)
    first = await server.engine.feed(FeedRequest(ANN, "r"))
    await server.engine.shelf.delete(ItemId("i1"))
    again = await server.engine.feed(FeedRequest(ANN, "r"))
    assert [card.decision_id for card in again.items] == [card.decision_id for card in first.items]
    (gone,) = [card.item for card in again.items if card.item_id == "i1"]
    assert (gone.listed, gone.title) == (False, "")


async def test_a_client_that_hangs_up_loses_no_page_and_no_event(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stocked(server)
    page = await server.engine.feed(FeedRequest(ANN))
    write, written = server.store.write, asyncio.Semaphore(0)

    def note_write(*args: Any, **named: Any) -> Any:
        written.release()
        return write(*args, **named)

    with at_once(server.store):
        monkeypatch.setattr(server.store, "write", note_write)
        asks = (
            server.engine.feed(FeedRequest(ANN, "r")),
            server.engine.feedback(FeedbackRequest((event(page.items[0], "like"),))),
        )
        for ask in asks:
            asked = asyncio.create_task(ask)
            await written.acquire()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
    server.store.write(lambda connection: None, durable=True).result()
    assert len(server.of(PageRecord)) == 2
    assert len(server.of(FeedbackRecord)) == 1
    assert server.live_states() == server.folded_states()


async def test_times_in_requests_count_only_under_a_simulated_clock(tmp_path: Path) -> None:
    for simulated, expected in ((False, START_MS), (True, 1_000_000)):
        folder = tmp_path / str(simulated)
        folder.mkdir()
        with serving(folder, simulated=simulated) as server:
            await stocked(server)
            scene = SceneBody(at_ms=1_000_000)
            page = await server.engine.feed(FeedRequest(ANN, scene=scene))
            like = msgspec.structs.replace(event(page.items[0], "like"), at_ms=1_000_000)
            await server.engine.feedback(FeedbackRequest((like,)))
            assert server.of(PageRecord)[0].at_ms == expected
            assert server.of(FeedbackRecord)[0].at_ms == expected
            assert server.of(UserRecord)[0].at_ms == expected


@pytest.mark.parametrize("time_zone", ["", "nowhere", "../../etc/passwd", "\0", "Asia/Tokyo"])
async def test_any_time_and_place_is_served(tmp_path: Path, time_zone: str) -> None:
    with serving(tmp_path, simulated=True) as server:
        await stocked(server)
        await server.engine.put_user(ANN, ProfileBody(time_zone=time_zone))
        for at_ms in (0, MAX_MS):
            for country in ("", "ZZ", "US"):
                scene = SceneBody(at_ms=at_ms, country=country)
                page = await server.engine.feed(FeedRequest(ANN, size=2, scene=scene))
                assert len(page.items) == 2


async def test_a_closed_database_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    health = await server.engine.lookout.ready()
    assert not health.ready
    assert "closed" in health.reason
