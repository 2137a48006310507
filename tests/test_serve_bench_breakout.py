import msgspec
import numpy as np
import pytest
from served_worlds import CONFIG, make

from env.audience_args import Pools
from env.records import PageRecord
from serve.bench.attack import Attacked, AttackRuns, boosts
from serve.bench.breakout import BreakoutSize, run_breakout
from serve.bench.fake_accounts import AttackSize, FakeAccounts
from serve.bench.reach_watch import ReachWatch
from serve.bench.served_world import ServedWorld
from serve.pipeline import Pipeline

SIZE = BreakoutSize(
    people=120,
    shard=20,
    cards=1_200,
    cards_a_day=1_000,
    items=400,
    uploads=30,
    old_h=6.0,
    attack=AttackRuns(
        videos=2,
        people=60,
        shard=20,
        cards_a_day=800,
        items=400,
        warm_days=0.1,
        uploads_a_day=40.0,
        days=0.5,
        attack=AttackSize(accounts=12, origins=3, hours=3.0),
    ),
)


class Abroad:
    """Watches pages as they are, and as if they had been drawn for people of one country."""

    def __init__(self, country: str) -> None:
        self.real, self.abroad = ReachWatch(Pools()), ReachWatch(Pools())
        self.homes: list[str] = []
        self._country = country

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        self.real.see(page, pipeline)
        scene = msgspec.structs.replace(page.scene, country=self._country)
        self.abroad.see(msgspec.structs.replace(page, scene=scene), pipeline)
        debuts = pipeline.catalogue.debuts
        index = [pipeline.catalogue.index_of(card.item_id) for card in page.cards]
        self.homes += [
            pipeline.catalogue.item(k).country for k in index if k is not None and debuts[k]
        ]


@pytest.fixture(scope="module")
def pushed() -> tuple[ServedWorld, FakeAccounts]:
    world = make(uploads_a_day=40.0, cards_a_day=2_000)
    farm = FakeAccounts(AttackSize(accounts=20, origins=4, hours=6.0), row=world.size.items)
    world.guests.append(farm)
    world.run_days(0.6)
    return world, farm


def test_uploads_go_through_the_pools_and_an_attack_is_measured() -> None:
    told: dict[str, tuple[int, int]] = {}

    def advance(step: str, done: int, total: int) -> None:
        told[step] = done, total

    result = run_breakout(SIZE, preset="kuairand", seed=1, advance=advance, config=CONFIG)
    assert result.cards >= SIZE.cards
    assert result.judged >= result.top >= 1
    assert sum(result.levels) == sum(result.stopped.values()) == result.judged
    assert result.reached == sum(result.levels[2:])
    assert 0.0 <= result.recall <= 1.0
    assert result.recall * result.top == pytest.approx(result.precision * result.reached)
    assert result.violations == 0
    assert result.stopped_drawn == 0
    assert result.on_trial > 0
    assert 1 <= len(result.attacked) <= 2
    for video in result.attacked:
        assert 0.2 < video.rank < 0.8
        assert min(video.pushed) > 0
    assert result.boost_guarded == pytest.approx(boosts(result.attacked)[0])
    assert len(told) == 5


def test_cards_outside_of_their_pool_are_counted() -> None:
    watch = Abroad("TH")
    make(witness=watch, uploads_a_day=200.0).run(500)
    assert watch.real.outside == 0
    assert watch.real.on_trial == watch.abroad.on_trial == len(watch.homes) > 10
    assert watch.abroad.outside == sum(home != "TH" for home in watch.homes) > 5


def test_fake_accounts_ask_until_they_are_shown_the_video(
    pushed: tuple[ServedWorld, FakeAccounts],
) -> None:
    world, farm = pushed
    assert 0 < farm.n_pushed <= 20
    impressions = world.learning.states.aligned(world.pipeline.catalogue)
    row = world.size.items
    real = int(np.count_nonzero(world.shown.row == row))
    upload = next(u for u in world.learning.audiences.uploads() if world.row_of(u.item_id) == row)
    assert real <= upload.impressions <= real + farm.n_pushed
    assert upload.impressions > real, "the fold hears of fake accounts like of others"
    assert impressions.likes[row] <= farm.n_pushed + real


def test_fake_accounts_are_not_among_the_people(pushed: tuple[ServedWorld, FakeAccounts]) -> None:
    world, farm = pushed
    counts = world.learning.join.counts
    assert counts.seen > world.n_cards
    assert counts.seen - world.n_cards <= 20 * 3 * world.size.page
    assert counts.late == counts.censored == 0
    assert world.shown.place.max() < world.size.people
    assert farm.n_pushed


def test_boosts_are_those_of_all_videos_together() -> None:
    one = Attacked("a", "US", 0.5, (5, 5), 110, 100, 900, 90)
    other = Attacked("b", "ID", 0.5, (5, 5), 90, 100, 300, 10)
    assert boosts([one, other]) == (1.0, 12.0)
    unseen = Attacked("c", "VN", 0.5, (5, 5), 3, 0, 4, 0)
    assert boosts([unseen]) == (3.0, 4.0)
