"""Markets: each country by its own rules, what it has none for without a cart."""

import msgspec
import pytest
from builders import make_item

from env.vocabulary import Item
from policies.candidates.markets import ANYWHERE, PRESETS, MarketRules, Markets, product

CUP = make_item("cup", products={"MY": "https://shop/my", "GB": "https://shop/gb"})


@pytest.mark.parametrize(
    ("country", "languages"),
    [
        ("GB", {"en"}),
        ("US", {"en", "es"}),
        ("ID", {"id", "en"}),
        ("MY", {"ms", "en", "zh", "ta"}),
        ("TH", {"th", "en"}),
        ("VN", {"vi", "en"}),
        ("SG", {"en", "zh", "ms", "ta"}),
        ("PH", {"tl", "en", "fil"}),
    ],
)
def test_the_markets_that_are_known_watch_their_languages_and_have_carts(
    country: str, languages: set[str]
) -> None:
    rules = Markets().of(country)
    assert (set(rules.languages), rules.least_age, rules.cart) == (languages, 13, True)
    assert len(PRESETS) == 8


def test_a_country_without_rules_watches_all_languages_and_has_no_cart() -> None:
    assert Markets().of("FR") is ANYWHERE
    assert (ANYWHERE.languages, ANYWHERE.cart) == ((), False)
    assert Markets({"FR": MarketRules(("fr",))}).of("GB") is ANYWHERE


def test_a_product_is_offered_where_it_is_sold_and_carts_are_on() -> None:
    off = msgspec.structs.replace(PRESETS["GB"], cart=False)
    assert product(CUP, "GB", PRESETS["GB"]) == "https://shop/gb"
    assert product(CUP, "MY", PRESETS["MY"]) == "https://shop/my"
    assert product(CUP, "TH", PRESETS["TH"]) == ""
    assert product(CUP, "GB", off) == ""
    assert product(Item(CUP.item_id), "GB", PRESETS["GB"]) == ""


@pytest.mark.parametrize("language", ["EN", "en-GB", "", "日本"])
def test_a_language_that_no_item_could_have_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match="languages must be lower-case ISO 639 codes"):
        MarketRules((language,))


@pytest.mark.parametrize("age", [-1, 121])
def test_an_age_that_nobody_has_is_refused(age: int) -> None:
    with pytest.raises(ValueError, match=r"least_age must be in \[0, 120\]"):
        MarketRules(least_age=age)


@pytest.mark.parametrize("country", ["gb", "GBR", ""])
def test_a_country_that_no_request_is_from_is_refused(country: str) -> None:
    with pytest.raises(ValueError, match="markets must be upper-case ISO 3166 codes"):
        Markets({country: MarketRules()})
