from dataclasses import replace

import numpy as np
import pytest
from small_worlds import PRESET

from env.arrays.draws import life_keys
from env.vocabulary import Bools, Ints
from env.world.candidates import N_FAVOURITES, CandidateIndex, Candidates, favourite_topics
from env.world.creators import LiveSupply
from env.world.supply import EVERYWHERE, Stock
from env.world.world import topics

N, K = 2_000, 20
STOCK = LiveSupply(PRESET, 0).stock
KEYS = life_keys(np.arange(N), np.zeros(N, dtype=np.int64))
CARDS = np.ones(N, dtype=np.int64)
MARKET = np.arange(N) % 8
FAVOURITES = favourite_topics(np.random.default_rng(0).normal(size=(16, N)))


def local(share: float) -> Stock:
    """Return the stock, a share of which, but for the first items, is shown in one market."""
    rng = np.random.default_rng(1)
    market = np.where(rng.random(STOCK.n) < share, rng.integers(0, 8, STOCK.n), EVERYWHERE)
    market[:K] = EVERYWHERE
    return replace(STOCK, market=market)


def drawn(stock: Stock, *, masked: bool = False, least: int = 1, card: int = 1) -> Candidates:
    shelf = CandidateIndex(stock, K, masked=masked)
    candidates = Candidates(N, K, masked=masked, least=least)
    candidates.aim(shelf, np.arange(N), FAVOURITES, MARKET)
    candidates.draw(shelf, KEYS, card * CARDS, MARKET)
    return candidates


def is_allowed(stock: Stock, rows: Ints) -> Bools:
    market = stock.market[rows]
    return np.asarray((market == EVERYWHERE) | (market == MARKET[:, None]))


@pytest.mark.parametrize("masked", [True, False])
def test_candidates_are_different_and_each_of_its_slots_class(masked: bool) -> None:
    rows = drawn(local(0.5), masked=masked).rows
    assert (rows % K == np.arange(K)).all()
    assert all(len(set(mine)) == K for mine in rows.tolist())


def test_items_of_other_markets_are_not_offered() -> None:
    stock = local(0.7)
    candidates = drawn(stock)
    assert is_allowed(stock, candidates.rows).all()
    assert (candidates.mask == 1).all()
    assert (stock.market[candidates.rows] == MARKET[:, None]).any()


def test_a_mask_is_one_exactly_where_an_item_may_be_shown() -> None:
    stock = local(0.7)
    candidates = drawn(stock, masked=True)
    assert np.array_equal(candidates.mask, is_allowed(stock, candidates.rows))
    assert 0.1 < candidates.mask.mean() < 0.9


@pytest.mark.parametrize("least", [1, 6])
def test_enough_candidates_are_allowed_whatever_is_drawn(least: int) -> None:
    stock = local(0.99)
    candidates = drawn(stock, masked=True, least=least)
    assert np.array_equal(candidates.mask, is_allowed(stock, candidates.rows))
    assert int(candidates.mask.sum(axis=1).min()) >= least


def test_every_allowed_item_is_offered_equally_often_where_nothing_is_known() -> None:
    stock = local(0.5)
    shelf = CandidateIndex(stock, K, masked=False)
    candidates = Candidates(N, K, masked=False)
    market = np.zeros(N, dtype=np.int64)
    candidates.aim(shelf, np.arange(N), FAVOURITES, market)
    counts = np.zeros(stock.n)
    n_draws = 40
    for card in range(n_draws):
        candidates.draw(shelf, KEYS, (card + 1) * CARDS, market)
        counts += np.bincount(candidates.rows[:, K // 2 :].ravel(), minlength=stock.n)
    for slot in (K // 2, K - 1):
        mine = np.arange(slot, stock.n, K)
        allowed = mine[(stock.market[mine] == EVERYWHERE) | (stock.market[mine] == 0)]
        assert counts[np.setdiff1d(mine, allowed)].sum() == 0
        expected = N * n_draws / len(allowed)
        chi2 = float(((counts[allowed] - expected) ** 2 / expected).sum())
        free = len(allowed) - 1
        assert abs(chi2 - free) <= 4.5 * (2.0 * free) ** 0.5


def test_the_first_half_is_of_topics_that_are_believed_to_be_liked() -> None:
    rows = drawn(local(0.0)).rows
    aimed = np.array(FAVOURITES)[:, np.arange(K // 2) % N_FAVOURITES]
    hits = STOCK.topic[rows[:, : K // 2]] == aimed
    empty = np.ones((K // 2, 32), dtype=np.bool_)
    for slot in range(K // 2):
        empty[slot, STOCK.topic[slot::K]] = False
    assert np.array_equal(hits | empty[np.arange(K // 2), aimed], np.ones_like(hits))
    by_chance = STOCK.topic[rows[:, K // 2 :]] == aimed
    assert hits.mean() > 5.0 * by_chance.mean()


def test_what_a_user_is_offered_does_not_depend_on_their_company() -> None:
    together = drawn(STOCK).rows
    shelf = CandidateIndex(STOCK, K, masked=False)
    alone = Candidates(1, K, masked=False)
    for k in (0, 7, N - 1):
        mine = slice(k, k + 1)
        alone.aim(shelf, np.array([0]), FAVOURITES[mine], MARKET[mine])
        alone.draw(shelf, KEYS[mine], CARDS[mine], MARKET[mine])
        assert np.array_equal(alone.rows[0], together[k])


def test_the_next_card_has_other_candidates() -> None:
    assert (drawn(STOCK, card=1).rows != drawn(STOCK, card=2).rows).mean() > 0.7


def test_the_favourite_topic_is_that_of_the_belief_and_the_next_turn_its_weakest_signs() -> None:
    beliefs = np.random.default_rng(2).normal(size=(16, 300))
    favourites = favourite_topics(beliefs)
    assert np.array_equal(favourites[:, 0], topics(beliefs.T))
    weakest = np.argmin(np.abs(beliefs[:5]), axis=0)
    assert np.array_equal(favourites[:, 1], favourites[:, 0] ^ (1 << weakest))
    assert all(len(set(mine)) == N_FAVOURITES for mine in favourites.tolist())


def test_more_classes_than_items_for_everybody_are_refused() -> None:
    market = np.zeros(STOCK.n, dtype=np.int64)
    market[1:] = EVERYWHERE
    with pytest.raises(ValueError, match=r"none in class 0; ask for fewer candidates"):
        CandidateIndex(replace(STOCK, market=market), STOCK.n, masked=False)
