"""Integer codes for names (creators, countries, tags, ...) in the catalogue's columns.

A name gets the next free code when an item first has it and keeps it for good, so codes are dense
and columns of integers are compared instead of strings. Code 0 means unknown, except for
near-duplicate keys, which every item has. Rejected alternatives: `docs/decisions/item-columns.md`.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from env.items.content import (
    MAX_COPY_KEYS,
    MAX_TAGS,
    copy_keys,
    duplicate_key,
    fold_tag,
    home_country,
    market_set,
)
from env.vocabulary import Bools, Ints, Item, primary_language

_K = TypeVar("_K", bound=Hashable)


class ItemCodes(NamedTuple):
    """An item's codes, by catalogue column."""

    creators: int
    countries: int  # of the home, `env.items.content.home_country`
    languages: int
    market_sets: int  # of the set of countries that it is bound to
    tags: Ints  # (MAX_TAGS,) of its first tags, 0 where there are no more
    duplicates: int  # that near-duplicates share
    sounds: int
    copies: Ints  # (MAX_COPY_KEYS,) of its copy keys, 0 where there are no more


class Codes:
    """The codes of all names that items ever had."""

    def __init__(self) -> None:
        self._creators, self._countries, self._languages = {"": 0}, {"": 0}, {"": 0}
        self._tags, self._sounds = {"": 0}, {"": 0}
        self._duplicates: dict[int, int] = {}
        self._copies = {0: 0}
        self._market_sets: dict[frozenset[str], int] = {frozenset(): 0}

    @property
    def n_duplicates(self) -> int:
        """Number of near-duplicate codes."""
        return len(self._duplicates)

    @property
    def n_tags(self) -> int:
        """Number of tag codes, code 0 included."""
        return len(self._tags)

    @property
    def n_creators(self) -> int:
        """Number of creator codes, code 0 included."""
        return len(self._creators)

    def put(self, item: Item) -> ItemCodes:
        """Return an item's codes, assigning codes to new names."""
        return ItemCodes(
            creators=_code(self._creators, item.creator),
            countries=_code(self._countries, home_country(item)),
            languages=_code(self._languages, primary_language(item.language)),
            market_sets=_code(self._market_sets, market_set(item)),
            tags=self._put_tags(item),
            duplicates=_code(self._duplicates, duplicate_key(item)),
            sounds=_code(self._sounds, item.sound),
            copies=self._put_copies(item),
        )

    def creators(self, creators: Iterable[str]) -> Ints:
        """Return the codes of those creators that have items here."""
        codes = map(self.creator, creators)
        return np.array([code for code in codes if code], dtype=np.int64)

    def creator(self, creator: str) -> int:
        """Return a creator's code, 0 if they have no item here."""
        return self._creators.get(creator, 0)

    def sounds(self, sounds: Iterable[str]) -> Ints:
        """Return the codes of sounds, 0 where no item has one."""
        return np.array([self._sounds.get(sound, 0) for sound in sounds], dtype=np.int64)

    def tags(self, tags: Iterable[str]) -> Ints:
        """Return the codes of folded tags, 0 where no item has one."""
        return np.array([self._tags.get(tag, 0) for tag in tags], dtype=np.int64)

    def country(self, country: str) -> int:
        """Return the code of an upper-case country, -1 where no item is from there."""
        return self._countries.get(country, -1) or -1

    def language(self, language: str) -> int:
        """Return the code of a lower-case language, -1 where no item is in it."""
        return self._languages.get(language, -1) or -1

    def allow(self, country: str) -> Bools:
        """Return by market-set code whether it allows an upper-case country; the empty set does."""
        allowed = [not markets or country in markets for markets in self._market_sets]
        return np.array(allowed, dtype=np.bool_)

    def _put_tags(self, item: Item) -> Ints:
        tags = list(filter(None, map(fold_tag, item.tags)))[:MAX_TAGS]
        codes = np.zeros(MAX_TAGS, dtype=np.int64)
        codes[: len(tags)] = [_code(self._tags, tag) for tag in tags]
        return codes

    def _put_copies(self, item: Item) -> Ints:
        keys = copy_keys(item)
        codes = np.zeros(MAX_COPY_KEYS, dtype=np.int64)
        codes[: len(keys)] = [_code(self._copies, key) for key in keys]
        return codes


def _code(codes: dict[_K, int], name: _K) -> int:
    return codes.setdefault(name, len(codes))
