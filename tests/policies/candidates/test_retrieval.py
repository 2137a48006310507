"""Retrieval: exact, from several sources by share, for anybody, the same for the same seed."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, SKIPPED, catalogue_with, folded, interaction, make_item, put
from queries import only, query_of

from env.columns.schema import VECTOR_DIM
from env.items.catalogue import Catalogue
from env.items.popularity import Popular
from env.items.statistics import ItemStates
from env.records import item_key
from env.users.state import UserState, long_interest, newcomer, session_interest
from env.vocabulary import Bools, CreatorId, Floats, Interaction, Ints, Profile, Scene
from policies.candidates.query import MATCH_STEP, Query
from policies.candidates.retrieval import (
    FRESH_POOL,
    SOURCES,
    Retrieved,
    _first_popular,
    _highest,
    _merge,
    _some,
    default_shares,
    retrieve,
)

SCENE = Scene(NOW_MS, country="GB", position=5)
NOBODY = newcomer(Profile())


def a_catalogue(n: int, seed: int = 1) -> Catalogue:
    rng = np.random.default_rng(seed)
    return catalogue_with(
        **{
            f"i{i}": {
                "creator": f"c{rng.integers(max(n // 5, 1))}",
                "vector": rng.normal(size=VECTOR_DIM).tolist(),
                "published_ms": int(NOW_MS - rng.integers(10**9)),
                "markets": ["TH"] if i % 10 == 0 else [],
                "listed": i % 10 != 1,
            }
            for i in range(n)
        }
    )


def a_world(n: int = 600) -> tuple[Catalogue, ItemStates]:
    rng = np.random.default_rng(2)
    return a_catalogue(n), folded(interaction(f"i{i}") for i in rng.integers(n, size=n))


def interest(values: Floats) -> bytes:
    return values.astype("<f4").tobytes()


def a_user(seed: int = 3, **fields: object) -> UserState:
    rng = np.random.default_rng(seed)
    known = UserState(
        Profile(follows=tuple(CreatorId(f"c{i}") for i in range(8))),
        n_cards=100,
        evidence=50.0,
        long_sum=interest(rng.normal(size=VECTOR_DIM)),
        session_evidence=4.0,
        session_sum=interest(rng.normal(size=VECTOR_DIM)),
        position=5,
    )
    return msgspec.structs.replace(known, **fields)


def seen_ring(*names: str) -> bytes:
    return np.array([item_key(name) for name in names], dtype=np.uint64).astype("<u4").tobytes()


def from_source(retrieved: Retrieved, source: str) -> list[int]:
    rows = range(len(retrieved.index))
    return [int(retrieved.index[row]) for row in rows if retrieved.reason(row) == source]


def available(catalogue: Catalogue, country: str = "GB") -> Bools:
    return catalogue.listed & catalogue.in_market(country)


def found(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    states: ItemStates,
    n: int,
    shares: dict[str, float] | None = None,
    seed: int = 0,
    debut: tuple[int, ...] = (),
) -> Retrieved:
    query = query_of(
        user,
        scene,
        catalogue,
        states,
        allowed=available(catalogue, scene.country),
        shares=shares,
        debut=np.array(debut, dtype=np.int64),
        seed=seed,
    )
    return retrieve(query, n)


def plays(name: str, n: int, **scene: object) -> list[Interaction]:
    return [interaction(name, scene=msgspec.convert({"at_ms": NOW_MS, **scene}, Scene))] * n


def names(catalogue: Catalogue, retrieved: Retrieved) -> list[str]:
    return [catalogue.ids[i] for i in retrieved.index]


def test_the_same_arguments_give_the_same_items() -> None:
    catalogue, states = a_world()
    first, second = (found(a_user(), SCENE, catalogue, states, 100, seed=7) for _ in range(2))
    assert np.array_equal(first.index, second.index)
    assert np.array_equal(first.source, second.source)


def test_another_seed_changes_what_is_chosen_by_chance_and_nothing_else() -> None:
    catalogue, states = a_world()
    shares = default_shares() | dict.fromkeys(("popular", "fresh", "followed"), 0.0)
    one, two = (found(a_user(), SCENE, catalogue, states, 60, shares, seed=s) for s in (7, 8))
    assert from_source(one, "random") != from_source(two, "random")
    same = set(from_source(one, "long_interest")) & set(from_source(two, "long_interest"))
    assert len(same) >= len(from_source(one, "long_interest")) - 5


@pytest.mark.parametrize("seed", range(20))
def test_no_item_comes_twice_and_none_that_may_not_be_shown(seed: int) -> None:
    catalogue, states = a_world()
    index = found(a_user(seed), SCENE, catalogue, states, 200, seed=seed).index
    assert len(index) == len(set(index.tolist())) == 200
    assert available(catalogue)[index].all()
    assert not available(catalogue).all()


def test_the_nearest_to_a_sessions_interest_are_exactly_those_with_the_greatest_match() -> None:
    catalogue, states = a_world()
    matches = catalogue.vectors @ session_interest(a_user())
    check_highest(matches.astype(np.float64), catalogue, states, "session_interest")


def test_the_long_interest_proposes_those_of_the_greatest_match_and_mean_reward() -> None:
    catalogue, states = a_world()
    items = states.aligned(catalogue)
    prior = items.popularity.interest(SCENE, catalogue.vectors)
    matches = catalogue.vectors @ long_interest(a_user(), prior=prior)
    assert np.ptp(items.reward_mean) > 0.0 < np.ptp(matches)
    check_highest(matches + items.reward_mean, catalogue, states, "long_interest")


def check_highest(worth: Floats, catalogue: Catalogue, states: ItemStates, source: str) -> None:
    worth = np.where(available(catalogue), worth, -np.inf)
    retrieved = found(a_user(), SCENE, catalogue, states, 50, only(source))
    assert len(retrieved.index) == 50
    assert worth[retrieved.index] == pytest.approx(-np.sort(-worth)[:50], abs=MATCH_STEP)


@pytest.mark.parametrize("order", ["random", "ascending", "the sampled low", "the sampled high"])
@pytest.mark.parametrize(("size", "n"), [(1, 1), (7, 7), (40, 3), (500, 130), (5000, 130)])
def test_the_highest_are_exact_wherever_they_stand(order: str, size: int, n: int) -> None:
    values = np.random.default_rng(size).integers(0, size, size).astype(np.float32)
    if order != "random":
        values.sort()
    if order.startswith("the sampled"):
        values[::8] = -1.0 if order.endswith("low") else size
    expected = np.flatnonzero(values >= np.sort(values)[-n])
    assert sorted(_highest(values, n).tolist()) == expected.tolist()


def test_of_items_that_match_alike_all_have_a_chance_and_the_better_a_greater_one() -> None:
    catalogue = catalogue_with(**{f"i{i}": {"tags": ["cats"]} for i in range(40)})
    user = a_user(long_sum=interest(catalogue.vectors[0].astype(np.float64)))
    states = folded([interaction("i7", reward=2.0)] * 30)
    n_pages = 300
    counts = np.zeros(40)
    for seed in range(n_pages):
        shares = only("long_interest")
        counts[found(user, SCENE, catalogue, states, 10, shares, seed=seed).index] += 1
    others = np.delete(counts, 7)
    expected = (10 * n_pages - counts[7]) / 39
    assert counts[7] > others.max()
    # Each other one's count is binomial with this mean, so all 39 are within five deviations.
    assert np.abs(others - expected).max() < 5 * np.sqrt(expected)


def test_at_the_beginning_of_a_session_the_last_one_proposes_nothing() -> None:
    catalogue, states = a_world()
    begun = msgspec.structs.replace(SCENE, position=0)
    retrieved = found(a_user(), begun, catalogue, states, 100)
    assert from_source(retrieved, "session_interest") == []
    assert len(from_source(retrieved, "long_interest")) > 0


def test_popular_is_what_is_played_here_and_everywheres_where_nothing_is() -> None:
    catalogue = catalogue_with(a={}, b={}, c={})
    states = folded([*plays("a", 300, country="GB"), *plays("b", 400, country="TH")])
    for country, expected in (("GB", ["a", "b"]), ("TH", ["b", "a"]), ("SG", ["b", "a"])):
        scene = Scene(NOW_MS, country=country)
        first = found(NOBODY, scene, catalogue, states, 3, only("popular"))
        assert names(catalogue, first) == expected


@pytest.mark.parametrize(
    "fields", [{"language": "th"}, {"device": "desktop"}, {"hour": 20}, {"country": "TH"}]
)
def test_popular_looks_at_each_thing_that_a_scene_says(fields: dict[str, object]) -> None:
    catalogue = catalogue_with(usual={}, special={})
    usual = {"country": "GB", "language": "en", "device": "phone", "hour": 8}
    special = usual | fields
    states = folded([*plays("usual", 600, **usual), *plays("special", 500, **special)])
    for asked, expected in ((usual, "usual"), (special, "special")):
        scene = msgspec.convert({"at_ms": NOW_MS, **asked}, Scene)
        first = found(NOBODY, scene, catalogue, states, 1, only("popular"))
        assert names(catalogue, first) == [expected]


def test_the_tags_of_a_newcomers_registration_are_their_interest_from_the_first_page() -> None:
    catalogue = catalogue_with(**{f"i{i}": {"tags": [f"t{i % 30}"]} for i in range(300)})
    fan = newcomer(Profile(tags=("#T7",)))
    retrieved = found(fan, Scene(NOW_MS), catalogue, ItemStates(), 60)
    nearest = from_source(retrieved, "long_interest")
    assert {i % 30 for i in nearest[:10]} == {7}
    catalogue.apply(put(make_item("own", vector=[1.0] * VECTOR_DIM)))
    own = found(fan, Scene(NOW_MS), catalogue, ItemStates(), 60)
    assert from_source(own, "long_interest") == []


def test_best_are_those_that_earned_most_whoever_played_most() -> None:
    catalogue = catalogue_with(seldom={}, often={}, never={})
    skips = [interaction("often", SKIPPED, reward=0.0)] * 400
    states = folded([*plays("seldom", 30), *skips, *plays("often", 100)])
    assert names(catalogue, found(NOBODY, SCENE, catalogue, states, 3, only("best"))) == [
        "seldom",
        "often",
    ]
    assert names(catalogue, found(NOBODY, SCENE, catalogue, states, 1, only("popular"))) == [
        "often"
    ]


def test_best_are_those_that_surely_earned_before_those_that_were_lucky_once() -> None:
    catalogue = catalogue_with(lucky={}, proven={})
    proven = [interaction("proven", reward=reward) for reward in (0.5, 1.0) * 40]
    states = folded([interaction("lucky", reward=1.5), *proven])
    items = states.aligned(catalogue)
    assert items.reward_mean[0] > items.reward_mean[1]
    assert names(catalogue, found(NOBODY, SCENE, catalogue, states, 2, only("best"))) == [
        "proven",
        "lucky",
    ]


def test_fresh_are_different_ones_of_the_latest() -> None:
    catalogue = catalogue_with(**{f"i{i}": {"published_ms": i + 1} for i in range(100)})
    chosen = [
        set(found(NOBODY, SCENE, catalogue, ItemStates(), 4, only("fresh"), seed=s).index.tolist())
        for s in range(30)
    ]
    assert set.union(*chosen) == set(range(100 - 4 * FRESH_POOL, 100))
    assert all(len(each) == 4 for each in chosen)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 40])
@pytest.mark.slow
def test_however_few_are_allowed_fresh_are_the_latest_of_them_and_random_are_any(step: int) -> None:
    n_items, n, n_pages = 800, 10, 200
    catalogue = catalogue_with(**{f"i{i}": {"published_ms": i + 1} for i in range(n_items)})
    allowed = np.arange(n_items) % step == 0
    states, counts = ItemStates(), {source: np.zeros(n_items) for source in ("fresh", "random")}
    for source, count in counts.items():
        for seed in range(n_pages):
            query = query_of(
                NOBODY, SCENE, catalogue, states, allowed=allowed, shares=only(source), seed=seed
            )
            chosen = retrieve(query, n)
            assert len(chosen.index) == n
            count[chosen.index] += 1
    first = np.flatnonzero(counts["fresh"])[0]
    assert np.count_nonzero(allowed[first:]) <= n * FRESH_POOL
    assert not counts["fresh"][~allowed].any()
    assert not counts["random"][~allowed].any()
    share = n / np.count_nonzero(allowed)
    most = 5.0 * np.sqrt(n_pages * share * (1.0 - share))
    assert np.abs(counts["random"][allowed] - n_pages * share).max() <= most


def test_followed_are_the_latest_of_the_creators_a_user_follows() -> None:
    catalogue = catalogue_with(
        old={"creator": "c1", "published_ms": 1},
        other={"creator": "x", "published_ms": 3},
        new={"creator": "c2", "published_ms": 2},
    )
    retrieved = found(a_user(), SCENE, catalogue, ItemStates(), 3, only("followed"))
    assert names(catalogue, retrieved) == ["new", "old"]


def test_a_newcomer_gets_a_full_page_of_what_is_popular_fresh_or_any() -> None:
    catalogue, states = a_world()
    retrieved = found(NOBODY, SCENE, catalogue, states, 100)
    assert len(retrieved.index) == 100
    sources = {retrieved.reason(row) for row in range(100)}
    assert sources == {"long_interest", "best", "popular", "fresh", "random"}
    nothing = found(NOBODY, SCENE, catalogue, ItemStates(), 100)
    assert {nothing.reason(row) for row in range(100)} == {"fresh", "random"}


def test_sources_have_their_shares_from_the_top_to_the_end() -> None:
    shares = (0.4, 0.2, 0.1, 0.1, 0.0, 0.0, 0.2)
    lists = [np.arange(100) + 100 * i for i in range(len(shares))]  # no two propose the same
    index, source = _merge(lists, shares, 100)
    assert np.array_equal(index // 100, source)
    for n in range(1, 101):
        counts = np.bincount(source[:n], minlength=len(lists))
        assert np.abs(counts - n * np.array(shares)).max() <= 1.0


def test_an_item_of_two_sources_stands_where_the_first_puts_it() -> None:
    lists = [np.array([5, 6]), np.array([6, 5, 7])]
    index, source = _merge(lists, (0.5, 0.5), 9)
    assert index.tolist() == [5, 6, 7]
    assert source.tolist() == [0, 1, 1]


def test_what_was_seen_comes_again_only_where_nothing_else_is_left() -> None:
    catalogue = catalogue_with(a={}, b={}, c={}, d={})
    user = a_user(seen=seen_ring("b", "d"))
    scarce = found(user, SCENE, catalogue, ItemStates(), 3)
    assert {*names(catalogue, scarce)[:2]} == {"a", "c"}
    assert scarce.reason(2) == "again"
    enough = found(user, SCENE, catalogue, ItemStates(), 2)
    assert {*names(catalogue, enough)} == {"a", "c"}


def test_what_is_blocked_never_comes_not_even_again() -> None:
    catalogue = catalogue_with(
        a={"creator": "bore"},
        b={},
        c={"creator": "bore"},
        d={"tags": ["x", "Cats"]},
        e={"creator": "dull"},
    )
    user = a_user(
        seen=seen_ring("a", "b"),
        blocked=(CreatorId("bore"),),
        blocked_tags=("cats",),
        avoided=(CreatorId("dull"),),
    )
    retrieved = found(user, SCENE, catalogue, ItemStates(), 5)
    assert names(catalogue, retrieved) == ["b"]


def test_only_what_is_allowed_comes_from_any_source_and_again() -> None:
    catalogue, states = a_world()
    user = a_user(seen=seen_ring("i2", "i3"))
    allowed = np.zeros(len(catalogue), dtype=np.bool_)
    allowed[[2, 4, 6, 8]] = True
    retrieved = retrieve(query_of(user, SCENE, catalogue, states, allowed=allowed), 50)
    assert set(retrieved.index.tolist()) == {2, 4, 6, 8}
    assert [retrieved.reason(row) for row in range(4)].count("again") == 1


def test_owed_uploads_stand_before_all_others_and_come_once() -> None:
    catalogue, states = a_world()
    plain = found(a_user(), SCENE, catalogue, states, 40)
    debut = tuple(int(i) for i in plain.index[[5, 9, 2]])
    retrieved = found(a_user(), SCENE, catalogue, states, 40, debut=debut)
    assert tuple(retrieved.index[:3].tolist()) == debut
    assert from_source(retrieved, "debut") == list(debut)
    assert len(set(retrieved.index.tolist())) == 40


@pytest.mark.parametrize("n_debut", [0, 1, 5])
def test_where_little_is_left_what_was_seen_stands_behind_the_owed(n_debut: int) -> None:
    catalogue = catalogue_with(**{f"i{k}": {} for k in range(6)})
    user = a_user(seen=seen_ring("i5"))
    debut = tuple(range(n_debut))
    retrieved = found(user, SCENE, catalogue, ItemStates(), 10, debut=debut)
    assert retrieved.index[:n_debut].tolist() == list(debut)
    assert sorted(retrieved.index.tolist()) == list(range(6))
    assert retrieved.reason(5) == "again"
    assert catalogue.ids[retrieved.index[5]] == "i5"


def test_a_newcomer_is_believed_to_like_what_is_played_in_their_scene() -> None:
    items = {f"i{i}": {"tags": [f"t{i % 30}"]} for i in range(300)}
    catalogue = catalogue_with(**items)
    usual = {"country": "TH", "language": "th"}
    states = folded([*plays("i7", 200, **usual), *plays("i8", 200, country="GB")])
    first = found(NOBODY, Scene(NOW_MS, "TH", "th"), catalogue, states, 60)
    assert {i % 30 for i in from_source(first, "long_interest")[:9]} == {7}


@pytest.mark.parametrize(("n_items", "n", "expected"), [(0, 10, 0), (5, 0, 0), (5, 10, 5)])
def test_fewer_come_only_where_fewer_are(n_items: int, n: int, expected: int) -> None:
    catalogue = catalogue_with(**{f"i{i}": {"vector": [1.0] * VECTOR_DIM} for i in range(n_items)})
    retrieved = found(a_user(), SCENE, catalogue, ItemStates(), n)
    assert len(retrieved.index) == len(retrieved.source) == expected
    assert retrieved.index.dtype == np.int64


class Oldest:
    """A source of one's own."""

    name, share = "oldest", 0.5

    def propose(self, query: Query, n: int) -> Ints:
        oldest = query.catalogue.latest()[::-1]
        return oldest[query.new[oldest]][:n]


def test_a_source_of_ones_own_is_a_class_and_an_entry_in_the_list() -> None:
    catalogue, states = a_world()
    query = query_of(a_user(), SCENE, catalogue, states, allowed=available(catalogue))
    retrieved = retrieve(query, 60, [*SOURCES, Oldest()])
    proposed = from_source(retrieved, "oldest")
    assert len(proposed) >= 15
    assert proposed == Oldest().propose(query, 60)[: len(proposed)].tolist()
    alone = query_of(a_user(), SCENE, catalogue, states, shares=only("none"))
    assert len(from_source(retrieve(alone, 9, [*SOURCES, Oldest()]), "oldest")) == 9


def test_a_small_market_keeps_no_ranking_of_what_is_played_elsewhere() -> None:
    rng, n_items = np.random.default_rng(6), 30_000
    plays = rng.exponential(5.0, n_items)
    popular, wanted = Popular.of(plays), np.zeros(n_items, dtype=np.bool_)
    wanted[rng.choice(n_items, 300, replace=False)] = True
    scene = replace(popular, own=np.array([3, 9]), weights=np.array([900.0, 1.0]))
    n_tries = 2 * 100 * n_items // 300
    first = _first_popular(scene, wanted, 100, n_tries)
    assert first.tolist() == scene.ranking[wanted[scene.ranking]][:100].tolist()
    anew = replace(scene)
    _first_popular(anew, wanted, 100, n_tries)
    assert len(anew._head) < n_items


def test_any_of_a_small_market_are_chosen_without_draws_among_all() -> None:
    class Counting(np.random.Generator):
        """Counts the numbers that it draws one by one."""

        n_drawn = 0

        def random(self, *args: Any, **kwargs: Any) -> Any:
            drawn = super().random(*args, **kwargs)
            self.n_drawn += np.size(drawn)
            return drawn

    n_items, n, n_wanted = 30_000, 100, 400
    rng = Counting(np.random.PCG64(7))
    wanted = np.zeros(n_items, dtype=np.bool_)
    wanted[np.random.default_rng(1).choice(n_items, n_wanted, replace=False)] = True
    count, n_pages = np.zeros(n_items), 200
    for _ in range(n_pages):
        some = _some(np.arange(n_items), n_items, wanted, n, 2 * n * n_items // n_wanted, rng)
        assert len(set(some.tolist())) == n
        count[some] += 1
    assert not count[~wanted].any()
    share = n / n_wanted
    most = 5.0 * np.sqrt(n_pages * share * (1.0 - share))
    assert np.abs(count[wanted] - n_pages * share).max() <= most
    assert rng.n_drawn == 0
