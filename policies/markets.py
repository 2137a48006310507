"""What each market asks for: the languages that people there watch, ages, and whether carts are on.

A market is the country that a page is asked for from. Its languages are what is really watched
there beside the official ones, so that a feed of a small catalogue is not cut to a few items. The
presets are our choice and no law: who runs a feed answers for the ratings and carts of a market.

Rejected: rules in an item (each upload would have to know every market), and a market of several
countries (ratings and carts are national).
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from env.vocabulary import Item

MAX_AGE = 120


class MarketRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be shown in one country, and how.

    Attributes:
        languages: ISO 639 codes, lower-case, of which items are shown as long as there are enough
            of them; empty: all. An item of unknown language is always among them.
        least_age: years that somebody of unknown age counts as; nobody is shown an item that is
            rated above their age.
        cart: product links are offered.
    """

    languages: tuple[str, ...] = ()
    least_age: int = 13
    cart: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be looked up.

        Raises:
            ValueError: a language is no lower-case code, or the age is out of range.
        """
        for language in self.languages:
            if not (language.isascii() and language.isalpha() and language.islower()):
                raise ValueError(
                    f"languages must be lower-case ISO 639 codes like 'en', got {language!r}"
                )
        if not 0 <= self.least_age <= MAX_AGE:
            raise ValueError(f"least_age must be in [0, {MAX_AGE}], got {self.least_age}")


ANYWHERE = MarketRules()
"""Of a country without rules of its own: all languages, no cart."""

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
    """The rules of all markets.

    Attributes:
        rules: by upper-case ISO 3166 alpha-2 code.
    """

    rules: dict[str, MarketRules] = msgspec.field(default_factory=lambda: dict(PRESETS))

    def __post_init__(self) -> None:
        """Refuse a country that no request could be from.

        Raises:
            ValueError: a key is no upper-case country code.
        """
        for country in self.rules:
            if not (len(country) == 2 and country.isascii() and country.isupper()):
                raise ValueError(
                    f"markets must be upper-case ISO 3166 codes like 'GB', got {country!r}"
                )

    def of(self, country: str) -> MarketRules:
        """Return the rules of an upper-case country, `ANYWHERE` where it has none."""
        return self.rules.get(country, ANYWHERE)


def product(item: Item, country: str, rules: MarketRules) -> str:
    """Return the product link that a card offers there, empty where it offers none.

    >>> cup = msgspec.convert({"item_id": "cup", "products": {"GB": "https://shop/cup"}}, Item)
    >>> [product(cup, country, PRESETS["GB"]) for country in ("GB", "US")]
    ['https://shop/cup', '']
    >>> product(cup, "GB", ANYWHERE)
    ''
    """
    return item.products.get(country, "") if rules.cart else ""
