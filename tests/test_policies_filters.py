"""Filters: everybody who goes has one reason, the hard rules hold, the others give way in order."""

from collections.abc import Sequence

import numpy as np
import pytest
from builders import NOW_MS, catalogue_with

from env.catalogue import Catalogue
from env.open_cards import PAGE_OPEN_MS
from env.records import Drawn, FeedbackKind, FeedbackRecord, PageRecord
from env.user_fold import fold
from env.users import UserState, newcomer
from env.vocabulary import (
    DecisionId,
    Ints,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
)
from policies import filters
from policies.filters import REASONS, Filtered
from policies.known import Known

USER, SESSION = UserKey("u"), SessionId("s")
SCENE = Scene(NOW_MS, country="GB")
TWINS = {"title": "How to fold a paper crane", "duration_s": 30.0}


def page(catalogue: Catalogue, names: str, name: str, at_ms: int) -> PageRecord:
    index = [catalogue.index_of(ItemId(each)) for each in names.split()]
    return PageRecord(
        page_id=PageId(name),
        at_ms=at_ms,
        user=USER,
        session=SESSION,
        scene=Scene(at_ms),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=1,
        rules=(),
        slots=(),
        drawn=tuple(Drawn(slot, slot, 1.0) for slot in range(len(index))),
        cards=tuple(catalogue.card(i) for i in index if i is not None),
        reasons=(),
        policy="uniform@0",
        explorer={},
        eps=0.0,
    )


def person(
    catalogue: Catalogue, *, seen: str = "", disliked: str = "", delivered: str = ""
) -> UserState:
    """Return who saw and disliked items on a page long ago, and has a page open now."""
    names, before_ms = f"{seen} {disliked}", NOW_MS - 2 * PAGE_OPEN_MS
    state = fold(newcomer(Profile()), page(catalogue, names, "before", before_ms))
    for slot, name in enumerate(names.split()):
        kind: FeedbackKind = "not_interested" if name in disliked.split() else "impression"
        decision = DecisionId(f"before:{slot}")
        event = FeedbackRecord(f"e{slot}", decision, before_ms, USER, SESSION, kind)
        state = fold(state, event)
    state = fold(state, page(catalogue, delivered, "now", NOW_MS))
    assert state is not None
    return state


def apply(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    index: Ints,
    *,
    at_least: int = 1,
    per_creator: int = 3,
) -> Filtered:
    known = Known.of(user, catalogue, scene.at_ms)
    return filters.apply(known, scene, catalogue, index, at_least=at_least, per_creator=per_creator)


def everything(catalogue: Catalogue) -> Ints:
    return np.arange(len(catalogue))


def names_of(catalogue: Catalogue, index: Ints) -> list[str]:
    return [catalogue.ids[i] for i in index]


def reasons_of(catalogue: Catalogue, filtered: Filtered) -> dict[str, str]:
    names = names_of(catalogue, filtered.removed)
    return dict(zip(names, (REASONS[code] for code in filtered.reasons), strict=True))


def test_nothing_goes_without_a_reason() -> None:
    catalogue = catalogue_with(a={}, b={}, c={})
    index = np.array([2, 0, 1])
    filtered = apply(newcomer(Profile()), SCENE, catalogue, index)
    assert filtered.kept.tolist() == [2, 0, 1]
    assert filtered.rows.tolist() == [0, 1, 2]
    assert filtered.counts() == {}
    assert filtered.degraded == ""


def test_each_that_goes_has_its_reason() -> None:
    catalogue = catalogue_with(
        taken={"listed": False},
        abroad={"markets": ["TH"]},
        disliked={"creator": "bore"},
        another={"creator": "bore"},
        open={},
        seen=TWINS,
        twin=TWINS,
        one={"creator": "busy"},
        two={"creator": "busy"},
        three={"creator": "busy"},
        last={},
    )
    user = person(catalogue, seen="seen", disliked="disliked", delivered="open")
    filtered = apply(user, SCENE, catalogue, everything(catalogue), per_creator=2)
    assert names_of(catalogue, filtered.kept) == ["one", "two", "last"]
    assert reasons_of(catalogue, filtered) == {
        "taken": "unlisted",
        "abroad": "market",
        "disliked": "blocked",
        "another": "blocked",
        "open": "delivered",
        "seen": "seen",
        "twin": "duplicate",
        "three": "creator",
    }
    assert filtered.counts() == {
        "unlisted": 1,
        "market": 1,
        "blocked": 2,
        "delivered": 1,
        "seen": 1,
        "duplicate": 1,
        "creator": 1,
    }


def test_kept_and_removed_are_the_proposal_in_its_order() -> None:
    catalogue = catalogue_with(**{f"i{i}": {"listed": i % 3 > 0} for i in range(12)})
    index = np.random.default_rng(0).permutation(12)
    filtered = apply(newcomer(Profile()), SCENE, catalogue, index)
    assert index[filtered.rows].tolist() == filtered.kept.tolist()
    assert sorted([*filtered.kept, *filtered.removed]) == list(range(12))
    assert filtered.removed.tolist() == [i for i in index if i % 3 == 0]


def test_of_near_duplicates_and_of_a_creators_items_the_first_proposed_stay() -> None:
    busy = {"creator": "busy"}
    catalogue = catalogue_with(a=TWINS, b=TWINS, c=busy, d=busy, e=busy)
    filtered = apply(
        newcomer(Profile()), SCENE, catalogue, np.array([4, 1, 0, 2, 3]), per_creator=2
    )
    assert names_of(catalogue, filtered.kept) == ["e", "b", "c"]


def test_what_goes_anyway_does_not_count_against_its_creator_or_its_twin() -> None:
    hidden = {"creator": "busy", "listed": False, **TWINS}
    shown = {"creator": "busy", **TWINS}
    catalogue = catalogue_with(a=hidden, b=shown)
    filtered = apply(newcomer(Profile()), SCENE, catalogue, np.array([0, 1]), per_creator=1)
    assert names_of(catalogue, filtered.kept) == ["b"]


def test_items_of_unknown_creators_are_not_capped() -> None:
    catalogue = catalogue_with(a={}, b={}, c={})
    kept = apply(newcomer(Profile()), SCENE, catalogue, everything(catalogue), per_creator=1).kept
    assert len(kept) == 3


def test_a_page_is_open_for_its_time_only() -> None:
    catalogue = catalogue_with(a={}, b={})
    user = person(catalogue, delivered="a")
    later = Scene(NOW_MS + PAGE_OPEN_MS, country="GB")
    assert names_of(catalogue, apply(user, SCENE, catalogue, np.array([0, 1])).kept) == ["b"]
    assert names_of(catalogue, apply(user, later, catalogue, np.array([0, 1])).kept) == ["a", "b"]


@pytest.mark.parametrize(
    ("at_least", "back", "relaxed"),
    [
        (1, [], ()),
        (2, ["second"], ("creator",)),
        (3, ["second", "twin"], ("creator", "duplicate")),
        (4, ["second", "twin", "seen"], ("creator", "duplicate", "seen")),
        (5, ["second", "twin", "seen", "open"], ("creator", "duplicate", "seen", "delivered")),
        (9, ["second", "twin", "seen", "open"], ("creator", "duplicate", "seen", "delivered")),
    ],
)
def test_rules_give_way_in_order_and_only_for_as_many_as_are_missing(
    at_least: int, back: Sequence[str], relaxed: tuple[str, ...]
) -> None:
    catalogue = catalogue_with(
        taken={"listed": False},
        abroad={"markets": ["TH"]},
        disliked={"creator": "bore"},
        open={},
        seen=TWINS,
        twin=TWINS,
        first={"creator": "busy"},
        second={"creator": "busy"},
    )
    user = person(catalogue, seen="seen", disliked="disliked", delivered="open")
    filtered = apply(
        user, SCENE, catalogue, everything(catalogue), at_least=at_least, per_creator=1
    )
    assert set(names_of(catalogue, filtered.kept)) == {"first", *back}
    assert filtered.relaxed == relaxed
    assert filtered.degraded == (f"gave way: {', '.join(relaxed)}" if relaxed else "")


def test_an_empty_proposal_is_no_error() -> None:
    catalogue = catalogue_with(a={})
    filtered = apply(newcomer(Profile()), SCENE, catalogue, np.zeros(0, dtype=np.int64))
    assert len(filtered.kept) == len(filtered.removed) == 0
    assert filtered.degraded == ""


def test_the_preview_knows_what_was_seen_delivered_and_blocked() -> None:
    catalogue = catalogue_with(a={}, b={"creator": "bore"}, c={}, d={}, e={"creator": "bore"})
    user = person(catalogue, seen="a", disliked="b", delivered="c")
    known = Known.of(user, catalogue, NOW_MS)
    assert known.items.tolist() == [True, True, True, False, False]
    assert known.allowed(catalogue, "GB").tolist() == [True, False, True, True, False]


def test_the_preview_agrees_with_the_filter_on_many_items() -> None:
    names = [f"i{i}" for i in range(300)]
    catalogue = catalogue_with(**{name: {"creator": f"c{i % 90}"} for i, name in enumerate(names)})
    rng = np.random.default_rng(4)
    seen, disliked, delivered = rng.permutation(300)[:24].reshape(3, 8)
    user = person(
        catalogue,
        seen=" ".join(f"i{i}" for i in seen),
        disliked=" ".join(f"i{i}" for i in disliked),
        delivered=" ".join(f"i{i}" for i in delivered),
    )
    known = Known.of(user, catalogue, NOW_MS)
    preview = known.items | ~known.allowed(catalogue, "GB")
    filtered = apply(user, SCENE, catalogue, everything(catalogue), per_creator=100)
    assert np.flatnonzero(preview).tolist() == filtered.removed.tolist()
