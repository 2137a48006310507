"""The fit of item factors, and users who are known by them without training."""

import msgspec
import numpy as np
import pytest
from builders import catalogue_named
from queries import query_of

from env.columns.schema import CO_KNOWN, CO_MATCH, N_STATIC, index_of
from env.features.collaborative import NO_FACTORS, Crowd, ItemFactors
from env.features.encode import encode
from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.records import item_key
from env.users.answers import put_answer
from env.users.state import UserState, newcomer
from env.vocabulary import Float32s, Ints, Profile, Scene
from policies.candidates.retrieval import Collaborative
from policies.collaborative.answers import AnswerWindow
from policies.collaborative.fit import FitArgs, fit

N_ITEMS = 60
NAMES = [f"i{k}" for k in range(N_ITEMS)]
KEYS = np.array([item_key(name) for name in NAMES], dtype=np.uint64)
ARGS = FitArgs(dims=8)


def two_tastes(seed: int = 1, n_users: int = 80, n_answers: int = 30) -> AnswerWindow:
    """Users of even numbers like items of even numbers, nine times in ten."""
    rng, window = np.random.default_rng(seed), AnswerWindow(100_000)
    for user in range(n_users):
        for item in rng.permutation(N_ITEMS)[:n_answers].tolist():
            likes = ((user + item) % 2 == 0) == (rng.random() < 0.9)
            window.put(user, int(KEYS[item]), 1.0 if likes else 0.0)
    return window


FACTORS = fit(two_tastes().answers(100), ARGS, version=3)


def who_answered(*answers: tuple[int, float]) -> UserState:
    ring = b""
    for item, value in answers:
        ring = put_answer(ring, int(KEYS[item]), value)
    return msgspec.structs.replace(newcomer(Profile()), answers=ring)


def matches(user: UserState) -> Float32s:
    taste = FACTORS.taste_of(user)
    assert taste is not None
    return taste.columns(KEYS)[0]


def columns(user: UserState, factors: ItemFactors, catalogue: Catalogue, index: Ints) -> Float32s:
    items = ItemStates().aligned(catalogue)
    encoded = encode(FeatureQuery(user, Scene(1), catalogue, items, factors), index)
    return encoded.actions[:, [N_STATIC + index_of(c) for c in (CO_MATCH, CO_KNOWN)]]


def test_equal_answers_give_equal_bytes() -> None:
    again = fit(two_tastes().answers(100), ARGS, version=4)
    assert again.to_bytes() == FACTORS.to_bytes()
    other = fit(two_tastes(seed=2).answers(100), ARGS)
    assert other.to_bytes() != FACTORS.to_bytes()


def test_after_two_answers_a_newcomer_is_told_from_the_other_taste() -> None:
    even = matches(who_answered((0, 1.0), (1, 0.0)))
    odd = matches(who_answered((0, 0.0), (1, 1.0)))
    is_even = np.arange(N_ITEMS) % 2 == 0
    for own, other in ((even[is_even], even[~is_even]), (odd[~is_even], odd[is_even])):
        assert own.mean() > other.mean() + 3.0 * own.std() / np.sqrt(len(own))
    assert (np.argsort(-even)[:10] % 2 == 0).all()
    assert (np.argsort(-odd)[:10] % 2 == 1).all()


def test_nothing_is_known_of_users_and_items_without_answers() -> None:
    assert FACTORS.taste_of(newcomer(Profile())) is None
    assert NO_FACTORS.taste_of(who_answered((0, 1.0))) is None
    unknown = msgspec.structs.replace(newcomer(Profile()), answers=put_answer(b"", 12345, 1.0))
    assert FACTORS.taste_of(unknown) is None
    taste = FACTORS.taste_of(who_answered((0, 1.0)))
    assert taste is not None
    match, known = taste.columns(np.array([item_key("never played")], dtype=np.uint64))
    assert (match.tolist(), known.tolist()) == ([0.0], [0.0])


def test_more_answers_are_known_better() -> None:
    one, four = who_answered((0, 1.0)), who_answered(*((k, 1.0) for k in range(0, 8, 2)))
    catalogue = catalogue_named(NAMES)
    index = np.arange(N_ITEMS)
    known = [columns(user, FACTORS, catalogue, index)[:, 1] for user in (one, four)]
    assert (known[0] > 0.0).all()
    assert (known[1] > known[0]).all()


def test_the_columns_of_a_page_are_those_of_the_taste_and_0_without_a_generation() -> None:
    catalogue, user = catalogue_named([*NAMES, "new"]), who_answered((0, 1.0), (3, 0.0))
    index = np.array([5, N_ITEMS, 2])
    got = columns(user, FACTORS, catalogue, index)
    taste = FACTORS.taste_of(user)
    assert taste is not None
    expected = np.stack(taste.columns(catalogue.keys[index]), axis=1).astype(np.float16)
    assert got.tolist() == expected.astype(np.float32).tolist()
    assert got[1].tolist() == [0.0, 0.0]
    assert not columns(user, NO_FACTORS, catalogue, index).any()
    assert not columns(newcomer(Profile()), FACTORS, catalogue, index).any()


def test_the_source_proposes_what_matches_best_and_is_new() -> None:
    catalogue, user = catalogue_named([*NAMES, "new"]), who_answered((0, 1.0), (1, 0.0))
    seen = msgspec.structs.replace(user, seen=KEYS[[2, 4]].astype("<u4").tobytes())
    query = query_of(seen, Scene(1), catalogue, factors=FACTORS)
    proposed = Collaborative().propose(query, 10).tolist()
    assert len(set(proposed)) == 10
    assert not {2, 4, N_ITEMS} & set(proposed)
    assert all(item % 2 == 0 for item in proposed)
    taste = FACTORS.taste_of(seen)
    assert taste is not None
    values = taste.matches()[FACTORS.rows_of(catalogue.keys[proposed])]
    assert values.tolist() == sorted(values.tolist(), reverse=True)


def test_the_source_proposes_nothing_where_nothing_is_known() -> None:
    catalogue = catalogue_named(NAMES)
    for user, factors in ((newcomer(Profile()), FACTORS), (who_answered((0, 1.0)), NO_FACTORS)):
        query = query_of(user, Scene(1), catalogue, factors=factors)
        assert not len(Collaborative().propose(query, 10))


def test_items_with_factors_that_are_in_no_catalogue_are_not_proposed() -> None:
    catalogue = catalogue_named(NAMES[:10])
    query = query_of(who_answered((0, 1.0)), Scene(1), catalogue, factors=FACTORS)
    assert set(Collaborative().propose(query, 100).tolist()) <= set(range(10))


def test_only_the_most_answered_items_get_factors() -> None:
    window = AnswerWindow(100)
    for item, n in enumerate((5, 1, 4, 3)):
        for user in range(n):
            window.put(user, int(KEYS[item]), 1.0)
    few = fit(window.answers(100), FitArgs(dims=4, items=2, least_match_sd=0.0))
    assert set(few.keys.tolist()) == {int(KEYS[0]), int(KEYS[2])}
    more = fit(window.answers(100), FitArgs(dims=4, least_match_sd=0.0))
    assert int(KEYS[1]) not in more.keys.tolist()


def test_answers_that_tell_no_users_apart_give_no_factors() -> None:
    """Two halves of the users like two halves of the items; at first one answer each is known."""
    sizes = []
    for n_answers in (1, 2, 8):
        window = AnswerWindow(1_000)
        for user in range(40):
            for k in range(n_answers):
                window.put(user, int(KEYS[(user + 2 * k) % 8]), 1.0)
                window.put(user, int(KEYS[(user + 1 + 2 * k) % 8]), 0.0)
        assert len(fit(window.answers(100), FitArgs(dims=4, least_match_sd=0.0))) == 8
        sizes.append(len(fit(window.answers(100), FitArgs(dims=4))))
    assert sizes == [0, 8, 8]


def test_without_answers_there_are_no_factors() -> None:
    assert len(fit(AnswerWindow(10).answers(10), ARGS)) == 0


def test_a_generation_comes_back_from_its_bytes() -> None:
    back = ItemFactors.from_bytes(FACTORS.to_bytes(), 9)
    assert back.version == 9
    assert back.to_bytes() == FACTORS.to_bytes()
    user = who_answered((0, 1.0), (1, 0.0))
    mine, theirs = FACTORS.taste_of(user), back.taste_of(user)
    assert mine is not None
    assert theirs is not None
    assert theirs.vector.tolist() == mine.vector.tolist()


@pytest.mark.parametrize("data", [b"", b"\x93", FACTORS.to_bytes()[:-9], b"\x91\xa9factors/0"])
def test_bytes_that_are_no_generation_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no item factors"):
        ItemFactors.from_bytes(data, 1)


def test_factors_that_are_not_finite_or_do_not_fit_are_refused() -> None:
    two = np.array([1, 2], dtype=np.uint64)
    square = np.eye(2, dtype=np.float32)
    crowd = Crowd(square[0], square, square, 1.0)
    ones = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="finite"):
        ItemFactors.of(two, np.ones(2), ones * np.float32(np.nan), crowd)
    with pytest.raises(ValueError, match="ascending"):
        ItemFactors.of(two[::-1].copy(), np.ones(2), ones, crowd)
    with pytest.raises(ValueError, match="expected"):
        ItemFactors.of(two, np.ones(3), ones, crowd)
