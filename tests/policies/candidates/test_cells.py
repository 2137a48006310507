"""Cells: nearly what looking at all would find, current at once, and nothing that is not wanted."""

from dataclasses import replace

import numpy as np
import pytest
from builders import NOW_MS, folded, interaction, make_item
from queries import only, query_of

from env.arrays.index_sets import is_among
from env.columns.schema import VECTOR_DIM
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.records import ItemRecord, pack_halves
from env.users.state import UserState
from env.vocabulary import Bools, Floats, Ints, ItemId
from policies.candidates import cells
from policies.candidates.cells import RISE, ClusterIndex
from policies.candidates.query import MATCH_STEP, MatchIndex, interests_of, matches_of
from policies.candidates.retrieval import retrieve
from tests.policies.candidates.test_retrieval import SCENE, a_user

N, N_BEST = 12_000, 100
ALONE = {source: only(source) for source in ("long_interest", "session_interest")}


@pytest.fixture(autouse=True)
def _cells_pay_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_FEW", 300)
    monkeypatch.setattr(cells, "LOOKED_AT", dict.fromkeys(cells.LOOKED_AT, 4_000))


def put(catalogue: Catalogue, name: str, vector: Floats, **fields: object) -> None:
    item = make_item(name, vector=vector.tolist(), published_ms=NOW_MS, **fields)
    catalogue.apply(ItemRecord(item.item_id, NOW_MS, item, pack_halves(static_block(item))))


def clustered(n: int = N, n_clusters: int = 40) -> Catalogue:
    """Return items in clusters; of each fourth item the market is Thailand."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((n_clusters, VECTOR_DIM))
    vectors = centres[rng.integers(n_clusters, size=n)] + 0.6 * rng.standard_normal((n, VECTOR_DIM))
    catalogue = Catalogue()
    for k, vector in enumerate(vectors):
        put(catalogue, f"i{k}", vector, markets=["TH"] if k % 4 == 0 else [])
    return catalogue


CATALOGUE = clustered()
STATES = folded(
    interaction(f"i{i}", reward=float(reward))
    for i, reward in zip(
        np.random.default_rng(2).integers(N, size=3_000),
        np.random.default_rng(3).normal(0.5, 0.7, 3_000),
        strict=True,
    )
)


def a_match(seed: int, catalogue: Catalogue = CATALOGUE) -> UserState:
    """Return a user whose interests are near some items'."""
    rng = np.random.default_rng(seed)
    long, session = (
        catalogue.vectors[rng.integers(len(catalogue), size=6)].sum(axis=0).astype("<f4").tobytes()
        for _ in range(2)
    )
    return a_user(long_sum=long, session_sum=session)


def found(
    user: UserState,
    catalogue: Catalogue,
    states: ItemStates,
    nearest: MatchIndex | None,
    source: str,
    allowed: Bools | None = None,
    seed: int = 7,
) -> Ints:
    query = query_of(
        user,
        SCENE,
        catalogue,
        states,
        allowed=catalogue.listed.copy() if allowed is None else allowed,
        shares=ALONE[source],
        nearest=nearest,
        seed=seed,
    )
    return retrieve(query, N_BEST).index


@pytest.mark.parametrize("source", list(ALONE))
@pytest.mark.parametrize("country", ["GB", "TH"])
def test_nearly_all_of_the_best_are_found_whatever_is_wanted(source: str, country: str) -> None:
    items = STATES.aligned(CATALOGUE)
    index = ClusterIndex.build(CATALOGUE, items)
    allowed = CATALOGUE.in_market(country)
    parts = []
    for seed in range(12):
        user = a_match(seed)
        exact = found(user, CATALOGUE, STATES, None, source, allowed)
        some = found(user, CATALOGUE, STATES, index, source, allowed)
        assert allowed[some].all()
        assert len(set(some.tolist())) == len(exact) == N_BEST
        parts.append(np.count_nonzero(is_among(some, exact)) / N_BEST)
    assert np.mean(parts) >= 0.95


@pytest.mark.parametrize("source", list(ALONE))
def test_where_few_are_wanted_the_best_are_exact(source: str) -> None:
    index = ClusterIndex.build(CATALOGUE, STATES.aligned(CATALOGUE))
    allowed = np.zeros(N, dtype=np.bool_)
    allowed[np.random.default_rng(4).choice(N, 280, replace=False)] = True
    user = a_match(3)
    exact, some = (
        found(user, CATALOGUE, STATES, nearest, source, allowed) for nearest in (None, index)
    )
    assert sorted(some.tolist()) == sorted(exact.tolist())


@pytest.mark.slow
def test_the_same_page_is_found_again_and_another_seed_decides_between_equals() -> None:
    catalogue, states = Catalogue(), ItemStates()
    topics = np.random.default_rng(5).standard_normal((4, VECTOR_DIM))
    for k in range(4_000):
        put(catalogue, f"i{k}", topics[k % 4])
    index = ClusterIndex.build(catalogue, states.aligned(catalogue))
    user = a_user(session_sum=topics[0].astype("<f4").tobytes())
    first, again, other = (
        found(user, catalogue, states, index, "session_interest", seed=seed) for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist()
    assert set(first.tolist()) != set(other.tolist())
    assert (first % 4 == 0).all()
    ranks = np.concatenate(
        [found(user, catalogue, states, index, "session_interest", seed=s) for s in range(40)]
    )
    spread = np.histogram(ranks, bins=4, range=(0, 4_000))[0] / len(ranks)
    assert np.abs(spread - 0.25).max() < 0.05, "not the first ones of the catalogue"


def test_an_upload_a_change_and_a_takedown_are_known_at_once() -> None:
    catalogue, states = clustered(2_000), ItemStates()
    index = ClusterIndex.build(catalogue, states.aligned(catalogue))
    user = a_match(6, catalogue)
    items = states.aligned(catalogue)
    best = interests_of(user, SCENE, catalogue, items)["session_interest"].astype(np.float64)

    def first() -> str:
        ranked = found(user, catalogue, states, index, "session_interest")
        return str(catalogue.ids[int(ranked[0])])

    put(catalogue, "upload", best)
    assert first() == "upload"
    catalogue.apply(ItemRecord(ItemId("upload"), NOW_MS))
    assert first() != "upload"
    put(catalogue, "i7", best)
    assert first() == "i7"
    put(catalogue, "i7", -best)
    assert first() != "i7"


def test_what_has_risen_since_is_found_and_what_has_fallen_is_ranked_as_it_is() -> None:
    catalogue = clustered(2_000)
    states = ItemStates()
    index = ClusterIndex.build(catalogue, states.aligned(catalogue))
    assert index.tail(catalogue, states.aligned(catalogue)).tolist() == []
    folded([interaction("i9", reward=3.0)] * 20 + [interaction("i10", reward=-2.0)] * 20, states)
    items = states.aligned(catalogue)
    assert items.reward_mean[9] - items.unseen_mean > RISE
    assert index.tail(catalogue, items).tolist() == [9]
    ranked = found(a_match(1, catalogue), catalogue, states, index, "long_interest")
    assert ranked[0] == 9
    assert 10 not in ranked


def near(index: ClusterIndex, states: ItemStates, source: str, wanted: Bools) -> Ints | None:
    """Return where the best matches of one interest are looked for."""
    query = query_of(a_match(5), SCENE, CATALOGUE, states, allowed=wanted, seed=7)
    interests = {source: query.interests[source]}
    found = index.near(replace(query, interests=interests), N_BEST)
    return None if found is None else found[source]


def test_what_has_risen_is_looked_at_by_the_long_interest_alone() -> None:
    unseen = ItemStates()
    index = ClusterIndex.build(CATALOGUE, unseen.aligned(CATALOGUE))
    risen = folded(interaction(f"i{k % 10}", reward=3.0) for k in range(200))
    some = near(index, risen, "long_interest", CATALOGUE.listed)
    assert some is not None
    assert is_among(np.arange(10), some).all()
    before, after = (
        near(index, states, "session_interest", CATALOGUE.listed) for states in (unseen, risen)
    )
    assert before is not None
    assert after is not None
    assert after.tolist() == before.tolist()


def test_where_cells_hold_too_few_twice_as_many_are_looked_at_and_then_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = ClusterIndex.build(CATALOGUE, STATES.aligned(CATALOGUE))
    wanted = np.arange(N) % 4 == 0
    for n_looked_at, is_enough in ((125, True), (63, False)):  # the first search meets 24 and 0
        monkeypatch.setattr(cells, "LOOKED_AT", {"long_interest": n_looked_at})
        some = near(index, STATES, "long_interest", wanted)
        assert (some is not None) == is_enough
    user, items = a_match(5), STATES.aligned(CATALOGUE)
    interest = interests_of(user, SCENE, CATALOGUE, items)["long_interest"]
    match = matches_of("long_interest", interest, CATALOGUE.vectors, items.reward_mean)
    steps = np.rint(match / MATCH_STEP)
    exact, some = (
        np.sort(steps[found(user, CATALOGUE, STATES, nearest, "long_interest", wanted)])
        for nearest in (None, index)
    )
    assert some.tolist() == exact.tolist(), "but for what matches alike"


@pytest.mark.slow
def test_another_index_is_due_when_the_tail_has_grown() -> None:
    catalogue, states = clustered(2_000), ItemStates()
    index = ClusterIndex.build(catalogue, None)
    assert not index.is_due(catalogue)
    for k in range(cells.MAX_TAIL // 4 + 1):
        put(catalogue, "one", np.eye(VECTOR_DIM)[k % VECTOR_DIM])
    assert index.is_due(catalogue)
    assert not ClusterIndex.build(catalogue, states.aligned(catalogue)).is_due(catalogue)


@pytest.mark.parametrize("reward", [3.0, -2.0])
def test_another_index_is_due_where_much_has_risen_or_fallen(
    reward: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MAX_TAIL", 40)
    catalogue, states = clustered(2_000), ItemStates()
    index = ClusterIndex.build(catalogue, states.aligned(catalogue))
    folded((interaction(f"i{k}", reward=reward) for k in range(30)), states)
    index.follow(states.aligned(catalogue))
    assert index.is_due(catalogue)
    assert not ClusterIndex.build(catalogue, states.aligned(catalogue)).is_due(catalogue)
