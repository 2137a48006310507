"""Filters: everybody who goes has one reason, the hard rules hold, the others give way in order."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, catalogue_named, catalogue_with, make_item, put
from queries import query_of
from reaches import reach_with

from env.fair_start.audience import Audiences
from env.fair_start.settings import Pools
from env.items.catalogue import Catalogue
from env.items.content import MAX_TAGS
from env.records import BlockRecord, Drawn, FeedbackKind, FeedbackRecord, PageRecord
from env.users.fold import fold
from env.users.open_cards import PAGE_OPEN_MS
from env.users.seen import SeenSet, fingerprints, pack
from env.users.state import UserState, newcomer
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Ints,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
)
from policies.candidates import filters
from policies.candidates.context import SeenIndex, UserHistory
from policies.candidates.eligibility import Eligibility
from policies.candidates.filters import REASONS, Filtered, filter_candidates
from policies.candidates.markets import MarketRules, Markets
from policies.candidates.retrieval import retrieve

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


def a_user(
    catalogue: Catalogue,
    *,
    seen: str = "",
    disliked: str = "",
    delivered: str = "",
    creators: str = "",
    tags: str = "",
    follows: tuple[CreatorId, ...] = (),
) -> UserState:
    """Return who saw and disliked items on a page long ago, blocked some, has a page open now."""
    names, before_ms = f"{seen} {disliked}", NOW_MS - 2 * PAGE_OPEN_MS
    state = fold(newcomer(Profile(follows=follows)), page(catalogue, names, "before", before_ms))
    for slot, name in enumerate(names.split()):
        kind: FeedbackKind = "not_interested" if name in disliked.split() else "impression"
        decision = DecisionId(f"before:{slot}")
        event = FeedbackRecord(f"e{slot}", decision, before_ms, USER, SESSION, kind)
        state = fold(state, event)
    unwanted = tuple(map(CreatorId, creators.split()))
    state = fold(state, BlockRecord(USER, before_ms, unwanted, tuple(tags.split())))
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
    creator_gap: int = 0,
    languages: tuple[str, ...] = (),
) -> Filtered:
    known = UserHistory.of(user, catalogue, scene.at_ms, creator_gap)
    markets = Markets({scene.country: MarketRules(languages)})
    reach = Audiences().aligned(catalogue)
    eligible = Eligibility(markets, Pools()).eligible(known, reach, scene, at_least)
    query = query_of(
        user,
        scene,
        catalogue,
        eligible=eligible,
        size=at_least,
        per_creator=per_creator,
        creator_gap=creator_gap,
    )
    return filters.filter_candidates(query, index)


def everything(catalogue: Catalogue) -> Ints:
    return np.arange(len(catalogue))


def names_of(catalogue: Catalogue, index: Ints) -> list[str]:
    return [catalogue.ids[i] for i in index]


def reasons_of(catalogue: Catalogue, filtered: Filtered) -> dict[str, str]:
    names = names_of(catalogue, filtered.removed)
    return dict(zip(names, (REASONS[code] for code in filtered.reasons), strict=True))


ALL_SOFT = ("recent", "creator", "duplicate", "seen", "delivered")


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
        adult={"rating": 18},
        thai={"language": "th"},
        bore={"creator": "bore"},
        cats={"tags": ["Cats"]},
        disliked={"title": "Paint dries, in real time", "duration_s": 9.0},
        drier={"title": "Paint dries in real time", "duration_s": 9.0},
        open={"creator": "late"},
        seen=TWINS,
        twin=TWINS,
        one={"creator": "busy"},
        two={"creator": "busy"},
        three={"creator": "busy"},
        again={"creator": "late"},
        last={"language": "en"},
    )
    user = a_user(
        catalogue, seen="seen", disliked="disliked", delivered="open", creators="bore", tags="#cats"
    )
    filtered = apply(
        user,
        SCENE,
        catalogue,
        everything(catalogue),
        per_creator=2,
        creator_gap=10,
        languages=("en",),
    )
    assert names_of(catalogue, filtered.kept) == ["one", "two", "last"]
    expected = {
        "taken": "unlisted",
        "abroad": "market",
        "adult": "rating",
        "thai": "language",
        "bore": "blocked",
        "cats": "blocked",
        "disliked": "blocked",
        "drier": "blocked",
        "open": "delivered",
        "seen": "seen",
        "twin": "duplicate",
        "three": "creator",
        "again": "recent",
    }
    assert reasons_of(catalogue, filtered) == expected
    assert filtered.counts() == Counter(expected.values())
    assert filtered.degraded == ""


def test_a_tag_that_is_blocked_blocks_items_of_however_many_tags() -> None:
    many = [f"tag{i}" for i in range(MAX_TAGS)]
    catalogue = catalogue_with(ninth={"tags": [*many, "CATS"]}, other={"tags": [*many, "dogs"]})
    user = a_user(catalogue, tags="cats")
    filtered = apply(user, SCENE, catalogue, everything(catalogue), at_least=2)
    assert names_of(catalogue, filtered.kept) == ["other"]


def test_what_a_user_blocks_never_gives_way() -> None:
    catalogue = catalogue_with(
        a={"creator": "bore"}, b={"tags": ["cats"]}, c={"rating": 18}, d={"markets": ["TH"]}
    )
    user = a_user(catalogue, creators="bore", tags="cats")
    filtered = apply(user, SCENE, catalogue, everything(catalogue), at_least=4)
    assert len(filtered.kept) == 0


def test_where_the_languages_were_widened_the_page_says_so() -> None:
    catalogue = catalogue_with(a={"language": "en"}, b={"language": "th"})
    index, nobody = everything(catalogue), newcomer(Profile())
    enough = apply(nobody, SCENE, catalogue, index, languages=("en",))
    assert (names_of(catalogue, enough.kept), enough.degraded) == (["a"], "")
    wide = apply(nobody, SCENE, catalogue, index, languages=("en",), at_least=2)
    assert (names_of(catalogue, wide.kept), wide.degraded) == (["a", "b"], "gave way: language")


def test_where_only_what_was_stopped_at_home_is_left_the_page_says_so() -> None:
    catalogue = catalogue_with(a={"country": "GB"}, b={"country": "TH"}, c={"language": "th"})
    reach = reach_with(catalogue, level={"a": 0, "b": 0}, stopped=("a", "b"))
    rules = Eligibility(Markets({"GB": MarketRules(("en",))}), Pools())
    known = UserHistory.of(newcomer(Profile()), catalogue, SCENE.at_ms)
    for at_least, expected, degraded in (
        (1, ["c"], "gave way: language"),
        (2, ["a", "c"], "gave way: language, pool"),
        (3, ["a", "c"], "gave way: language, pool"),
    ):
        found = rules.eligible(known, reach, SCENE, at_least)
        left = filters.filter_candidates(
            query_of(known.user, SCENE, catalogue, eligible=found, size=at_least),
            everything(catalogue),
        )
        assert (names_of(catalogue, left.kept), left.degraded) == (expected, degraded)


RECENTLY = {f"i{k}": {"creator": f"c{k}", "sound": f"s{k % 4}"} for k in range(12)}


@pytest.mark.parametrize(
    ("seen", "delivered", "gap", "back"),
    [
        ("i0 i1 i2 i3", "", 2, {"c0", "c1"}),
        ("i0 i1 i2 i3", "", 4, set()),
        ("i0 i1 i2 i3", "", 0, {"c0", "c1", "c2", "c3"}),
        ("i0 i1 i2", "i3", 2, {"c0", "c1"}),
        ("i0 i1", "i2 i3", 2, {"c0", "c1"}),
        ("i0", "i1 i2 i3", 2, {"c0", "c1"}),
        ("", "i0 i1 i2 i3", 3, {"c0"}),
    ],
)
def test_a_creator_pauses_for_so_many_cards_shown_or_on_their_way(
    seen: str, delivered: str, gap: int, back: set[str]
) -> None:
    more = {f"more{k}": {"creator": f"c{k}"} for k in range(4)}
    catalogue = catalogue_with(**RECENTLY, **more)
    user = a_user(catalogue, seen=seen, delivered=delivered)
    index = np.arange(12, 16)
    filtered = apply(user, SCENE, catalogue, index, at_least=0, creator_gap=gap)
    kept = {str(catalogue.item(int(i)).creator) for i in filtered.kept}
    assert kept == back
    reasons = {REASONS[code] for code in filtered.reasons}
    assert reasons <= {"recent"}


def test_a_followed_creator_pauses_for_half_as_long() -> None:
    more = {f"more{k}": {"creator": f"c{k}"} for k in range(4)}
    catalogue = catalogue_with(**RECENTLY, **more)
    follows = tuple(CreatorId(f"c{k}") for k in range(4))
    for each, kept in (((), []), (follows, ["more0", "more1"])):
        user = a_user(catalogue, seen="i0 i1 i2 i3", follows=each)
        filtered = apply(user, SCENE, catalogue, np.arange(12, 16), at_least=0, creator_gap=4)
        assert names_of(catalogue, filtered.kept) == kept


def test_a_sound_pauses_too_and_silence_never() -> None:
    catalogue = catalogue_with(
        **RECENTLY, loud={"sound": "s0"}, other={"sound": "s9"}, silent={"creator": "x"}
    )
    user = a_user(catalogue, seen="i0 i1", delivered="i2")
    filtered = apply(user, SCENE, catalogue, np.array([12, 13, 14]), creator_gap=10)
    assert names_of(catalogue, filtered.kept) == ["other", "silent"]
    later = apply(user, SCENE, catalogue, np.array([12, 13, 14]), creator_gap=2)
    assert names_of(catalogue, later.kept) == ["loud", "other", "silent"]


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
    user = a_user(catalogue, delivered="a")
    later = Scene(NOW_MS + PAGE_OPEN_MS, country="GB")
    assert names_of(catalogue, apply(user, SCENE, catalogue, np.array([0, 1])).kept) == ["b"]
    assert names_of(catalogue, apply(user, later, catalogue, np.array([0, 1])).kept) == ["a", "b"]


@pytest.mark.parametrize(
    ("at_least", "back", "relaxed"),
    [
        (1, [], ()),
        (2, ["late"], ("recent",)),
        (3, ["late", "second"], ("recent", "creator")),
        (4, ["late", "second", "twin"], ("recent", "creator", "duplicate")),
        (5, ["late", "second", "twin", "seen"], ("recent", "creator", "duplicate", "seen")),
        (6, ["late", "second", "twin", "seen", "open"], ALL_SOFT),
        (9, ["late", "second", "twin", "seen", "open"], ALL_SOFT),
    ],
)
def test_rules_give_way_in_order_and_only_for_as_many_as_are_missing(
    at_least: int, back: Sequence[str], relaxed: tuple[str, ...]
) -> None:
    catalogue = catalogue_with(
        taken={"listed": False},
        abroad={"markets": ["TH"]},
        disliked={"creator": "bore"},
        open={"creator": "early"},
        seen=TWINS,
        twin=TWINS,
        first={"creator": "busy"},
        second={"creator": "busy"},
        late={"creator": "early"},
    )
    user = a_user(catalogue, seen="seen", disliked="disliked", delivered="open")
    index = everything(catalogue)
    filtered = apply(user, SCENE, catalogue, index, at_least=at_least, per_creator=1, creator_gap=5)
    assert set(names_of(catalogue, filtered.kept)) == {"first", *back}
    assert filtered.relaxed == relaxed
    assert filtered.degraded == (f"gave way: {', '.join(relaxed)}" if relaxed else "")


def test_an_empty_proposal_is_no_error() -> None:
    catalogue = catalogue_with(a={})
    filtered = apply(newcomer(Profile()), SCENE, catalogue, np.zeros(0, dtype=np.int64))
    assert len(filtered.kept) == len(filtered.removed) == 0
    assert filtered.degraded == ""


def test_the_preview_knows_what_was_seen_delivered_and_blocked() -> None:
    catalogue = catalogue_with(a={}, b={"creator": "bore"}, c={}, d={}, e={"creator": "bore"}, f={})
    user = a_user(catalogue, seen="a", disliked="f", delivered="c", creators="bore")
    known = UserHistory.of(user, catalogue, NOW_MS)
    allowed = np.array([True, True, True, True, True, True])
    assert known.items.tolist() == [0, 2, 5]
    assert known.new(allowed).tolist() == [False, False, False, True, False, False]
    assert known.again(allowed).tolist() == [0, 2]
    assert (known.n_new(allowed, 6), known.n_wanted(allowed, 6)) == (1, 3)


def test_the_preview_agrees_with_the_filter_on_many_items() -> None:
    names = [f"i{i}" for i in range(300)]
    catalogue = catalogue_with(
        **{name: {"creator": f"c{i % 90}", "tags": [f"t{i % 40}"]} for i, name in enumerate(names)}
    )
    rng = np.random.default_rng(4)
    seen, disliked, delivered = rng.permutation(300)[:24].reshape(3, 8)
    user = a_user(
        catalogue,
        seen=" ".join(f"i{i}" for i in seen),
        disliked=" ".join(f"i{i}" for i in disliked),
        delivered=" ".join(f"i{i}" for i in delivered),
        creators="c1 c2",
        tags="t3 t4",
    )
    preview = UserHistory.of(user, catalogue, NOW_MS).new(np.ones(300, dtype=np.bool_))
    filtered = apply(user, SCENE, catalogue, everything(catalogue), per_creator=100)
    assert np.flatnonzero(preview).tolist() == filtered.kept.tolist()


# --- nothing twice ---


def with_long_history(user: UserState, catalogue: Catalogue, months: list[list[str]]) -> UserState:
    """Return the user after lists of items, one a month, that went into sets."""
    sets = []
    for month, names in enumerate(months):
        index = [catalogue.index_of(ItemId(name)) or 0 for name in names]
        values = np.unique(fingerprints(catalogue.keys[index].astype(np.uint32)))
        sets.append(SeenSet(month, len(values), pack(values)))
    return msgspec.structs.replace(user, seen_sets=tuple(sets))


def test_what_was_seen_long_ago_is_seen_and_comes_again_in_the_order_of_its_times() -> None:
    catalogue = catalogue_named("abcdefgh")
    user = a_user(catalogue, seen="c a", delivered="e")
    user = with_long_history(user, catalogue, [["g", "a"], ["b"]])
    known = UserHistory.of(user, catalogue, NOW_MS)
    everybody = np.ones(8, dtype=np.bool_)
    assert np.flatnonzero(known.new(everybody)).tolist() == [3, 5, 7]
    assert known.n_new(everybody, 8) == 3
    assert known.is_seen(np.arange(8)).tolist() == [True] * 3 + [False, True, False, True, False]
    assert [catalogue.ids[k] for k in known.again(everybody)] == ["g", "b", "c", "a", "e"]


def test_seen_items_come_again_only_as_far_as_unseen_ones_are_missing_the_first_seen_first() -> (
    None
):
    catalogue = catalogue_named("abcdefgh")
    user = with_long_history(a_user(catalogue, seen="c d"), catalogue, [["a", "b"], ["e"]])
    query = query_of(user, SCENE, catalogue, size=5)
    found = retrieve(query, 100)
    filtered = filter_candidates(query, found.index)
    names = [catalogue.ids[k] for k in filtered.kept]
    assert sorted(names) == ["a", "b", "f", "g", "h"]
    assert filtered.degraded == "gave way: seen"
    reasons = {catalogue.ids[k]: found.reason(row) for row, k in enumerate(found.index)}
    assert {name for name, reason in reasons.items() if reason == "again"} == set("abcde")


def test_items_that_come_later_are_looked_up_and_others_are_not_asked_again() -> None:
    catalogue = catalogue_named("ab")
    user = with_long_history(newcomer(Profile()), catalogue_named("abcd"), [["a", "d"]])
    everybody = np.ones(3, dtype=np.bool_)
    assert UserHistory.of(user, catalogue, NOW_MS).earlier.tolist() == [0]
    catalogue.apply(put(make_item("d")))
    known = UserHistory.of(user, catalogue, NOW_MS)
    assert known.new(everybody).tolist() == [False, True, False]


def test_the_cache_of_long_histories_is_bounded() -> None:
    catalogue = catalogue_named(str(k) for k in range(2_000))
    users = [
        with_long_history(newcomer(Profile()), catalogue, [[str(k) for k in range(u, 2_000, 20)]])
        for u in range(20)
    ]
    index = SeenIndex(max_bytes=5_000)
    for _ in range(2):
        for u, user in enumerate(users):
            found = index.find(user.seen_sets, catalogue)
            assert found.tolist() == list(range(u, 2_000, 20))
            assert index.n_bytes <= 5_000


COPIES: Mapping[str, Mapping[str, object]] = {
    "vector": {"creator": "ann", "vector": [0.0, 1.0]},
    "media": {"creator": "ann", "media": "https://media/1"},
    "title and sound": {"creator": "ann", "title": "A day", "sound": "s1"},
}
ALIKE: Mapping[str, Mapping[str, object]] = {
    "tags": {"creator": "ann", "tags": ["cats", "dogs"]},
    "a zero vector": {"creator": "ann", "vector": [0.0, 0.0]},
    "a title": {"creator": "ann", "title": "A day"},
    "a sound": {"creator": "ann", "sound": "s1"},
    "nothing": {"creator": "ann"},
    "no creator": {"media": "https://media/1", "vector": [0.0, 1.0]},
}


@pytest.mark.parametrize("what", COPIES)
@pytest.mark.parametrize("when", ["lately", "long ago"])
def test_copies_by_the_same_creator_count_as_seen(what: str, when: str) -> None:
    fields = COPIES[what]
    other = {**fields, "creator": "bob"}
    catalogue = catalogue_with(a=fields, b=fields, c=other, d={})
    user = a_user(catalogue, seen="a") if when == "lately" else newcomer(Profile())
    if when == "long ago":
        user = with_long_history(user, catalogue, [["a"]])
    known = UserHistory.of(user, catalogue, NOW_MS)
    assert known.new(np.ones(4, dtype=np.bool_)).tolist() == [False, False, True, True]
    catalogue.apply(put(make_item("e", **fields)))
    later = UserHistory.of(user, catalogue, NOW_MS)
    assert later.new(np.ones(5, dtype=np.bool_)).tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("what", ALIKE)
def test_items_that_are_merely_alike_are_no_copies(what: str) -> None:
    catalogue = catalogue_with(a=ALIKE[what], b=ALIKE[what])
    user = a_user(catalogue, seen="a")
    known = UserHistory.of(user, catalogue, NOW_MS)
    assert known.new(np.ones(2, dtype=np.bool_)).tolist() == [False, True]


def test_vectors_that_differ_only_beyond_single_precision_are_no_copies() -> None:
    vectors = ([1e300, 1.0], [1e301, 1.0], [1.0, 1e-12], [1.0, 0.0])
    fields = [{"creator": "ann", "vector": vector} for vector in vectors]
    catalogue = catalogue_with(**dict(zip("abcd", fields, strict=True)))
    for k in range(4):
        assert catalogue.with_copies(np.array([k])).tolist() == [k]


def test_a_copy_of_a_copy_is_no_copy() -> None:
    both = {**COPIES["media"], **COPIES["title and sound"]}
    catalogue = catalogue_with(a=COPIES["media"], b=both, c=COPIES["title and sound"])
    assert catalogue.with_copies(np.array([0])).tolist() == [0, 1]
    assert catalogue.with_copies(np.array([1])).tolist() == [0, 1, 2]


def test_an_item_that_is_changed_is_no_copy_any_more_for_whoever_looked_before() -> None:
    catalogue = catalogue_with(a=COPIES["media"], b=COPIES["media"])
    user = with_long_history(newcomer(Profile()), catalogue, [["a"]])
    assert UserHistory.of(user, catalogue, NOW_MS).earlier.tolist() == [0, 1]
    catalogue.apply(put(make_item("b", creator="ann", media="https://media/2")))
    assert catalogue.with_copies(np.array([0])).tolist() == [0]
    assert UserHistory.of(user, catalogue, NOW_MS).earlier.tolist() == [0]


def test_users_never_get_their_own_uploads_not_even_where_nothing_else_is_left() -> None:
    catalogue = catalogue_with(a={"creator": "ann"}, b={"creator": "ann"}, c={"creator": "bob"})
    own = catalogue.of_creators(catalogue.codes.creators(["ann"]))
    user = a_user(catalogue, seen="a c")
    known = UserHistory.of(user, catalogue, NOW_MS, 10, own)
    everybody = np.ones(3, dtype=np.bool_)
    assert not known.new(everybody).any()
    assert known.again(everybody).tolist() == [2]
    assert known.n_wanted(everybody, 3) == 1
    query = dataclasses.replace(query_of(user, SCENE, catalogue, size=3), history=known)
    filtered = filter_candidates(query, np.arange(3))
    assert filtered.kept.tolist() == [2]
    assert filtered.counts() == {"own": 2}
