"""Retrieval: exact, from several sources by share, for anybody, the same for the same seed."""

from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from env.catalogue import Catalogue
from env.content import static_block
from env.features import VECTOR_DIM
from env.items import ItemStates
from env.records import ItemRecord, item_key, pack_halves
from env.users import UserState, long_interest, newcomer, session_interest
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Feedback,
    Floats,
    Interaction,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
)
from policies.retrieval import FRESH_POOL, MATCH_STEP, SOURCES, Retrieved, Shares, _merge, retrieve

NOW_MS = 1_700_000_000_000
SCENE = Scene(NOW_MS, country="GB", position=5)
NOBODY = newcomer(Profile())


def put(catalogue: Catalogue, name: str, **fields: object) -> None:
    item = msgspec.convert({"item_id": name, **fields}, Item)
    catalogue.apply(ItemRecord(item.item_id, 0, item, pack_halves(static_block(item))))


def catalogue_of(**items: Mapping[str, object]) -> Catalogue:
    catalogue = Catalogue()
    for name, fields in items.items():
        put(catalogue, name, **fields)
    return catalogue


def a_catalogue(n: int, seed: int = 1) -> Catalogue:
    rng = np.random.default_rng(seed)
    catalogue = Catalogue()
    for i in range(n):
        put(
            catalogue,
            f"i{i}",
            creator=f"c{rng.integers(max(n // 5, 1))}",
            vector=rng.normal(size=VECTOR_DIM).tolist(),
            published_ms=int(NOW_MS - rng.integers(10**9)),
            markets=["TH"] if i % 10 == 0 else [],
            listed=i % 10 != 1,
        )
    return catalogue


def play(states: ItemStates, name: str, country: str = "GB", reward: float = 0.5) -> None:
    states.fold(
        Interaction(
            decision_id=DecisionId("p:0"),
            page_id=PageId("p"),
            user=UserKey("u"),
            session=SessionId("s"),
            item_id=ItemId(name),
            slot=0,
            policy="uniform@0",
            propensity=0.1,
            n_actions=10,
            shared=b"",
            action=b"",
            item_key=0,
            duration_s=30.0,
            feedback=Feedback(seen=True, left=True, dwell_s=10.0),
            reward=reward,
            scene=Scene(NOW_MS, country=country),
            closed_ms=NOW_MS,
        )
    )


def a_world(n: int = 600) -> tuple[Catalogue, ItemStates]:
    states, rng = ItemStates(), np.random.default_rng(2)
    for i in rng.integers(n, size=n):
        play(states, f"i{i}")
    return a_catalogue(n), states


def interest(values: Floats) -> bytes:
    return values.astype("<f4").tobytes()


def a_person(seed: int = 3, **fields: object) -> UserState:
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


def only(source: str) -> Shares:
    return Shares(**{name: float(name == source) for name in Shares.__struct_fields__})


def from_source(retrieved: Retrieved, source: str) -> list[int]:
    rows = range(len(retrieved.index))
    return [int(retrieved.index[row]) for row in rows if retrieved.reason(row) == source]


def names(catalogue: Catalogue, retrieved: Retrieved) -> list[str]:
    return [catalogue.ids[i] for i in retrieved.index]


def test_the_same_arguments_give_the_same_items() -> None:
    catalogue, states = a_world()
    first, second = (retrieve(a_person(), SCENE, catalogue, states, 100, 7) for _ in range(2))
    assert np.array_equal(first.index, second.index)
    assert np.array_equal(first.source, second.source)


def test_another_seed_changes_what_is_chosen_by_chance_and_nothing_else() -> None:
    catalogue, states = a_world()
    shares = Shares(popular=0.0, fresh=0.0, followed=0.0)
    one, two = (retrieve(a_person(), SCENE, catalogue, states, 60, s, shares) for s in (7, 8))
    assert from_source(one, "random") != from_source(two, "random")
    same = set(from_source(one, "long_interest")) & set(from_source(two, "long_interest"))
    assert len(same) >= len(from_source(one, "long_interest")) - 5


@pytest.mark.parametrize("seed", range(20))
def test_no_item_comes_twice_and_none_that_may_not_be_shown(seed: int) -> None:
    catalogue, states = a_world()
    index = retrieve(a_person(seed), SCENE, catalogue, states, 200, seed).index
    assert len(index) == len(set(index.tolist())) == 200
    assert catalogue.available("GB")[index].all()
    assert not catalogue.available("GB").all()


@pytest.mark.parametrize("source", ["long_interest", "session_interest"])
def test_the_nearest_to_an_interest_are_exactly_those_with_the_greatest_match(source: str) -> None:
    catalogue, states = a_world()
    person = a_person()
    vector = long_interest(person) if source == "long_interest" else session_interest(person)
    matches = np.where(catalogue.available("GB"), catalogue.vectors @ vector, -np.inf)
    retrieved = retrieve(person, SCENE, catalogue, states, 50, 0, only(source))
    assert len(retrieved.index) == 50
    found, expected = matches[retrieved.index], -np.sort(-matches)[:50]
    assert found == pytest.approx(expected, abs=MATCH_STEP)


def test_of_items_that_match_alike_all_have_a_chance_and_the_better_a_greater_one() -> None:
    catalogue = catalogue_of(**{f"i{i}": {"tags": ["cats"]} for i in range(40)})
    person = a_person(long_sum=interest(catalogue.vectors[0].astype(np.float64)))
    states = ItemStates()
    for _ in range(30):
        play(states, "i7", reward=2.0)
    n_pages = 300
    counts = np.zeros(40)
    for seed in range(n_pages):
        shares = only("long_interest")
        counts[retrieve(person, SCENE, catalogue, states, 10, seed, shares).index] += 1
    others = np.delete(counts, 7)
    expected = (10 * n_pages - counts[7]) / 39
    assert counts[7] > others.max()
    # Each other one's count is binomial with this mean, so all 39 are within five deviations.
    assert np.abs(others - expected).max() < 5 * np.sqrt(expected)


def test_at_the_beginning_of_a_session_the_last_one_proposes_nothing() -> None:
    catalogue, states = a_world()
    begun = msgspec.structs.replace(SCENE, position=0)
    retrieved = retrieve(a_person(), begun, catalogue, states, 100, 0)
    assert from_source(retrieved, "session_interest") == []
    assert len(from_source(retrieved, "long_interest")) > 0


def test_popular_is_what_is_played_here_and_everywheres_where_nothing_is() -> None:
    catalogue, states = catalogue_of(a={}, b={}, c={}), ItemStates()
    for name, country, n in (("a", "GB", 300), ("b", "TH", 400)):
        for _ in range(n):
            play(states, name, country)
    for country, expected in (("GB", ["a", "b"]), ("TH", ["b", "a"]), ("SG", ["b", "a"])):
        scene = Scene(NOW_MS, country=country)
        retrieved = retrieve(NOBODY, scene, catalogue, states, 3, 0, only("popular"))
        assert names(catalogue, retrieved) == expected


def test_fresh_are_different_ones_of_the_latest() -> None:
    catalogue = catalogue_of(**{f"i{i}": {"published_ms": i + 1} for i in range(100)})
    chosen = [
        set(retrieve(NOBODY, SCENE, catalogue, ItemStates(), 4, s, only("fresh")).index.tolist())
        for s in range(30)
    ]
    assert set.union(*chosen) == set(range(100 - 4 * FRESH_POOL, 100))
    assert all(len(each) == 4 for each in chosen)


def test_followed_are_the_latest_of_the_creators_a_person_follows() -> None:
    catalogue = catalogue_of(
        old={"creator": "c1", "published_ms": 1},
        other={"creator": "x", "published_ms": 3},
        new={"creator": "c2", "published_ms": 2},
    )
    retrieved = retrieve(a_person(), SCENE, catalogue, ItemStates(), 3, 0, only("followed"))
    assert names(catalogue, retrieved) == ["new", "old"]


def test_a_newcomer_gets_a_full_page_of_what_is_popular_fresh_or_any() -> None:
    catalogue, states = a_world()
    retrieved = retrieve(NOBODY, SCENE, catalogue, states, 100, 0)
    assert len(retrieved.index) == 100
    sources = {retrieved.reason(row) for row in range(100)}
    assert sources == {"popular", "fresh", "random"}


def test_sources_have_their_shares_from_the_top_to_the_end() -> None:
    shares = Shares(0.4, 0.2, 0.1, 0.1, 0.0, 0.2)
    lists = {
        name: np.arange(100) + 100 * i for i, name in enumerate(Shares.__struct_fields__)
    }  # no two propose the same
    index, source = _merge(lists, shares, 100)
    assert np.array_equal(index // 100, source)
    for n in range(1, 101):
        counts = np.bincount(source[:n], minlength=len(SOURCES) - 1)
        assert np.abs(counts - n * np.array(msgspec.structs.astuple(shares))).max() <= 1.0


def test_an_item_of_two_sources_stands_where_the_first_puts_it() -> None:
    lists = {"popular": np.array([5, 6]), "fresh": np.array([6, 5, 7])}
    index, source = _merge(lists, Shares(0.0, 0.0, 0.5, 0.5, 0.0, 0.0), 9)
    assert index.tolist() == [5, 6, 7]
    assert [SOURCES[code] for code in source] == ["popular", "fresh", "fresh"]


def test_what_was_seen_comes_again_only_where_nothing_else_is_left() -> None:
    catalogue = catalogue_of(a={}, b={}, c={}, d={})
    person = a_person(seen=seen_ring("b", "d"))
    scarce = retrieve(person, SCENE, catalogue, ItemStates(), 3, 0)
    assert {*names(catalogue, scarce)[:2]} == {"a", "c"}
    assert scarce.reason(2) == "again"
    enough = retrieve(person, SCENE, catalogue, ItemStates(), 2, 0)
    assert {*names(catalogue, enough)} == {"a", "c"}


def test_a_blocked_creator_never_comes_not_even_again() -> None:
    catalogue = catalogue_of(a={"creator": "bore"}, b={}, c={"creator": "bore"})
    person = a_person(seen=seen_ring("a", "b"), blocked=(CreatorId("bore"),))
    retrieved = retrieve(person, SCENE, catalogue, ItemStates(), 3, 0)
    assert names(catalogue, retrieved) == ["b"]


@pytest.mark.parametrize(("n_items", "n", "expected"), [(0, 10, 0), (5, 0, 0), (5, 10, 5)])
def test_fewer_come_only_where_fewer_are(n_items: int, n: int, expected: int) -> None:
    catalogue = catalogue_of(**{f"i{i}": {"vector": [1.0] * VECTOR_DIM} for i in range(n_items)})
    retrieved = retrieve(a_person(), SCENE, catalogue, ItemStates(), n, 0)
    assert len(retrieved.index) == len(retrieved.source) == expected
    assert retrieved.index.dtype == np.int64


@pytest.mark.parametrize(
    "shares", [{"popular": -0.1}, dict.fromkeys(Shares.__struct_fields__, 0.0), {"fresh": np.nan}]
)
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares must be at least 0 and not all 0"):
        Shares(**shares)
