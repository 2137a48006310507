import msgspec
import numpy as np
import pytest
from served_worlds import CONFIG, make

from env.fair_start.audience import Audiences
from env.fair_start.reach import Reach
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.items.catalogue import Catalogue
from env.records import PageRecord
from env.vocabulary import Item, ItemId, Scene
from policies.candidates.context import UserHistory
from policies.candidates.eligibility import Eligibility, Eligible
from serve.feed.pipeline import Pipeline
from tests.studies.fair_start.attack import (
    OLD,
    Attacked,
    AttackRuns,
    AttackSize,
    Boosts,
    FakeAccounts,
)
from tests.studies.fair_start.breakout import BreakoutSize, ReachWatch, is_inside, run_breakout
from tests.studies.served_world.world import ServedWorld

SIZE = BreakoutSize(
    users=120,
    shard=20,
    cards=700,
    cards_a_day=600,
    items=300,
    uploads=24,
    old_h=6.0,
    attack=AttackRuns(
        videos=2,
        users=60,
        shard=20,
        cards_a_day=800,
        items=300,
        warm_days=0.1,
        uploads_a_day=40.0,
        days=0.4,
        attack=AttackSize(accounts=12, origins=3, hours=3.0, pages=12),
        old=AttackSize(accounts=12, origins=0, tenure_days=400.0, hours=3.0, pages=16),
    ),
)


class Elsewhere:
    """Watches pages as they are, and as if each had been drawn for another user."""

    def __init__(self, scenes: dict[str, dict[str, str]]) -> None:
        self.real = ReachWatch(Pools())
        self.elsewhere = {name: ReachWatch(Pools()) for name in scenes}
        self.on_trial: list[Item] = []
        self._scenes = scenes

    def follow(self, audiences: Audiences) -> None:
        for watch in (self.real, *self.elsewhere.values()):
            watch.follow(audiences)

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        self.real.see(page, pipeline)
        for name, watch in self.elsewhere.items():
            scene = msgspec.structs.replace(page.scene, **self._scenes[name])
            watch.see(msgspec.structs.replace(page, scene=scene), pipeline)
        debuts = pipeline.catalogue.debuts
        index = [pipeline.catalogue.index_of(card.item_id) for card in page.cards]
        self.on_trial += [pipeline.catalogue.item(k) for k in index if k is not None and debuts[k]]


class Guests:
    """Keeps the pages of fake accounts."""

    def __init__(self) -> None:
        self.pages: list[PageRecord] = []

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        if page.user.startswith("fake-"):
            self.pages.append(page)


class DeafEligibility(Eligibility):
    """Wrong: hears no language."""

    def eligible(self, known: UserHistory, reach: Reach, scene: Scene, at_least: int) -> Eligible:
        scene = msgspec.structs.replace(scene, language="")
        return super().eligible(known, reach, scene, at_least)


def open_to_all(audiences: Audiences, catalogue: Catalogue) -> Reach:
    """Wrong: all pools are the open one, and nothing is stopped."""
    n = len(catalogue)
    return Reach(
        level=np.full(n, OPEN_LEVEL),
        stopped=np.zeros(n, dtype=np.bool_),
        owed=np.zeros(n),
        due_ms=np.zeros(n, dtype=np.int64),
        price=np.zeros(n),
    )


def watched(cards: int) -> ReachWatch:
    """Return what a watch saw of a world in which 200 uploads a day come."""
    watch = ReachWatch(CONFIG.pools)
    world = make(witness=watch, uploads_a_day=200.0)
    watch.follow(world.learning.audiences)
    world.run(cards)
    return watch


def attacked(
    *, guarded: int, guarded_calm: int, unguarded: int, unguarded_calm: int, old: int | None = None
) -> Attacked:
    by_old = None if old is None else 5
    return Attacked(
        "a", "US", 0.5, (5, 5), guarded, guarded_calm, unguarded, unguarded_calm, by_old, old, 0.2
    )


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
    assert sum(result.missed.values()) == round((1.0 - result.recall) * result.top)
    assert 0.0 <= result.recall <= 1.0
    assert result.recall * result.top == pytest.approx(result.precision * result.reached)
    assert result.violations == 0
    assert result.stopped_drawn == 0
    assert result.on_trial > 0
    assert len(result.attacked) == 2
    for video in result.attacked:
        assert 0.2 < video.rank < 0.8
        assert 0.2 < video.fakes_per_user < 12
        assert min(video.pushed) > 0
    boosts = Boosts.of(result.attacked)
    assert result.boost_guarded == pytest.approx(boosts.guarded)
    assert result.boost_guarded_se == boosts.guarded_se
    assert [video.old is not None for video in result.attacked] == [True, False]
    assert result.attacked[0].pushed_by_old
    assert result.boost_old_accounts == boosts.old
    assert boosts.old is not None
    assert len(told) == 6


def test_cards_outside_of_their_pool_are_counted() -> None:
    watch = Elsewhere(
        {
            "abroad": {"country": "TH"},
            "nowhere": {"country": ""},
            "in another language": {"language": "xx"},
            "in an unknown language": {"language": ""},
        }
    )
    world = make(witness=watch, uploads_a_day=200.0)
    watch.follow(world.learning.audiences)
    world.run(500)
    n = len(watch.on_trial)
    assert n > 10
    assert {seen.on_trial for seen in (watch.real, *watch.elsewhere.values())} == {n}
    assert watch.real.outside == 0
    n_foreign = sum(item.country != "TH" for item in watch.on_trial)
    assert {name: seen.outside for name, seen in watch.elsewhere.items()} == {
        "abroad": n_foreign,
        "nowhere": n,
        "in another language": n,
        "in an unknown language": 0,
    }
    assert n_foreign > 0


@pytest.mark.parametrize(
    ("level", "country", "language", "inside"),
    [
        (0, "GB", "en", True),
        (0, "GB", "", True),
        (0, "GB", "fr", False),
        (0, "US", "en", False),
        (1, "GB", "fr", True),
        (1, "US", "en", False),
        (1, "", "en", False),
        (2, "US", "fr", True),
        (2, "ID", "en", False),
        (2, "", "en", False),
    ],
)
def test_each_pool_has_its_users(level: int, country: str, language: str, inside: bool) -> None:
    item, scene = Item(ItemId("a"), country="GB", language="en"), Scene(0, country, language)
    assert is_inside(item, level, scene, Pools()) == inside
    mute = msgspec.structs.replace(item, language="")
    assert is_inside(mute, level, scene, Pools()) == (inside or (level, country) == (0, "GB"))
    assert is_inside(msgspec.structs.replace(item, country=""), level, scene, Pools())


def test_an_eligibility_that_hears_no_language_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.feed.pipeline.Eligibility", DeafEligibility)
    watch = watched(400)
    assert watch.outside > 0
    assert watch.on_trial > watch.outside


def test_a_reach_that_is_itself_wrong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns that pages are drawn by are not what they are judged by."""
    monkeypatch.setattr(Audiences, "aligned", open_to_all)
    watch = watched(400)
    assert watch.outside > 0


def test_a_watch_that_follows_no_fold_judges_nothing() -> None:
    with pytest.raises(ValueError, match="call `follow` first"):
        make(witness=ReachWatch(Pools())).turn()


def test_fake_accounts_ask_until_they_are_shown_the_video(
    pushed: tuple[ServedWorld, FakeAccounts],
) -> None:
    world, farm = pushed
    assert 0 < farm.n_pushed <= 20
    items = world.learning.states.aligned(world.pipeline.catalogue)
    row = world.size.items
    real = int(np.count_nonzero(world.shown.row == row))
    upload = next(u for u in world.learning.audiences.uploads() if world.row_of(u.item_id) == row)
    assert real <= upload.impressions <= real + farm.n_pushed
    assert upload.impressions > real, "the fold hears of fake accounts like of others"
    assert items.impressions[row] <= farm.n_pushed + real, "and so are the likes"


def test_fake_accounts_are_not_among_the_users(pushed: tuple[ServedWorld, FakeAccounts]) -> None:
    world, farm = pushed
    counts = world.learning.join.counts
    assert counts.seen > world.n_cards
    assert counts.seen - world.n_cards <= 20 * 3 * world.size.page
    assert counts.late == counts.censored == 0
    assert world.shown.place.max() < world.size.users
    assert farm.n_pushed


def test_old_accounts_tell_nothing_that_sets_them_apart() -> None:
    guests = Guests()
    world = make(witness=guests, uploads_a_day=40.0, cards_a_day=2_000)
    size = msgspec.structs.replace(OLD, accounts=8, hours=3.0)
    assert OLD.origins == OLD.accounts
    farm = FakeAccounts(size, row=world.size.items)
    world.guests.append(farm)
    world.run_days(0.3)
    assert farm.n_pushed > 0
    assert {page.user for page in guests.pages} == {
        f"fake-{world.size.items}-{k}" for k in range(8)
    }
    scenes = [page.scene for page in guests.pages]
    assert len({scene.origin for scene in scenes} - {""}) == 8
    assert {scene.tenure_days for scene in scenes} == {400}
    cheap = AttackSize()
    assert (cheap.tenure_days, cheap.origins) < (CONFIG.guards.young_days, cheap.accounts)


def test_boosts_are_those_of_all_videos_together() -> None:
    one = attacked(guarded=110, guarded_calm=100, unguarded=900, unguarded_calm=90)
    other = attacked(guarded=90, guarded_calm=100, unguarded=300, unguarded_calm=10, old=250)
    both = Boosts.of([one, other])
    assert both == Boosts(1.0, 12.0, 2.5, both.guarded_se)
    assert both.guarded_se == pytest.approx(0.1), "10 more and 10 fewer, of 100 each"
    assert Boosts.of([one, one]).guarded_se == pytest.approx(0.0)
    unseen = attacked(guarded=3, guarded_calm=0, unguarded=4, unguarded_calm=0)
    assert Boosts.of([unseen]) == Boosts(3.0, 4.0, None)
