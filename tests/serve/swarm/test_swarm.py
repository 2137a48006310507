"""The swarm: everything it reports comes in the order of its times, and nothing stays open."""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from crowds import N_PRESENT, Crowd, Parrot, cards_of, clips, gathered, read_lines, users_of

from env.records import FeedbackRecord, PageRecord, TickRecord
from env.vocabulary import Item, ItemId
from env.world.user import SimulatedUserState
from env.world.world import UserParameters
from replay.join.join import Join
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import RetryLimit, Swarm, SwarmTally
from serve.wire.client import ClientError
from serve.wire.feed import CardBody, Event, FeedRequest, FeedResponse
from serve.wire.items import ItemBody


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    """A crowd that swiped and left."""
    with gathered(tmp_path_factory.mktemp("crowd") / "data") as crowd:
        crowd.swipe(400)
        crowd.leave()
    return crowd


@dataclass
class Flaky(Parrot):
    """A server that refuses every page but each third."""

    n_requests: int = 0

    async def feed(self, request: FeedRequest) -> FeedResponse:
        self.n_requests += 1
        if self.n_requests % 3:
            raise ClientError("no connection")
        return await super().feed(request)


def swarm_of(
    server: Parrot,
    items: list[Item],
    *,
    seed: int = 1,
    start_ms: int = 0,
    patience: RetryLimit | None = None,
) -> Swarm:
    attendance = ConstantAttendance(users_of(items, 30), 10)
    return Swarm(server, attendance, seed=seed, start_ms=start_ms, patience=patience)


def test_the_server_hears_everything_in_the_order_in_which_it_happened(crowd: Crowd) -> None:
    times = [event.at_ms for event in crowd.direct.events]
    assert times == sorted(times)
    told = [
        line.record.at_ms
        for line in read_lines(crowd.config)
        if isinstance(line.record, FeedbackRecord | PageRecord)
    ]
    assert told == sorted(told), "pages are asked for in order as well"
    assert crowd.swarm.clock_ms == times[-1]


def test_everything_is_acknowledged_and_counted(crowd: Crowd) -> None:
    tally, direct = crowd.swarm.tally, crowd.direct
    impressions = sum(event.kind == "impression" for event in direct.events)
    assert tally == SwarmTally(
        cards=impressions,
        pages=len(direct.pages),
        visits=tally.visits,
        acked=len(direct.events),
        refused=0,
        errors=0,
    )
    assert tally.cards >= 200
    assert len({(event.decision_id, event.event_id) for event in direct.events}) == tally.acked
    logged = [line.record for line in read_lines(crowd.config)]
    assert sum(isinstance(record, FeedbackRecord) for record in logged) == tally.acked


def test_after_everybody_left_every_seen_card_closes_with_its_end_known(crowd: Crowd) -> None:
    join = Join(crowd.config.reward)
    for line in read_lines(crowd.config):
        join.fold(line.record)
    join.fold(TickRecord(crowd.swarm.clock_ms + crowd.config.join.settle_ms))
    counts = join.counts
    assert join.n_waiting == 0
    assert counts.seen == counts.closed == crowd.swarm.tally.cards
    assert (counts.censored, counts.late) == (0, 0), "long views are reported while they last"


def test_a_card_is_seen_then_answered_then_left_or_followed_by_the_next(crowd: Crowd) -> None:
    of: dict[str, list[Event]] = defaultdict(list)
    for event in crowd.direct.events:
        of[event.decision_id].append(event)
    assert len(of) == crowd.swarm.tally.cards
    for events in of.values():
        kinds = [event.kind for event in events]
        assert kinds[:2] == ["impression", "dwell"]
        assert "leave" not in kinds[:-1]
        dwells = [event.value for event in events if event.kind == "dwell"]
        assert dwells == sorted(dwells, key=lambda value: value or 0.0)
    lasts = sum(events[-1].kind == "leave" for events in of.values())
    assert N_PRESENT // 2 < lasts <= crowd.swarm.tally.visits


def test_the_same_seed_swipes_the_same_and_another_does_not() -> None:
    def swipe(seed: int) -> list[Event]:
        items = clips(30)
        server = Parrot(cards_of(items[:5]))
        swarm = swarm_of(server, items, seed=seed)
        asyncio.run(swarm.swipe(150))
        asyncio.run(swarm.leave())
        return server.events

    assert swipe(1) == swipe(1) != swipe(2)


def test_the_witness_is_told_who_saw_a_card_before_it_moved_them() -> None:
    items = clips(30)
    seen: dict[str, list[tuple[CardBody, SimulatedUserState]]] = defaultdict(list)

    def witness(card: CardBody, user: UserParameters, state: SimulatedUserState) -> None:
        seen[user.user_id].append((card, state))

    server, rush = Parrot(cards_of(items[:5])), ConstantAttendance(users_of(items, 30), 10)
    swarm = Swarm(server, rush, seed=1, start_ms=0, witness=witness)
    asyncio.run(swarm.swipe(100))
    assert sum(map(len, seen.values())) == swarm.tally.cards
    for told in seen.values():
        positions = [state.position for _, state in told]
        assert positions[0] == 0
        assert all(after in {0, before + 1} for before, after in itertools.pairwise(positions))


def test_an_upload_that_the_world_does_not_know_is_passed_over(tmp_path: Path) -> None:
    with gathered(tmp_path / "data", n_items=30) as crowd:
        crowd.swipe(30)
        upload = ItemId("upload")
        asyncio.run(crowd.replica.engine.shelf.put(upload, ItemBody(title="New")))
        crowd.swipe(100)
    shown = {card.item_id for _, page in crowd.direct.pages for card in page.items}
    decisions = {
        card.decision_id
        for _, page in crowd.direct.pages
        for card in page.items
        if card.item_id == upload
    }
    assert upload in shown
    assert not decisions & {event.decision_id for event in crowd.direct.events}


def test_failures_are_counted_and_the_swarm_goes_on() -> None:
    items = clips(30)
    server = Parrot(cards_of(items[:5]))
    patience = RetryLimit(windows=1_000, first_pause_s=0.0)
    swarm = swarm_of(server, items, patience=patience)
    asyncio.run(swarm.swipe(50))
    server.is_down = True
    with pytest.raises(TimeoutError):
        asyncio.run(swarm.swipe(10_000, on_window=give_up))
    failed = swarm.tally
    assert failed.errors > 20
    assert failed.acked == len(server.events)
    server.is_down = False
    asyncio.run(swarm.swipe(50))
    assert swarm.tally.errors == failed.errors
    assert swarm.tally.cards >= failed.cards + 50


def test_a_server_that_stays_down_is_given_up_with_the_last_reason() -> None:
    items = clips(30)
    server = Parrot(cards_of(items[:5]))
    swarm = swarm_of(server, items, patience=RetryLimit(windows=3, first_pause_s=0.0))
    asyncio.run(swarm.swipe(50))
    server.is_down = True
    with pytest.raises(ConnectionError, match=r"gave up after asking 3 times .*: no connection"):
        asyncio.run(swarm.swipe(10_000))


def test_a_server_that_comes_back_in_time_is_not_given_up() -> None:
    items = clips(30)
    server = Flaky(cards_of(items[:5]))
    swarm = swarm_of(server, items, patience=RetryLimit(windows=3, first_pause_s=0.0))
    asyncio.run(swarm.swipe(100))
    assert swarm.tally.errors > 3, "though not for three windows in a row"
    assert swarm.tally.cards >= 100


def test_a_server_of_another_catalogue_is_given_up() -> None:
    items = clips(30)
    server = Parrot(cards_of([Item(ItemId(f"other {k}")) for k in range(5)]))
    swarm = swarm_of(server, items, patience=RetryLimit(windows=3, first_pause_s=0.0))
    with pytest.raises(ConnectionError, match="hold no item of the swarm's world"):
        asyncio.run(swarm.swipe(1))


def test_the_sessions_of_two_runs_differ_and_of_one_repeated_do_not() -> None:
    def sessions(seed: int, start_ms: int) -> set[str]:
        items = clips(30)
        server = Parrot(cards_of(items[:5]))
        swarm = swarm_of(server, items, seed=seed, start_ms=start_ms)
        asyncio.run(swarm.swipe(50))
        return {request.session_id or "" for request in server.asked}

    first = sessions(1, 1_000)
    assert len(first) >= 10
    assert sessions(1, 1_000) == first
    assert not first & sessions(1, 2_000)
    assert not first & sessions(2, 1_000)


def give_up(tally: SwarmTally) -> None:
    if tally.errors > 20:
        raise TimeoutError


def test_a_swarm_needs_more_users_than_are_present_at_a_time() -> None:
    users = users_of(clips(5), 10)
    with pytest.raises(ValueError, match="expected more than 10 users, got 10"):
        ConstantAttendance(users, 10)
