"""The part of a page that other languages than the user's own may take.

A page is filled in the user's own languages and with items without words. A small share of its
slots asks for another language of the market, for finding out; another share, which follows what
the user plays, goes to the languages that they do play. Both are drawn from the page's seed, before
any candidate is known. Reasons and rejected alternatives: `docs/decisions/languages.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.users.interests import LanguageRates
from env.vocabulary import Bools, Ints, spoken_by
from policies.candidates.eligibility import MARKET_LANGUAGE, OWN, REGION, Codes, Eligible

FIRST_SHARE, FIRST_CARDS = 2.0, 1.0
"""The share for finding out is this many times as large until the decayed count of cards in another
language comes to so many, which takes two pages with one."""

_LANGUAGES = 0x6C616E67756167
"""Keeps these draws apart from all others of the page's seed."""

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class PageLanguages:
    """The slots of one page that ask for another language, and the languages of the items."""

    catalogue: Catalogue | None = None
    # (n_items,) of each item's language, see `Eligible`; None: the page makes no difference
    distance: Codes | None = None
    liked: Ints = field(default_factory=_NONE.copy)  # codes of other languages that are played
    liked_slots: Ints = field(default_factory=_NONE.copy)  # slots for these, in random order
    other_slots: Ints = field(default_factory=_NONE.copy)  # slots for finding out, likewise

    @classmethod
    def of(
        cls, query: FeatureQuery, eligible: Eligible, share: float, n_slots: int, seed: int
    ) -> "PageLanguages":
        """Draw the slots of a page that ask for another language.

        Args:
            query: gives the user, the scene and the catalogue.
            eligible: the items that may be shown, with the distances of their languages.
            share: of the cards that is for finding out, in [0, 1]; 1 makes no difference between
                languages.
            n_slots: cards of the page.
            seed: of the page.
        """
        distance = eligible.distance
        if share >= 1.0 or distance is None or not (eligible.allowed & (distance > OWN)).any():
            return cls()
        user = query.user
        rates = LanguageRates.of(user.languages, user.n_cards, spoken_by(query.scene.language))
        if rates.n_met < FIRST_CARDS:
            share = min(FIRST_SHARE * share, 1.0)
        rng = np.random.default_rng(seed ^ _LANGUAGES)
        n_other = _drawn(share * n_slots, n_slots, rng)
        n_liked = _drawn(rates.liked_share * (n_slots - n_other), n_slots - n_other, rng)
        places = rng.permutation(n_slots)
        codes = [query.catalogue.codes.language(name) for name in rates.liked]
        return cls(
            query.catalogue,
            distance,
            np.array([code for code in codes if code > 0], dtype=np.int64),
            places[n_other : n_other + n_liked],
            places[:n_other],
        )

    @property
    def is_split(self) -> bool:
        """Whether the page makes a difference between languages."""
        return self.distance is not None

    @property
    def asks_for_others(self) -> bool:
        """Whether any slot asks for another language."""
        return len(self.liked_slots) + len(self.other_slots) > 0

    def is_own(self, index: Ints | slice = slice(None)) -> Bools:
        """Return which items are in the user's own languages or without words; by default all."""
        own: Bools = self._distances(index) == OWN
        return own

    def is_liked(self, index: Ints | slice = slice(None)) -> Bools:
        """Return which items are in another language that the user plays; by default of all."""
        distances = self._distances(index)
        if self.catalogue is None:
            return distances > OWN
        liked = np.zeros(len(distances), dtype=np.bool_)
        if not len(self.liked):
            return liked
        languages = self.catalogue.languages[index]
        for code in self.liked.tolist():
            liked |= languages == code
        return liked & (distances > OWN)

    def is_other(self, index: Ints | slice = slice(None)) -> Bools:
        """Return which items are in a language of the market that is neither; by default of all."""
        others: Bools = (self._distances(index) == MARKET_LANGUAGE) & ~self.is_liked(index)
        return others

    def pools(self) -> Iterator[tuple[Bools, int, bool]]:
        """Yield the items, shape (n_items,), that slots ask for, these slots, and whether liked."""
        if len(self.liked_slots):
            yield self.is_liked(), len(self.liked_slots), True
        if len(self.other_slots):
            yield self.is_other(), len(self.other_slots), False

    def substitutes(self) -> Iterator[Bools]:
        """Yield items for what own ones leave missing, nearer ones first, shapes (n_items,)."""
        distances = self._distances(slice(None))
        for distance in (MARKET_LANGUAGE, REGION):
            yield distances <= distance
        yield np.ones(len(distances), dtype=np.bool_)

    def _distances(self, index: Ints | slice) -> Codes:
        if self.distance is None:
            raise ValueError("expected a page that makes a difference between languages")
        return self.distance[index]


def _drawn(expected: float, at_most: int, rng: np.random.Generator) -> int:
    """Return a number of slots with this expectation: its floor or one more."""
    return min(int(expected + rng.random()), at_most)
