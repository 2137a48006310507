"""Fair start: what is owed goes to whom it suits, the late first, and is not drawn twice over."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, catalogue_with, make_item, put
from queries import query_of
from reaches import reach_with

from env.columns.schema import VECTOR_DIM
from env.fair_start.reach import Reach
from env.fair_start.trial import TEST_PRICE
from env.items.catalogue import Catalogue
from env.users.interests import DIRECTIONS, RIDGE
from env.users.state import UserState, newcomer
from env.vocabulary import Ints, Profile, Scene
from policies.slots.offers import (
    OFFERED,
    PENDING_TIMEOUT_MS,
    PendingImpressions,
    choose_reserved,
    uploads_with_shortfall,
)

SCENE = Scene(NOW_MS, country="GB", position=1)
NAMES = tuple(f"i{k}" for k in range(8))


def axis(k: int, length: float = 1.0) -> list[float]:
    vector = np.zeros(VECTOR_DIM)
    vector[k] = length
    return vector.tolist()


def a_catalogue() -> Catalogue:
    """Return items of which each is about something else."""
    return catalogue_with(**{name: {"vector": axis(k)} for k, name in enumerate(NAMES)})


def liking(long: list[float], session: list[float] | None = None) -> UserState:
    def packed(vector: list[float]) -> bytes:
        return np.array(vector, dtype="<f4").tobytes()

    return msgspec.structs.replace(
        newcomer(Profile()),
        evidence=DIRECTIONS,
        session_evidence=DIRECTIONS,
        long_sum=packed([(RIDGE + 1.0) * x for x in long]),
        session_sum=packed([(RIDGE + 1.0) * x for x in session or [0.0] * VECTOR_DIM]),
    )


def offered(
    user: UserState,
    catalogue: Catalogue,
    reach: Reach,
    n: int,
    seed: int = 0,
    *,
    at_most: int | None = None,
) -> list[str]:
    """Return what is offered to n slots; as many, if not more are asked for."""
    at_most = n if at_most is None else at_most
    owed = uploads_with_shortfall(catalogue, reach, everything(catalogue), nothing(catalogue))
    query = query_of(user, SCENE, catalogue, reach=reach, seed=seed)
    found = choose_reserved(query, owed, n, at_most)
    return [catalogue.ids[i] for i in found]


def everything(catalogue: Catalogue) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(catalogue), dtype=np.bool_)


def nothing(catalogue: Catalogue) -> Ints:
    return np.zeros(len(catalogue), dtype=np.int64)


def test_an_upload_is_owed_to_whom_it_is_new_and_while_too_little_is_on_its_way() -> None:
    catalogue = a_catalogue()
    reach = reach_with(catalogue, owed={"i0": 3.0, "i1": 3.0, "i2": 3.0, "i3": 0.5})
    new, pending = everything(catalogue), nothing(catalogue)
    new[0] = False
    pending[[1, 2]] = 2, 3
    assert uploads_with_shortfall(catalogue, reach, new, pending).tolist() == [1, 3]
    pending[[1, 3]] = 3, 1
    assert uploads_with_shortfall(catalogue, reach, new, pending).tolist() == []


def test_those_are_offered_that_suit_the_user_or_the_session_best() -> None:
    catalogue = a_catalogue()
    reach = reach_with(catalogue, owed=dict.fromkeys(NAMES[:5], 1.0))
    fan = liking([0.1, 0.4, 0.0, 0.2] + [0.0] * (VECTOR_DIM - 4), axis(2, 0.3))
    assert offered(fan, catalogue, reach, 4) == ["i1", "i2", "i3", "i0"]
    assert offered(fan, catalogue, reach, 1) == ["i1"]


def test_a_price_stands_beside_the_match() -> None:
    catalogue = a_catalogue()
    owed = dict.fromkeys(NAMES[:3], 1.0)
    fan = liking([0.5, 0.25] + [0.0] * (VECTOR_DIM - 2))
    for price, expected in ((0.2, "i0 i1 i2"), (0.3, "i0 i2 i1"), (0.6, "i2 i0 i1")):
        reach = reach_with(catalogue, owed=owed, price={"i2": price})
        assert offered(fan, catalogue, reach, 3) == expected.split()


@pytest.mark.parametrize(
    ("n_reserved", "late", "expected"),
    [
        (1, {}, "i0 i1"),  # the policy has a choice of what is about as urgent
        (1, {"i3": 0.9}, "i3"),  # and none beside what is late,
        (2, {"i3": 0.9}, "i3 i0"),  # but another slot always finds something
        (1, {"i3": 0.45, "i4": 0.44}, "i0 i1 i3 i4"),
    ],
)
def test_what_is_late_cannot_be_passed_over(
    n_reserved: int, late: dict[str, float], expected: str
) -> None:
    catalogue = a_catalogue()
    reach = reach_with(catalogue, owed=dict.fromkeys(NAMES, 1.0), price=late)
    fan = liking([0.5, 0.46, 0.3] + [0.0] * (VECTOR_DIM - 3))
    found = offered(fan, catalogue, reach, n_reserved, at_most=len(NAMES))
    assert found == expected.split()


def test_of_many_that_are_late_a_few_are_offered_for_each_slot() -> None:
    catalogue = a_catalogue()
    late = dict.fromkeys(NAMES[1:], 2.0)
    reach = reach_with(catalogue, owed=dict.fromkeys(NAMES, 1.0), price=late)
    found = offered(newcomer(Profile()), catalogue, reach, 1, at_most=len(NAMES))
    assert len(set(found) - {"i0"}) == len(found) == OFFERED
    assert len(offered(newcomer(Profile()), catalogue, reach, 1, at_most=2)) == 2


@pytest.mark.slow
def test_between_equals_each_has_the_same_chance_and_the_seed_decides() -> None:
    catalogue = a_catalogue()
    reach = reach_with(catalogue, owed=dict.fromkeys(NAMES, 1.0))
    nobody, n = newcomer(Profile()), 800
    counts = Counter(
        name for seed in range(n) for name in offered(nobody, catalogue, reach, 2, seed)
    )
    share = 2 / len(NAMES)
    assert set(counts) == set(NAMES)
    for count in counts.values():
        assert abs(count / n - share) < 4.0 * np.sqrt(share * (1.0 - share) / n)
    assert offered(nobody, catalogue, reach, 8, 5) == offered(nobody, catalogue, reach, 8, 5)


@pytest.mark.parametrize("at_most", [4, 60])
def test_near_duplicates_do_not_take_all_offers(at_most: int) -> None:
    title = "The very same cat video"
    twins = {f"t{k}": {"title": title, "creator": f"c{k}"} for k in range(40)}
    catalogue = catalogue_with(**twins, **{name: {} for name in NAMES})
    late = {name: 2.0 + 0.01 * k for k, name in enumerate(twins)}
    reach = reach_with(catalogue, owed=dict.fromkeys(catalogue.ids, 9.0), price=late)
    found = offered(newcomer(Profile()), catalogue, reach, 4, at_most=at_most)
    assert found[0] == "t39", "the most urgent of them"
    assert len(found) == len(set(found)) == 4
    assert set(found[1:]) <= set(NAMES)


def test_what_is_on_its_way_of_a_near_duplicate_pays_the_same_debt() -> None:
    title = "The very same cat video"
    same = {"title": title, "creator": "ann"}
    catalogue = catalogue_with(a=same, b=same, copy={"title": title, "creator": "eve"})
    reach = reach_with(catalogue, owed=dict.fromkeys("ab", 3.0) | {"copy": 3.0})
    new = everything(catalogue)
    assert uploads_with_shortfall(catalogue, reach, new, np.array([1, 1, 0])).tolist() == [0, 1, 2]
    assert uploads_with_shortfall(catalogue, reach, new, np.array([2, 1, 2])).tolist() == [2]
    new[0] = False
    assert uploads_with_shortfall(catalogue, reach, new, np.array([3, 0, 3])).tolist() == []


def test_the_most_urgent_stand_first_among_what_is_owed() -> None:
    catalogue = a_catalogue()
    reach = reach_with(catalogue, owed=dict.fromkeys(NAMES[:4], 1.0), price={"i2": 0.4, "i3": 0.1})
    found = uploads_with_shortfall(catalogue, reach, everything(catalogue), nothing(catalogue))
    assert found.tolist() == [2, 3, 0, 1]


def test_a_test_is_offered_where_no_debt_can_be_paid_however_well_it_suits() -> None:
    catalogue = a_catalogue()
    fan = liking([0.9, -0.3, -0.3] + [0.0] * (VECTOR_DIM - 3))
    owed = dict.fromkeys(NAMES[:3], 1.0)
    reach = reach_with(catalogue, owed=owed, price={"i0": TEST_PRICE})
    assert set(offered(fan, catalogue, reach, 2)) == {"i1", "i2"}
    assert offered(fan, catalogue, reach, 3)[2] == "i0"
    alone = reach_with(catalogue, owed={"i0": 1.0}, price={"i0": TEST_PRICE})
    assert offered(fan, catalogue, alone, 2) == ["i0"]


@pytest.mark.parametrize("n", [0, 3])
def test_where_nothing_is_owed_nothing_is_offered(n: int) -> None:
    catalogue = a_catalogue()
    assert offered(newcomer(Profile()), catalogue, reach_with(catalogue), n) == []
    owing = reach_with(catalogue, owed={"i0": 1.0})
    assert offered(newcomer(Profile()), catalogue, owing, n) == ["i0"][:n]


def test_what_was_drawn_counts_until_nobody_can_have_seen_it() -> None:
    catalogue = a_catalogue()
    reach, undelivered = reach_with(catalogue, owed={"i0": 9.0, "i1": 9.0}), PendingImpressions()
    assert undelivered.pending(reach, NOW_MS).tolist() == [0] * 8
    undelivered.drew(np.array([0, 1, 2]), NOW_MS)
    undelivered.pending(reach, NOW_MS + 1_000)
    undelivered.drew(np.array([0]), NOW_MS + 1_000)
    assert undelivered.pending(reach, NOW_MS + PENDING_TIMEOUT_MS - 1)[:3].tolist() == [2, 1, 0]
    assert undelivered.pending(reach, NOW_MS + PENDING_TIMEOUT_MS)[:3].tolist() == [1, 0, 0]
    assert undelivered.pending(reach, NOW_MS + PENDING_TIMEOUT_MS + 1_000)[:3].tolist() == [0, 0, 0]


def test_what_the_debt_fell_by_is_not_on_its_way_any_more_and_is_not_taken_off_twice() -> None:
    catalogue = a_catalogue()
    undelivered = PendingImpressions()
    undelivered.pending(reach_with(catalogue, owed={"i0": 9.0, "i1": 9.0}), NOW_MS)
    for k in range(3):
        undelivered.drew(np.array([0, 1]), NOW_MS + k)
    later = reach_with(catalogue, owed={"i0": 7.0, "i1": 2.0})
    assert undelivered.pending(later, NOW_MS + 9).tolist()[:2] == [1, 0]
    undelivered.drew(np.array([0, 1]), NOW_MS + 10)
    assert undelivered.pending(later, NOW_MS + 10).tolist()[:2] == [2, 1]
    assert undelivered.pending(later, NOW_MS + 2 + PENDING_TIMEOUT_MS).tolist()[:2] == [1, 1]
    assert undelivered.pending(later, NOW_MS + 10 + PENDING_TIMEOUT_MS).tolist()[:2] == [0, 0]


def test_an_upload_that_comes_meanwhile_has_nothing_on_its_way() -> None:
    catalogue, undelivered = a_catalogue(), PendingImpressions()
    undelivered.pending(reach_with(catalogue, owed={"i0": 9.0}), NOW_MS)
    undelivered.drew(np.array([0]), NOW_MS)
    catalogue.apply(put(make_item("new")))
    reach = reach_with(catalogue, owed={"i0": 9.0, "new": 4.0})
    assert undelivered.pending(reach, NOW_MS).tolist() == [1, *[0] * 8]
    undelivered.drew(np.array([8, 8]), NOW_MS)
    assert undelivered.pending(reach, NOW_MS)[8] == 2


def test_debts_are_met_and_not_exceeded_however_late_they_are_heard_of() -> None:
    """A page a second takes an owed card if there is one; every third is never seen.

    What is seen is known with the first version, one every 20 s, after half a minute.
    """
    catalogue, undelivered, seen = a_catalogue(), PendingImpressions(), Counter[str]()
    owed, closing, n_drawn = {"i0": 60.0, "i1": 60.0}, list[tuple[int, str]](), 0
    reach = reach_with(catalogue, owed=owed)
    for second in range(3_000):
        now_ms = NOW_MS + 1_000 * second
        if second % 20 == 0:
            closed = [name for at_s, name in closing if at_s <= second - 30]
            closing = closing[len(closed) :]
            owed = {name: max(debt - closed.count(name), 0.0) for name, debt in owed.items()}
            reach = reach_with(catalogue, owed=owed)
        pending = undelivered.pending(reach, now_ms)
        left = uploads_with_shortfall(catalogue, reach, everything(catalogue), pending)
        if len(left):
            n_drawn += 1
            undelivered.drew(left[:1], now_ms)
            if n_drawn % 3:
                seen[catalogue.ids[left[0]]] += 1
                closing.append((second, catalogue.ids[left[0]]))
    assert seen == {"i0": 60, "i1": 60}
    assert n_drawn in (179, 180)
