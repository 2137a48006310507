"""Cohorts by behaviour: planted tastes are found, named, and keep their numbers and names."""

from collections import Counter
from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np
import pytest

from env.columns.schema import VECTOR_DIM
from env.items.content import tags_vector
from env.users.interests import Tally
from env.users.state import UserState
from env.vocabulary import Profile
from policies.collaborative.cohorts import (
    LEAST_EVIDENCE,
    MAX_COHORTS,
    NO_COHORTS,
    Cohorts,
    fit_cohorts,
)
from policies.collaborative.users import LEAST_USERS, UserColumns

TASTES = tuple((f"hobby {k}", f"sport {k}") for k in range(6))
LIKED, OTHER = 0.8, 0.25
"""Chances that a film of the user's taste is liked, and any other."""


vector_of = cache(tags_vector)


def swiped(rng: np.random.Generator, taste: int, n_cards: int = 40) -> UserState:
    """A user's state after cards of all tastes, half of them of the user's own."""
    total, signals = np.zeros(VECTOR_DIM), Counter[str]()
    for _ in range(n_cards):
        of = taste if rng.random() < 0.5 else int(rng.integers(len(TASTES)))
        tags = (str(rng.choice(TASTES[of])), "video")
        signal = 1.0 if rng.random() < (LIKED if of == taste else OTHER) else -0.5
        total += signal * vector_of(tags)
        signals.update(dict.fromkeys(tags, signal))
    return UserState(
        Profile(country=("GB", "TH")[taste % 2], language="en"),
        n_cards=n_cards,
        evidence=float(n_cards),
        plays=0.5 * n_cards,
        long_sum=total.astype("<f4").tobytes(),
        tags=tuple(Tally(tag, 1.0, signal, n_cards) for tag, signal in signals.items()),
    )


def crowd(seed: int, n: int = 240, tastes: int = 6) -> list[UserState]:
    rng = np.random.default_rng(seed)
    return [swiped(rng, k % tastes) for k in range(n)]


def fitted(users: list[UserState], before: Cohorts = NO_COHORTS) -> Cohorts:
    return fit_cohorts(UserColumns.of(users).behaviours, before)


@pytest.mark.parametrize("tastes", [2, 3, 6])
def test_planted_tastes_are_found_and_named_by_their_tags(tastes: int) -> None:
    users = crowd(1, tastes=tastes)
    found = fitted(users)
    assert len(found) == tastes
    for taste in range(tastes):
        names = Counter(cohort.name for user in users[taste::tastes] if (cohort := found.of(user)))
        (name, n), *_ = names.most_common(1)
        assert n >= 0.9 * len(users[taste::tastes])
        assert sorted(name.split(", ")) == sorted(TASTES[taste])


def test_what_is_told_of_a_cohort_counts_its_members() -> None:
    users = crowd(2)
    unknown = [UserState(Profile(), evidence=LEAST_EVIDENCE - 1.0)] * 3
    found = fitted([*users, *unknown, UserState(Profile())])
    assert found.n_unassigned == len(unknown), "who never answered is not counted"
    assert [found.of(user) for user in unknown] == [None] * 3
    assert sum(cohort.users for cohort in found.cohorts) == len(users)
    assert sum(cohort.share for cohort in found.cohorts) == pytest.approx(1.0)
    sizes = [cohort.users for cohort in found.cohorts]
    assert sizes == sorted(sizes, reverse=True)
    for cohort in found.cohorts:
        assert cohort.users == sum(found.of(user) == cohort for user in users)
        assert cohort.play_rate == pytest.approx(0.5)
        assert cohort.languages == {"en": 1.0}
        assert "video" not in [tag.tag for tag in cohort.tags], "everybody plays it"
        assert all(tag.lift > 1.0 and 0.0 < tag.share <= 1.0 for tag in cohort.tags)
        home = "TH" if int(cohort.name.split()[1].rstrip(",")) % 2 else "GB"
        assert cohort.countries[home] >= 0.9


def test_equal_users_give_equal_cohorts() -> None:
    assert fitted(crowd(3)).to_bytes() == fitted(crowd(3)).to_bytes()
    read = Cohorts.from_bytes(fitted(crowd(3)).to_bytes())
    assert read.to_bytes() == fitted(crowd(3)).to_bytes()


def test_cohorts_keep_number_and_name_in_the_next_generation() -> None:
    before = fitted(crowd(4))
    after = fitted(crowd(5, n=300), before)
    assert {c.cohort: c.name for c in before.cohorts} == {c.cohort: c.name for c in after.cohorts}
    assert after.next_number == before.next_number == 7


def test_a_new_cohort_gets_a_number_that_none_ever_had() -> None:
    before = fitted(crowd(6, tastes=6))
    fewer = fitted(crowd(7, tastes=3), before)
    assert {cohort.cohort for cohort in fewer.cohorts} < {c.cohort for c in before.cohorts}
    again = fitted(crowd(8, tastes=6), fewer)
    by_name = {frozenset(c.name.split(", ")): c.cohort for c in before.cohorts}
    kept = {cohort.cohort for cohort in fewer.cohorts}
    for cohort in again.cohorts:
        number = by_name[frozenset(cohort.name.split(", "))]
        assert cohort.cohort == number if number in kept else cohort.cohort > 6


def test_vectors_of_another_length_begin_cohorts_anew() -> None:
    before = fitted(crowd(9))
    shorter = Cohorts(before.mean[:-1], before.centres[:, :-1], before.cohorts, 0, 7)
    assert {cohort.cohort for cohort in fitted(crowd(9), shorter).cohorts} == set(range(7, 13))
    assert shorter.of(crowd(9)[0]) is None


def test_no_cohort_is_of_a_few_users() -> None:
    rng = np.random.default_rng(10)
    few = [swiped(rng, 5) for _ in range(LEAST_USERS - 1)]
    found = fitted([*crowd(11, n=120, tastes=3), *few])
    assert min(cohort.users for cohort in found.cohorts) >= LEAST_USERS
    assert not any(cohort.name.startswith(TASTES[5]) for cohort in found.cohorts)
    alone = [swiped(rng, k % 2) for k in range(2 * LEAST_USERS - 1)]
    assert fitted(alone).cohorts == ()


def test_a_tag_below_another_is_listed_and_not_in_the_name() -> None:
    users = [
        msgspec.structs.replace(user, tags=tuple(_with_part(user.tags)))
        for user in crowd(14, n=60, tastes=2)
    ]
    for cohort in fitted(users).cohorts:
        assert any("/" in tag.tag for tag in cohort.tags)
        assert "/" not in cohort.name


def _with_part(tags: tuple[Tally, ...]) -> Iterator[Tally]:
    for tally in tags:
        yield tally
        yield Tally(f"{tally.name}/part", tally.exposure, tally.signal, tally.at)


def test_users_without_tags_have_cohorts_that_are_named_by_number() -> None:
    users = [UserState(Profile(), evidence=9.0, long_sum=u.long_sum) for u in crowd(12, tastes=2)]
    assert [cohort.name for cohort in fitted(users).cohorts] == ["cohort 1", "cohort 2"]


def test_users_of_no_taste_have_no_more_cohorts_than_may_be() -> None:
    rng = np.random.default_rng(13)
    users = [
        UserState(
            Profile(),
            evidence=9.0,
            long_sum=rng.standard_normal(VECTOR_DIM).astype("<f4").tobytes(),
        )
        for _ in range(200)
    ]
    assert 0 < len(fitted(users)) <= MAX_COHORTS


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x91\xa9cohorts/0"])
def test_bytes_that_are_no_cohorts_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no cohorts"):
        Cohorts.from_bytes(data)
