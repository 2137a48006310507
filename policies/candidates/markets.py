"""Rules of each market: spoken languages, minimum age, and whether product links are offered.

A market is the country of a request. The presets are our choice and no law: the operator of a feed
answers for the ratings and product links of a market. Rejected alternatives:
`docs/decisions/eligibility.md`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from env.vocabulary import Item

MAX_AGE = 120


class MarketRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of one country."""

    # Lower-case ISO 639 codes; other languages are shown only where these leave too few items.
    # Empty means all. Items of unknown language always count as included.
    languages: tuple[str, ...] = ()
    # Age in years of users whose age is unknown; a user never sees an item that is rated above
    # their age.
    least_age: int = 13
    cart: bool = False  # whether product links are offered

    def __post_init__(self) -> None:
        """Raise ValueError for a language that is no lower-case code, or an age out of range."""
        for language in self.languages:
            if not (language.isascii() and language.isalpha() and language.islower()):
                raise ValueError(
                    f"languages must be lower-case ISO 639 codes like 'en', got {language!r}"
                )
        if not 0 <= self.least_age <= MAX_AGE:
            raise ValueError(f"least_age must be in [0, {MAX_AGE}], got {self.least_age}")


ANYWHERE = MarketRules()
"""Rules of a country without its own: all languages, no product links."""

PRESETS: Mapping[str, MarketRules] = MappingProxyType(
    {
        country: MarketRules(languages, cart=True)
        for country, languages in {
            "GB": ("en",),
            "US": ("en", "es"),
            "ID": ("id", "en"),
            "MY": ("ms", "en", "zh", "ta"),
            "TH": ("th", "en"),
            "VN": ("vi", "en"),
            "SG": ("en", "zh", "ms", "ta"),
            "PH": ("tl", "en", "fil"),
        }.items()
    }
)


class Markets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of all markets."""

    # Rules by upper-case ISO 3166 alpha-2 code.
    rules: dict[str, MarketRules] = msgspec.field(default_factory=lambda: dict(PRESETS))

    def __post_init__(self) -> None:
        """Raise ValueError for a key that is no upper-case country code."""
        for country in self.rules:
            if not (len(country) == 2 and country.isascii() and country.isupper()):
                raise ValueError(
                    f"markets must be upper-case ISO 3166 codes like 'GB', got {country!r}"
                )

    def of(self, country: str) -> MarketRules:
        """Return the rules of an upper-case country, `ANYWHERE` where it has none."""
        return self.rules.get(country, ANYWHERE)


def product(item: Item, country: str, rules: MarketRules) -> str:
    """Return the product link that a card offers in a country, empty where it offers none.

    >>> cup = msgspec.convert({"item_id": "cup", "products": {"GB": "https://shop/cup"}}, Item)
    >>> [product(cup, country, PRESETS["GB"]) for country in ("GB", "US")]
    ['https://shop/cup', '']
    >>> product(cup, "GB", ANYWHERE)
    ''
    """
    return item.products.get(country, "") if rules.cart else ""
