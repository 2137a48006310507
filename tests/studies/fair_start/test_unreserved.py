from collections.abc import Sequence

import msgspec
import pytest
from served_worlds import make

from env.fair_start.settings import FairStart
from env.records import PageRecord
from policies.slots.rules import FAIR_START
from tests.studies.fair_start.floor import Unreserved
from tests.studies.served_world.users import Shard
from tests.studies.served_world.world import ServedWorld


class Kept:
    """Keeps the pages of a world, what users earn of them, and what they are otherwise."""

    def __init__(self, unreserved: Unreserved) -> None:
        self._unreserved = unreserved
        self.pages: list[PageRecord] = []
        self.others: list[PageRecord] = []
        self.worth, self.cards = 0.0, 0

    def see(self, world: ServedWorld, shard: Shard, pages: Sequence[PageRecord | None]) -> None:
        worth, n_cards = shard.worth_of(pages, world.row_of)
        for user, page in zip(shard.users, pages, strict=True):
            other = self._unreserved.redraw(world, user)
            if page is not None and other is not None:
                self.pages.append(page)
                self.others.append(other)
        self.worth += float(worth.sum())
        self.cards += int(n_cards.sum())


def has_reserved(page: PageRecord) -> bool:
    return any(rule.name == FAIR_START for rule in page.rules)


def swipe(world: ServedWorld, n_cards: int) -> tuple[Unreserved, Kept]:
    """Let users swipe before the one and the other."""
    unreserved = Unreserved(world)
    kept = Kept(unreserved)
    world.onlookers += [unreserved, kept]
    world.run(n_cards)
    return unreserved, kept


@pytest.fixture(scope="module")
def promising() -> tuple[Unreserved, Kept]:
    world = make(uploads_a_day=200.0)
    world.run(1_000)
    return swipe(world, 600)


def test_pages_with_a_reserved_slot_are_drawn_otherwise(
    promising: tuple[Unreserved, Kept],
) -> None:
    unreserved, kept = promising
    assert unreserved.n_pages == len(kept.pages)
    assert unreserved.n_redrawn == sum(map(has_reserved, kept.pages)) > 20
    assert unreserved.n_redrawn < unreserved.n_pages
    assert unreserved.kept.value != 1.0
    assert unreserved.kept.se > 0.0


def test_a_page_without_a_reserved_slot_is_what_it_is_otherwise(
    promising: tuple[Unreserved, Kept],
) -> None:
    pairs = list(zip(promising[1].pages, promising[1].others, strict=True))
    assert not any(has_reserved(other) for _, other in pairs)
    for page, other in pairs:
        assert page.page_id == other.page_id
        if not has_reserved(page):
            assert page.candidates == other.candidates
            assert page.drawn == other.drawn
    drawn_otherwise = [has_reserved(page) and page.drawn != other.drawn for page, other in pairs]
    assert sum(drawn_otherwise) > 20


def test_what_is_drawn_is_worth_what_its_cards_are(promising: tuple[Unreserved, Kept]) -> None:
    unreserved, kept = promising
    earned, cards = unreserved.earned, unreserved.cards
    assert earned[0].sum() == pytest.approx(kept.worth)
    assert cards[0].sum() == kept.cards
    assert unreserved.kept.value == pytest.approx(
        earned[0].sum() / cards[0].sum() / (earned[1].sum() / cards[1].sum())
    )


def test_where_nothing_is_promised_nothing_is_lost() -> None:
    world = make(uploads_a_day=200.0)
    nothing = FairStart(impressions=0, budget=0.0)
    silent = ServedWorld(
        world.size,
        preset=world.preset,
        seed=1,
        config=msgspec.structs.replace(world.config, fair_start=nothing),
    )
    unreserved, _ = swipe(silent, 600)
    assert unreserved.n_pages > 50
    assert unreserved.n_redrawn == 0
    assert unreserved.kept.value == 1.0


def test_an_onlooker_moves_nothing() -> None:
    alone, watched = make(uploads_a_day=200.0), make(uploads_a_day=200.0)
    alone.run(600)
    unreserved, _ = swipe(watched, 600)
    assert unreserved.n_redrawn > 0
    assert (watched.shown.row == alone.shown.row).all()
    assert (watched.shown.reward == alone.shown.reward).all()
