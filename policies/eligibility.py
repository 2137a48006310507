"""Which items may be shown where a page is asked for, whoever asks: markets, ratings, pools.

Hard rules, which never give way: an item must be listed, allowed in the market, rated for the
person's age and, while it is under trial, within its reach: the pool that it has earned so far,
and nowhere once it is stopped. One rule is soft: a market's languages, to which a page keeps as
long as enough is left that the person has not seen.

It hangs on few things (country, language, the ratings within an age), so it is worked out once
for each and kept as long as neither the catalogue nor the reach changes.

Rejected: the same checks on the few hundred proposed items of each page (retrieval would propose
what may not be shown, and a small market would get short pages), and asking for a language of
everybody (a market in which an unusual language is spoken would show nothing in it: the person's
own language is always among the market's).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from env.audience_args import OPEN_LEVEL, Pools
from env.catalogue import Catalogue
from env.reach import Reach
from env.vocabulary import Bools, Ints, Profile, Scene
from policies.known import Known
from policies.markets import Markets

Codes = npt.NDArray[np.int8]

REASONS = ("unlisted", "market", "rating", "pool", "language")
"""Why an item is not eligible, the first that applies; the last is the soft rule."""
_UNLISTED, _MARKET, _RATING, _POOL, _LANGUAGE = range(len(REASONS))

MAX_REMEMBERED = 300
"""Kinds of request for which eligibility is kept, 3 bytes an item each."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """What may be shown, of one state of catalogue and reach; nobody writes to it.

    Attributes:
        allowed: shape (n,), one for each item of the catalogue.
        reason: shape (n,), codes into `REASONS`, -1 where nothing is against an item.
        widened: items in other languages than the market's are allowed as well.
    """

    allowed: Bools
    reason: Codes
    widened: bool = False


class _Kind(NamedTuple):
    """All of a request that eligibility hangs on."""

    country: str
    language: str
    n_ratings: int


class Eligibility:
    """Works out what is eligible, and remembers it."""

    def __init__(self, markets: Markets, pools: Pools) -> None:
        """Remember nothing yet.

        Args:
            markets: the rules by country.
            pools: to which countries an item spreads from its home.
        """
        self._markets = markets
        self._homes = _homes_by_neighbour(pools.neighbours)
        self._catalogue: Catalogue | None = None
        self._sequence = 0
        self._reach: Reach | None = None
        self._ratings: Ints = np.zeros(0, dtype=np.int64)
        self._kept: dict[_Kind, tuple[Eligible, Eligible]] = {}

    def eligible(
        self,
        catalogue: Catalogue,
        reach: Reach,
        scene: Scene,
        profile: Profile,
        known: Known,
        at_least: int,
    ) -> Eligible:
        """Return what may be shown to a person now.

        Args:
            catalogue: all items.
            reach: where those under trial may be shown, aligned to the catalogue.
            scene: its country is the market, its language the person's.
            profile: tells the year of birth.
            known: what the person knows of the catalogue.
            at_least: items that must be left which they have neither seen nor blocked; where the
                market's languages leave fewer, all languages are allowed.
        """
        self._keep_up(catalogue, reach)
        age = age_in(profile, scene, self._markets.of(scene.country).least_age)
        n_ratings = int(self._ratings.searchsorted(age, side="right"))
        kind = _Kind(scene.country, scene.language, n_ratings)
        found = self._kept.get(kind)
        if found is None:
            if len(self._kept) >= MAX_REMEMBERED:
                self._kept.clear()
            found = self._kept[kind] = self._work_out(catalogue, reach, kind)
        strict, wide = found
        if strict is wide or known.n_new(strict.allowed) >= at_least:
            return strict
        return wide if known.n_new(wide.allowed) > known.n_new(strict.allowed) else strict

    def _keep_up(self, catalogue: Catalogue, reach: Reach) -> None:
        """Forget what was remembered of another state of the catalogue or of the reach."""
        is_same = self._catalogue is catalogue and self._reach is reach
        if is_same and self._sequence == catalogue.sequence:
            return
        self._catalogue, self._sequence, self._reach = catalogue, catalogue.sequence, reach
        self._ratings = np.unique(catalogue.ratings)
        self._kept.clear()

    def _work_out(
        self, catalogue: Catalogue, reach: Reach, kind: _Kind
    ) -> tuple[Eligible, Eligible]:
        """Return what is eligible in the market's languages, and in all; the same if no other."""
        reason = np.full(len(catalogue), -1, dtype=np.int8)
        reason[self._is_foreign(catalogue, kind)] = _LANGUAGE
        reason[~self._is_within_reach(catalogue, reach, kind)] = _POOL
        if kind.n_ratings < len(self._ratings):
            reason[catalogue.ratings >= self._ratings[kind.n_ratings]] = _RATING
        reason[~catalogue.in_market(kind.country)] = _MARKET
        reason[~catalogue.listed] = _UNLISTED
        strict = Eligible(reason < 0, reason)
        foreign = reason == _LANGUAGE
        if not foreign.any():
            return strict, strict
        wide = np.where(foreign, np.int8(-1), reason)
        return strict, Eligible(wide < 0, wide, widened=True)

    def _is_foreign(self, catalogue: Catalogue, kind: _Kind) -> Bools:
        """Return which items are in a language that is known, and not one of the market's."""
        languages = self._markets.of(kind.country).languages
        if not languages:
            return np.zeros(len(catalogue), dtype=np.bool_)
        spoken = [catalogue.language_code(name) for name in (*languages, kind.language)]
        return ~_is_any(catalogue.languages, [0, *spoken])

    def _is_within_reach(self, catalogue: Catalogue, reach: Reach, kind: _Kind) -> Bools:
        """Return which items have come as far as this person.

        Pool 0 is the home country in the item's language (unless either language is unknown),
        pool 1 the home country, pool 2 its neighbours too, the open pool everywhere. Items
        without a country have no home and are tried everywhere.
        """
        within: Bools = ~reach.stopped & ((reach.level >= OPEN_LEVEL) | (catalogue.countries == 0))
        trial = np.flatnonzero(~reach.stopped & ~within)
        if not len(trial) or not kind.country:
            return within
        level, country = reach.level[trial], catalogue.countries[trial]
        home = country == catalogue.country_code(kind.country)
        near = _is_any(country, [*map(catalogue.country_code, self._homes.get(kind.country, ()))])
        spoken = np.ones(len(trial), dtype=np.bool_)
        if kind.language:
            code = catalogue.language_code(kind.language)
            spoken = _is_any(catalogue.languages[trial], [0, code])
        within[trial] = np.where(level == 2, home | near, home & ((level == 1) | spoken))
        return within


def age_in(profile: Profile, scene: Scene, unknown: int) -> int:
    """Return the least age in years that a person can have by the year of their birth.

    Args:
        profile: tells the year of birth.
        scene: tells the time.
        unknown: what is returned where that year is unknown.

    >>> newyear = Scene(at_ms=1_767_225_600_000)  # 2026 begins
    >>> [age_in(Profile(birth_year=year), newyear, 13) for year in (2008, 2007, 0)]
    [17, 18, 13]
    """
    if not profile.birth_year:
        return unknown
    return max(datetime.fromtimestamp(scene.at_ms / 1000, UTC).year - profile.birth_year - 1, 0)


def _homes_by_neighbour(neighbours: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return for each country the homes from which pool 2 opens to it."""
    countries = {country for near in neighbours.values() for country in near}
    return {
        country: tuple(home for home, near in neighbours.items() if country in near)
        for country in countries
    }


def _is_any(codes: Ints, wanted: list[int]) -> Bools:
    """Return which codes are one of a few; -1 stands for what has no code."""
    found = np.zeros(len(codes), dtype=np.bool_)
    for code in wanted:
        found |= codes == code
    return found
