from dataclasses import fields

import msgspec
import numpy as np
import pytest
from served_worlds import CONFIG, SIZE, make
from small_worlds import PRESET

from env.columns.schema import VECTOR_DIM
from env.interface import page_seed, redraw
from env.pages.records import Blocks
from env.records import PageRecord
from env.vocabulary import Ints
from env.world.generated import MARKETS
from serve.feed.pipeline import Pipeline
from tests.studies.fair_start.true_quality import Quality
from tests.studies.served_world.cards import Shown, first_cards
from tests.studies.served_world.world import DRAW_KEY, START_MS, ServedWorld, WorldSize


class Pages:
    """Keeps every page, and draws it again while its version is served."""

    def __init__(self) -> None:
        self.pages: list[PageRecord] = []
        self.mismatches = 0
        self._blocks = Blocks()
        self._n_blocks = 0

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        self.pages.append(page)
        for index in range(self._n_blocks, len(pipeline.catalogue)):
            self._blocks.add(pipeline.catalogue.card(index).block)
        self._n_blocks = len(pipeline.catalogue)
        whole = self._blocks.page(page)
        again = redraw(whole, pipeline.served.policy, page_seed(DRAW_KEY, page.page_id))
        self.mismatches += again != whole.decisions


@pytest.fixture(scope="module")
def watched() -> tuple[ServedWorld, Pages]:
    pages = Pages()
    world = make(witness=pages)
    world.run(1_500)
    return world, pages


def test_every_page_is_drawn_again_from_its_record(watched: tuple[ServedWorld, Pages]) -> None:
    world, pages = watched
    assert len(pages.pages) > 250
    assert pages.mismatches == 0
    assert len({page.page_id for page in pages.pages}) == len(pages.pages)
    assert 1_500 <= world.n_cards <= sum(len(page.drawn) for page in pages.pages)


def test_the_exact_reward_is_the_mean_of_what_happens(watched: tuple[ServedWorld, Pages]) -> None:
    shown = watched[0].shown
    noise = shown.reward - shown.expected
    for part in (noise, noise[shown.expected > np.median(shown.expected)]):
        assert abs(part.mean()) < 4.0 * part.std() / np.sqrt(len(part))
    assert shown.expected.std() > 0.1


def test_what_is_seen_is_what_was_drawn_up_to_where_users_left(
    watched: tuple[ServedWorld, Pages],
) -> None:
    world, pages = watched
    shown, n_short = world.shown, 0
    for page in pages.pages:
        place, _, life = page.user.partition(".")
        mine = shown.take((shown.place == int(place)) & (shown.life == int(life)))
        since_ms = mine.at_ms - page.at_ms
        seen = mine.row[(since_ms > 0) & (since_ms < SIZE.turn_ms)].tolist()
        drawn = [world.row_of(card.item_id) for card in page.cards]
        assert seen, "the first card of a page is seen"
        assert seen == drawn[: len(seen)]
        n_short += len(seen) < len(drawn)
    assert n_short > 10


def test_the_fold_heard_of_every_card_that_was_seen(watched: tuple[ServedWorld, Pages]) -> None:
    world, _ = watched
    counts = world.learning.join.counts
    assert counts.seen == world.n_cards
    assert counts.late == counts.censored == 0
    assert world.n_cards - counts.closed < 2 * SIZE.shard, "all but the last that users left"
    assert world.pipeline.served.offset == world.learning.offset
    impressions = world.learning.states.aligned(world.pipeline.catalogue).impressions
    counted = np.bincount(world.shown.row, minlength=len(impressions))
    assert counted.sum() - impressions.sum() == world.n_cards - counts.closed


def test_a_users_state_knows_the_cards_they_saw(watched: tuple[ServedWorld, Pages]) -> None:
    world, _ = watched
    shown = world.shown
    for number, shard in enumerate(world.shards):
        for place, user in enumerate(shard.users):
            here = (shown.place == number * SIZE.shard + place) & (shown.life == shard.life[place])
            assert user.state.n_cards == np.count_nonzero(here)


def test_uploads_are_debuts_and_what_was_there_is_not(watched: tuple[ServedWorld, Pages]) -> None:
    world, _ = watched
    catalogue, stock = world.pipeline.catalogue, world.supply.stock
    assert len(catalogue) == stock.n > SIZE.items
    assert not catalogue.debuts[: SIZE.items].any()
    assert catalogue.debuts[SIZE.items :].all()
    rows = np.arange(stock.n)
    np.testing.assert_array_equal(world.born_ms(rows), catalogue.published_ms)
    assert (catalogue.published_ms[SIZE.items :] > START_MS).all()
    homes = [MARKETS[home].country for home in world.home_of(rows).tolist()]
    assert homes == [catalogue.item(row).country for row in rows.tolist()]


def test_an_items_vector_keeps_the_products_of_the_world(
    watched: tuple[ServedWorld, Pages],
) -> None:
    world, _ = watched
    vectors, stock = world.pipeline.catalogue.vectors, world.supply.stock.vectors
    assert vectors.shape[1] == VECTOR_DIM > len(stock)
    np.testing.assert_allclose(
        vectors[:50] @ vectors[:50].T, stock[:, :50].T @ stock[:, :50], atol=2e-3
    )


def test_the_same_seed_is_the_same_world_to_the_last_byte() -> None:
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    for world in (one, same, other):
        world.run(400)
    for field in fields(Shown):
        mine, theirs = getattr(one.shown, field.name), getattr(same.shown, field.name)
        np.testing.assert_array_equal(mine, theirs, field.name)
    assert one.learning.parts() == same.learning.parts()
    assert one.learning.parts() != other.learning.parts()


def test_the_clock_gives_a_day_its_cards() -> None:
    world = make(cards_a_day=2_000)
    world.run_days(0.25)
    assert world.day == pytest.approx(0.25, abs=0.06)
    assert 350 < world.n_cards <= 600
    assert (np.diff(world.shown.at_ms) >= 0).all()


def test_a_place_whose_life_ends_goes_on_as_a_stranger() -> None:
    hasty = msgspec.structs.replace(PRESET, horizon_days=1)
    size = msgspec.structs.replace(SIZE, users=20)
    world = ServedWorld(size, preset=hasty, seed=1, config=CONFIG)
    world.run(700)
    lives = world.shards[0].life
    assert lives.max() >= 1
    strangers = [world.shards[0].users[k] for k in np.flatnonzero(lives).tolist()]
    assert all(
        user.key.endswith(f".{life}")
        for user, life in zip(strangers, lives[lives > 0].tolist(), strict=True)
    )
    assert min(user.state.n_cards for user in strangers) < 700 / 20


def test_users_do_not_come_in_broken_shards() -> None:
    with pytest.raises(ValueError, match="multiple of shard"):
        WorldSize(users=70, shard=20)


def test_first_cards_are_those_of_first_lives_that_saw_enough() -> None:
    place = np.array([0, 1, 0, 2, 0, 1, 1, 0, 2])
    life = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0])
    row = np.arange(9)
    found = first_cards(cards(place, life, row), 3)
    assert sorted(found.row.tolist()) == [0, 1, 2, 4, 5, 6]
    assert found.row[found.place == 1].tolist() == [1, 5, 6]


def test_true_quality_is_that_of_rested_users_at_home() -> None:
    world = make()
    stock, rows = world.supply.stock, np.arange(200)
    quality = Quality(world.preset, CONFIG.reward)
    homes = world.home_of(rows)
    value = quality.of(stock, rows, homes)
    assert np.corrcoef(value, stock.columns[0, rows])[0, 1] > 0.5, "appeal makes quality"
    np.testing.assert_allclose(
        value[::-1], quality.of(stock, rows[::-1], world.home_of(rows[::-1]))
    )
    english, thai = np.zeros(200, dtype=np.int64), np.full(200, 4)
    abroad = quality.of(stock, rows, english) - quality.of(stock, rows, thai)
    speaks = world.supply.creators.language[stock.creator[rows]]
    languages = {k: abroad[speaks == k].mean() for k in np.unique(speaks).tolist()}
    assert max(languages.values()) > 0.02, "at home their language is spoken"
    assert min(languages.values()) < -0.02


def cards(place: Ints, life: Ints, row: Ints) -> Shown:
    """Return cards of which nothing else is known."""
    n = len(row)
    zeros, nothing = np.zeros(n, dtype=np.int64), np.zeros(n)
    return Shown(zeros, place, life, zeros, row, np.zeros(n, dtype=np.bool_), nothing, nothing)
