"""The languages of a page: how far an item's is from the user, and which slots ask for another."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, catalogue_with, put
from queries import query_of
from reaches import open_reach

from env.fair_start.settings import Pools
from env.items.catalogue import Catalogue
from env.users.interests import Tally
from env.users.state import UserState, newcomer
from env.vocabulary import Profile, Scene
from policies.candidates.context import UserHistory
from policies.candidates.eligibility import Eligibility, Eligible
from policies.candidates.languages import FIRST_SHARE, PageLanguages
from policies.candidates.markets import MarketRules, Markets
from policies.candidates.query import Query
from policies.candidates.retrieval import retrieve

SHARE, SIZE = 0.05, 10
POOLS = Pools(neighbours={"SG": ("MY",), "MY": ("SG",)})
MARKETS = Markets({"MY": MarketRules(("ms", "en", "zh")), "PH": MarketRules(("tl", "en", "fil"))})


def eligible(catalogue: Catalogue, country: str, language: str, at_least: int = 0) -> Eligible:
    known = UserHistory.of(newcomer(Profile()), catalogue, NOW_MS)
    rules, reach = Eligibility(MARKETS, POOLS), open_reach(catalogue)
    return rules.eligible(known, reach, Scene(NOW_MS, country, language), at_least)


def languages_of(
    query: Query, *, share: float = SHARE, seed: int = 0, size: int = SIZE
) -> PageLanguages:
    return PageLanguages.of(query, query.eligible, share, size, seed)


def query_in(
    catalogue: Catalogue, country: str = "MY", language: str = "ms", user: UserState | None = None
) -> Query:
    scene = Scene(NOW_MS, country, language)
    found = eligible(catalogue, country, language)
    return query_of(user or newcomer(Profile()), scene, catalogue, eligible=found, size=SIZE)


def who_played(language: str, exposure: float, plays: float) -> UserState:
    tally = Tally(language, exposure, plays, 50)
    return msgspec.structs.replace(newcomer(Profile()), n_cards=50, languages=(tally,))


def a_catalogue(n: int = 300) -> Catalogue:
    """Return items in Malay, English and Chinese in turn, each creator's in one language."""
    spoken = ("ms", "en", "zh")
    return catalogue_with(**{f"i{k:03d}": {"language": spoken[k % 3]} for k in range(n)})


@pytest.mark.parametrize(
    ("country", "language", "expected"),
    [
        ("MY", "ms", {"ms": 0, "none": 0, "music": 0, "en": 1, "sg": 2, "far": 3}),
        ("MY", "en", {"en": 0, "none": 0, "music": 0, "ms": 1, "sg": 2, "far": 3}),
        ("MY", "", {"ms": 0, "en": 0, "none": 0, "music": 0, "sg": 2, "far": 3}),
        ("MY", "fr", {"far": 0, "none": 0, "music": 0, "ms": 1, "en": 1, "sg": 2}),
        ("", "", dict.fromkeys(("ms", "en", "none", "music", "sg", "far"), 0)),
        ("", "en", {"en": 0, "none": 0, "music": 0, "ms": 1, "sg": 1, "far": 1}),
    ],
)
def test_the_own_language_is_near_then_the_market_s_then_the_region_s(
    country: str, language: str, expected: dict[str, int]
) -> None:
    catalogue = catalogue_with(
        ms={"language": "ms", "country": "TH"},
        en={"language": "en-GB"},
        none={"language": ""},
        music={"language": "zxx"},
        sg={"language": "ta", "country": "SG"},
        far={"language": "fr", "country": "US"},
    )
    distance = eligible(catalogue, country, language).distance
    assert distance is not None
    assert dict(zip(catalogue.ids, distance.tolist(), strict=True)) == expected


def test_filipino_and_tagalog_are_one_language() -> None:
    catalogue = catalogue_with(a={"language": "tl"}, b={"language": "fil"}, c={"language": "en"})
    for language in ("tl", "fil"):
        distance = eligible(catalogue, "PH", language).distance
        assert distance is not None
        assert distance.tolist() == [0, 0, 1]


def test_what_changes_has_the_distance_that_would_be_worked_out_anew() -> None:
    catalogue = catalogue_with(a={"language": "ms"}, b={"language": "en"})
    known = UserHistory.of(newcomer(Profile()), catalogue, NOW_MS)
    rules, scene = Eligibility(MARKETS, POOLS), Scene(NOW_MS, "MY", "ms")
    assert _distances(rules.eligible(known, open_reach(catalogue), scene, 0)) == [0, 1]
    other = catalogue_with(a={"language": "en"}, b={"language": "en"}, c={"language": "zxx"})
    for index in range(3):
        catalogue.apply(put(other.item(index)))
    assert _distances(rules.eligible(known, open_reach(catalogue), scene, 0)) == [1, 1, 0]
    # Where languages give way, the distances are the same.
    assert _distances(rules.eligible(known, open_reach(catalogue), scene, 9)) == [1, 1, 0]


def _distances(found: Eligible) -> list[int]:
    assert found.distance is not None
    return [int(distance) for distance in found.distance]


@pytest.mark.parametrize(
    ("user", "share"),
    [
        (newcomer(Profile()), FIRST_SHARE * SHARE),
        (who_played("en", 1.5, 0.0), SHARE),
        (who_played("ms", 9.0, 5.0), FIRST_SHARE * SHARE),
    ],
)
def test_who_never_played_another_language_has_a_small_share_for_finding_out(
    user: UserState, share: float
) -> None:
    query, n_pages = query_in(a_catalogue(), user=user), 2_000
    pages = [languages_of(query, seed=seed, size=7) for seed in range(n_pages)]
    assert not any(len(page.liked_slots) for page in pages)
    n_other = [len(page.other_slots) for page in pages]
    assert set(n_other) <= {int(7 * share), int(7 * share) + 1}
    se = np.sqrt(0.25 / n_pages)
    assert abs(np.mean(n_other) - 7 * share) < 4 * se
    first = np.concatenate([page.other_slots for page in pages])
    assert set(first.tolist()) == set(range(7))  # any slot may ask


def test_the_share_of_a_language_that_is_played_follows_the_plays() -> None:
    catalogue = a_catalogue()
    shares = []
    for plays in (1.0, 3.0, 6.0):
        query = query_in(catalogue, user=who_played("zh", 6.0, plays))
        pages = [languages_of(query, seed=seed) for seed in range(400)]
        assert {catalogue.codes.language("zh")} == {int(c) for p in pages for c in p.liked}
        shares.append(np.mean([len(page.liked_slots) for page in pages]) / SIZE)
        for page in pages[:20]:
            places = [*page.liked_slots.tolist(), *page.other_slots.tolist()]
            assert len(set(places)) == len(places)
    assert 0.1 < shares[0] < shares[1] < shares[2] < 0.75


@pytest.mark.parametrize(("country", "language", "share"), [("MY", "", SHARE), ("MY", "ms", 1.0)])
def test_without_a_language_or_with_the_rule_off_all_of_the_market_s_are_alike(
    country: str, language: str, share: float
) -> None:
    query = query_in(a_catalogue(), country, language)
    assert not languages_of(query, share=share).is_split


def test_candidates_are_in_the_languages_that_the_slots_ask_for() -> None:
    catalogue = a_catalogue()
    query = query_in(catalogue, user=who_played("zh", 4.0, 3.0))
    page = next(
        page
        for page in (languages_of(query, seed=seed) for seed in range(50))
        if len(page.other_slots) == 1 and len(page.liked_slots) > 1
    )
    found = retrieve(_with(query, page), 60).index
    assert len(found) == len(set(found.tolist())) == 60
    n_liked = len(page.liked_slots)
    spoken = catalogue.languages[found]
    counts = {name: int((spoken == catalogue.codes.language(name)).sum()) for name in ("zh", "en")}
    assert counts == {"zh": 6 * n_liked, "en": 6}
    assert page.is_own(found).sum() == 60 - 6 * n_liked - 6


def test_what_own_items_leave_missing_comes_from_the_nearest_languages() -> None:
    spoken = ["ms"] * 5 + ["en"] * 10 + ["ta"] * 10 + ["fr"] * 30
    homes = {"ta": "SG", "fr": "FR"}
    catalogue = catalogue_with(
        **{
            f"i{k:02d}": {"language": name, "country": homes.get(name, "")}
            for k, name in enumerate(spoken)
        }
    )
    scene, user = Scene(NOW_MS, "MY", "ms"), newcomer(Profile())
    found = eligible(catalogue, "MY", "ms", at_least=20)
    assert found.relaxed == ("language",)
    query = query_of(user, scene, catalogue, eligible=found, size=SIZE)
    page = PageLanguages.of(query, found, 0.0, SIZE, 0)
    for n, expected in ((5, (5, 0, 0, 0)), (12, (5, 7, 0, 0)), (30, (5, 10, 10, 5))):
        index = retrieve(_with(query, page), n).index
        counts = np.bincount(np.array(_distances(found))[index], minlength=4)
        assert tuple(counts.tolist()) == expected


def _with(query: Query, page: PageLanguages) -> Query:
    return replace(query, languages=page, rng=np.random.default_rng(1))
