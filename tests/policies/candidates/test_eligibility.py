"""Eligibility: hard rules hold for everybody, languages widen, and nothing stale is remembered."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, catalogue_with, make_item, put
from reaches import open_reach, reach_with

from env.fair_start.reach import Reach
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.items.catalogue import Catalogue
from env.users.state import newcomer
from env.vocabulary import CreatorId, ItemId, Profile, Scene
from policies.candidates import eligibility
from policies.candidates.context import UserHistory
from policies.candidates.eligibility import MAX_REMEMBERED, REASONS, Eligibility, Eligible
from policies.candidates.markets import MarketRules, Markets

POOLS = Pools(neighbours={"MY": ("SG", "ID"), "ID": ("MY",)})
MARKETS = Markets({"MY": MarketRules(("ms", "en")), "TH": MarketRules(("th",), least_age=16)})
NOW_YEAR = 2023


def eligible(
    catalogue: Catalogue,
    reach: Reach,
    country: str = "",
    language: str = "",
    *,
    at_least: int = 0,
    birth_year: int = 0,
    rules: Eligibility | None = None,
    blocked: tuple[str, ...] = (),
) -> Eligible:
    profile = Profile(birth_year=birth_year)
    creators = tuple(map(CreatorId, blocked))
    user = msgspec.structs.replace(newcomer(profile), blocked=creators)
    known = UserHistory.of(user, catalogue, NOW_MS)
    scene = Scene(NOW_MS, country, language)
    rules = rules or Eligibility(MARKETS, POOLS)
    return rules.eligible(known, reach, scene, at_least)


def names(catalogue: Catalogue, found: Eligible) -> list[str]:
    return [catalogue.ids[i] for i in np.flatnonzero(found.allowed)]


def reasons(catalogue: Catalogue, found: Eligible) -> dict[str, str]:
    gone = np.flatnonzero(~found.allowed)
    return {catalogue.ids[i]: REASONS[found.reason[i]] for i in gone}


def test_what_is_not_eligible_has_the_first_reason_that_applies() -> None:
    catalogue = catalogue_with(
        all={"listed": False, "markets": ["TH"], "rating": 18, "country": "TH", "language": "th"},
        four={"markets": ["TH"], "rating": 18, "country": "TH", "language": "th"},
        three={"rating": 18, "country": "TH", "language": "th"},
        two={"country": "TH", "language": "th"},
        one={"language": "th"},
        none={"language": "ms"},
        unknown={},
    )
    reach = reach_with(catalogue, level=dict.fromkeys(("all", "four", "three", "two"), 0))
    found = eligible(catalogue, reach, "MY", "ms")
    assert names(catalogue, found) == ["none", "unknown"]
    expected = dict(zip(("all", "four", "three", "two", "one"), REASONS, strict=True))
    assert reasons(catalogue, found) == expected
    assert (found.reason[found.allowed] == -1).all()


@pytest.mark.parametrize(
    ("country", "language", "expected"),
    [
        ("MY", "ms", "0 1 2 3"),
        ("MY", "", "0 1 2 3"),
        ("MY", "en", "1 2 3"),
        ("SG", "ms", "2 3"),
        ("ID", "", "2 3"),
        ("TH", "ms", "3"),
        ("", "ms", "3"),
        ("", "", "3"),
    ],
)
def test_each_pool_reaches_as_far_as_it_should(country: str, language: str, expected: str) -> None:
    at_home = {"country": "my", "language": "ms-MY"}
    catalogue = catalogue_with(**{str(level): at_home for level in range(4)})
    reach = reach_with(catalogue, level={str(level): level for level in range(4)})
    rules = Eligibility(Markets({}), POOLS)
    found = eligible(catalogue, reach, country, language, rules=rules)
    assert names(catalogue, found) == expected.split()


def test_an_upload_of_unknown_language_is_tried_on_all_at_home() -> None:
    catalogue = catalogue_with(a={"country": "MY"})
    reach = reach_with(catalogue, level={"a": 0})
    assert eligible(catalogue, reach, "MY", "ta").allowed.all()
    assert not eligible(catalogue, reach, "SG", "ta").allowed.any()


@pytest.mark.parametrize("country", ["MY", "TH", ""])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_has_no_home_is_tried_everywhere(level: int, country: str) -> None:
    catalogue = catalogue_with(a={}, b={"country": "GB"})
    reach = reach_with(catalogue, level={"a": level, "b": level})
    assert names(catalogue, eligible(catalogue, reach, country, "ms")) == ["a"]


STOPPED = {
    "home": {"country": "MY", "language": "ms"},
    "nowhere": {},
    "open": {"country": "MY"},
    "rest": {},
}


def stopped_world() -> tuple[Catalogue, Reach]:
    """Return four items, three of which are stopped, "open" after it came to the open pool."""
    catalogue = catalogue_with(**STOPPED)
    levels = {"home": 0, "nowhere": 1}
    return catalogue, reach_with(catalogue, level=levels, stopped=("home", "nowhere", "open"))


@pytest.mark.parametrize("country", ["MY", "TH", ""])
def test_what_is_stopped_is_shown_nowhere_while_there_is_enough(country: str) -> None:
    catalogue, reach = stopped_world()
    found = eligible(catalogue, reach, country, at_least=1)
    assert (names(catalogue, found), found.relaxed) == (["rest"], ())
    assert set(reasons(catalogue, found).values()) == {"pool"}


@pytest.mark.parametrize(
    ("country", "language", "expected"),
    [
        ("MY", "", "home open rest"),
        ("MY", "ms", "home open rest"),
        ("MY", "en", "open rest"),
        ("SG", "ms", "rest"),
        ("ID", "ms", "rest"),
        ("TH", "", "rest"),
        ("", "ms", "rest"),
    ],
)
def test_the_last_resort_is_what_was_stopped_at_home(
    country: str, language: str, expected: str
) -> None:
    catalogue, reach = stopped_world()
    found = eligible(catalogue, reach, country, language, at_least=4)
    assert names(catalogue, found) == expected.split()
    assert found.relaxed == (("pool",) if expected != "rest" else ())
    assert set(reasons(catalogue, found).values()) == {"pool"}


def test_other_languages_give_way_before_what_was_stopped() -> None:
    catalogue = catalogue_with(
        ours={"language": "ms"},
        foreign={"language": "th"},
        stopped={"country": "MY"},
        abroad={"country": "TH"},
        under_trial={"country": "TH"},
        rated={"country": "MY", "rating": 18},
        unlisted={"country": "MY", "listed": False},
        bound={"country": "MY", "markets": ["TH"]},
    )
    gone = ("stopped", "abroad", "rated", "unlisted", "bound")
    level = dict.fromkeys((*gone, "under_trial"), 0)
    reach = reach_with(catalogue, level=level, stopped=gone)
    for at_least, expected, relaxed in (
        (1, "ours", ()),
        (2, "ours foreign", ("language",)),
        (3, "ours foreign stopped", ("language", "pool")),
        (9, "ours foreign stopped", ("language", "pool")),
    ):
        found = eligible(catalogue, reach, "MY", "ms", at_least=at_least)
        assert (names(catalogue, found), found.relaxed) == (expected.split(), relaxed)


def test_what_was_stopped_stays_away_while_what_was_seen_fills_the_page() -> None:
    catalogue = catalogue_with(seen={}, stopped={"country": "MY"})
    reach = reach_with(catalogue, level={"stopped": 0}, stopped=("stopped",))
    nobody = UserHistory.of(newcomer(Profile()), catalogue, NOW_MS)
    known = replace(nobody, items=np.array([0]))
    rules, scene = Eligibility(MARKETS, POOLS), Scene(NOW_MS, "MY")
    for at_least, expected in ((1, ["seen"]), (2, ["seen", "stopped"])):
        found = rules.eligible(known, reach, scene, at_least)
        assert names(catalogue, found) == expected


def test_what_was_stopped_is_no_resort_where_its_creator_is_blocked() -> None:
    catalogue = catalogue_with(stopped={"country": "MY", "creator": "bore"})
    reach = reach_with(catalogue, level={"stopped": 0}, stopped=("stopped",))
    found = eligible(catalogue, reach, "MY", at_least=1, blocked=("bore",))
    assert (names(catalogue, found), found.relaxed) == ([], ())


@pytest.mark.parametrize(
    ("country", "birth_year", "expected"),
    [
        ("MY", 0, "0 7 13"),
        ("TH", 0, "0 7 13 16"),
        ("FR", 0, "0 7 13"),
        ("MY", NOW_YEAR - 17, "0 7 13 16"),
        ("MY", NOW_YEAR - 18, "0 7 13 16"),
        ("MY", NOW_YEAR - 19, "0 7 13 16 18"),
        ("TH", NOW_YEAR - 8, "0 7"),
        ("MY", NOW_YEAR - 7, "0"),
        ("MY", NOW_YEAR + 5, "0"),
    ],
)
def test_nobody_is_shown_what_is_rated_above_their_least_possible_age(
    country: str, birth_year: int, expected: str
) -> None:
    catalogue = catalogue_with(**{str(age): {"rating": age} for age in (0, 7, 13, 16, 18)})
    reach = open_reach(catalogue)
    found = eligible(catalogue, reach, country, birth_year=birth_year, at_least=5)
    assert names(catalogue, found) == expected.split()
    assert set(reasons(catalogue, found).values()) <= {"rating"}


def test_a_market_keeps_to_its_languages_and_to_the_user_s_own() -> None:
    items = {name: {"language": name} for name in ("ms", "en", "th", "de")}
    catalogue = catalogue_with(**items, unknown={})
    reach = open_reach(catalogue)
    for language, expected in (
        ("", ["ms", "en", "unknown"]),
        ("ms", ["ms", "en", "unknown"]),
        ("de", ["ms", "en", "de", "unknown"]),
        ("xx", ["ms", "en", "unknown"]),
    ):
        assert names(catalogue, eligible(catalogue, reach, "MY", language)) == expected
    assert eligible(catalogue, reach, "FR", "fr").allowed.all()


@pytest.mark.parametrize(("at_least", "widened"), [(0, False), (2, False), (3, True), (9, True)])
def test_languages_are_widened_where_they_leave_too_little(at_least: int, widened: bool) -> None:
    catalogue = catalogue_with(
        a={"language": "ms"},
        b={},
        c={"language": "ms", "creator": "bore"},
        d={"language": "th"},
        e={"language": "th", "rating": 18},
        f={"language": "th", "listed": False},
    )
    found = eligible(catalogue, open_reach(catalogue), "MY", at_least=at_least, blocked=("bore",))
    assert found.relaxed == (("language",) if widened else ())
    assert names(catalogue, found) == ["a", "b", "c", *(["d"] if widened else [])]


def test_nothing_is_called_widened_where_that_gives_nothing_more() -> None:
    catalogue = catalogue_with(a={"language": "ms"}, b={"language": "th", "creator": "bore"})
    found = eligible(catalogue, open_reach(catalogue), "MY", at_least=2, blocked=("bore",))
    assert found.relaxed == ()


def test_the_same_is_not_worked_out_twice() -> None:
    catalogue = catalogue_with(a={}, b={"rating": 16})
    reach, rules = open_reach(catalogue), Eligibility(MARKETS, POOLS)
    first = eligible(catalogue, reach, "MY", "ms", rules=rules)
    assert eligible(catalogue, reach, "MY", "ms", rules=rules, birth_year=2009) is first
    assert eligible(catalogue, reach, "MY", "ms", rules=rules, birth_year=1999) is not first
    assert eligible(catalogue, reach, "MY", "en", rules=rules) is not first
    assert eligible(catalogue, reach, "TH", "ms", rules=rules) is not first


def test_what_changes_is_seen_at_once() -> None:
    catalogue = catalogue_with(a={"language": "ms"}, b={"country": "MY"})
    rules, reach = Eligibility(MARKETS, POOLS), open_reach(catalogue)
    assert names(catalogue, eligible(catalogue, reach, "MY", rules=rules)) == ["a", "b"]
    catalogue.apply(put(make_item("a", language="ms", rating=18)))
    assert names(catalogue, eligible(catalogue, reach, "MY", rules=rules)) == ["b"]
    reach = reach_with(catalogue, stopped=("b",))
    assert names(catalogue, eligible(catalogue, reach, "MY", rules=rules)) == []
    catalogue.apply(put(make_item("c")))
    reach = open_reach(catalogue)
    assert names(catalogue, eligible(catalogue, reach, "MY", rules=rules)) == ["b", "c"]
    catalogue.apply(msgspec.structs.replace(put(make_item("b")), item=None, block=b""))
    assert names(catalogue, eligible(catalogue, reach, "MY", rules=rules)) == ["c"]
    assert catalogue.index_of(ItemId("b")) == 1


def test_what_is_kept_up_to_date_is_what_would_be_worked_out_anew() -> None:
    rng = np.random.default_rng(2)
    catalogue = catalogue_with(**{f"i{k}": {"country": "MY"} for k in range(20)})
    kept, scenes = (
        Eligibility(MARKETS, POOLS),
        [(c, s) for c in ("MY", "TH", "") for s in ("ms", "")],
    )
    for step in range(60):
        if rng.random() < 0.6:
            about = {
                "country": ("MY", "TH", "SG", "")[rng.integers(4)],
                "language": ("ms", "th", "xx", "")[rng.integers(4)],
                "rating": int(rng.choice([0, 0, 0, 16])),
                "listed": bool(rng.random() < 0.8),
                "markets": [["MY"], [], []][rng.integers(3)],
            }
            for _ in range(1 + step % 2):
                catalogue.apply(put(make_item(f"i{rng.integers(30)}", **about)))
        names = [*map(str, catalogue.ids)]
        level = {name: int(rng.integers(0, 4)) for name in rng.choice(names, 6)}
        reach = reach_with(catalogue, level=level, stopped=tuple(rng.choice(names, 3)))
        for country, language in scenes[:: 1 + step % 3]:
            for at_least in (1, 30, 90):
                now, anew = (
                    eligible(catalogue, reach, country, language, rules=rules, at_least=at_least)
                    for rules in (kept, Eligibility(MARKETS, POOLS))
                )
                assert now.reason.tolist() == anew.reason.tolist()
                assert (now.allowed == (now.reason < 0)).all()
                assert (now.n_allowed, now.relaxed) == (int(now.allowed.sum()), anew.relaxed)


def test_who_has_not_asked_for_long_gets_what_is_true_now() -> None:
    catalogue = catalogue_with(a={"country": "MY"}, b={"country": "TH"})
    rules = Eligibility(MARKETS, POOLS)
    eligible(catalogue, open_reach(catalogue), "MY", rules=rules)
    for k in range(80):
        reach = reach_with(catalogue, level={"b": k % 2})
        eligible(catalogue, reach, "TH", rules=rules)
    last = eligible(catalogue, reach_with(catalogue, level={"b": 0}), "MY", rules=rules)
    assert last.allowed.tolist() == [True, False]


def test_uploads_make_nobody_s_answer_be_worked_out_anew() -> None:
    catalogue = catalogue_with(a={"country": "MY", "language": "th"}, b={"country": "MY"})
    rules, reach = Eligibility(MARKETS, POOLS), reach_with(catalogue, stopped=("b",))

    def upload(k: int) -> Reach:
        catalogue.apply(put(make_item(f"new{k}", country="MY", language="ms")))
        row = OPEN_LEVEL, False, 0.0, 0.0, 0.0
        return reach.changed(len(catalogue), np.array([len(catalogue) - 1]), [row])

    def answers() -> list[Eligible]:
        n_enough = (1, len(catalogue) - 1, len(catalogue))
        return [eligible(catalogue, reach, "MY", at_least=n, rules=rules) for n in n_enough]

    answers()
    reach = upload(0)
    before = answers()
    for k in range(1, 60):
        reach = upload(k)
        eligible(catalogue, reach, "TH", rules=rules)
    for old, now in zip(before, answers(), strict=True):
        assert len(now.allowed) == len(old.allowed) + 59
        assert np.shares_memory(now.allowed, old.allowed)
    assert [now.relaxed for now in answers()] == [(), ("language",), ("language", "pool")]
    assert [now.n_allowed for now in answers()] == [60, 61, 62]


def test_the_memory_of_answers_where_rules_gave_way_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "MAX_BYTES", 3 * 4 * 36)
    catalogue = catalogue_with(a={}, b={"language": "th"}, c={"country": "MY"}, d={})
    reach, rules = reach_with(catalogue, stopped=("c",)), Eligibility(MARKETS, POOLS)
    for k in range(60):
        eligible(catalogue, reach, "MY", f"x{k}", rules=rules)
    assert len(rules._kept) == 36
    for k in range(60):
        eligible(catalogue, reach, "MY", f"y{k}", at_least=9, rules=rules)
    assert len(rules._kept) == eligibility._MIN_REMEMBERED


def test_the_markets_decide_what_may_be_shown_there() -> None:
    catalogue = catalogue_with(
        everywhere={}, bound={"markets": ["GB", "us"]}, unlisted={"listed": False}
    )
    reach, rules = open_reach(catalogue), Eligibility(Markets({}), POOLS)
    both, one = ["everywhere", "bound"], ["everywhere"]
    for country, expected in (("GB", both), ("US", both), ("TH", one), ("", one)):
        found = eligible(catalogue, reach, country, rules=rules)
        assert names(catalogue, found) == expected
    catalogue.apply(msgspec.structs.replace(put(make_item("bound")), item=None, block=b""))
    gone = eligible(catalogue, open_reach(catalogue), "GB", rules=rules)
    assert names(catalogue, gone) == one


def test_whatever_countries_are_asked_for_only_some_are_remembered() -> None:
    catalogue = catalogue_with(a={})
    rules, reach = Eligibility(MARKETS, POOLS), open_reach(catalogue)
    for k in range(MAX_REMEMBERED + 20):
        assert eligible(catalogue, reach, f"C{k}", rules=rules).allowed.all()
        assert len(rules._kept) <= MAX_REMEMBERED
