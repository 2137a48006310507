"""Which items may be shown where a page is asked for, whoever asks: markets, ratings, pools.

Hard rules, which never give way: an item must be listed, allowed in the market, rated for the
person's age and, while it is under trial, within its reach: the pool that it has earned so far.
Two rules are soft. To a market's languages a page keeps as long as enough is left that the person
has not seen. What is stopped is shown nowhere as long as anything else is left, seen or not, that
fills a page; failing that, in its home market, as far as it came there, and in no other.

It hangs on few things (country, language, the ratings within an age), so it is worked out once
for each: what follows from the catalogue is kept until that changes, and what the pools add, which
touches the items under trial only, until the reach does, as with each version of the audiences.

Rejected: the same checks on the few hundred proposed items of each page (retrieval would propose
what may not be shown, and a small market would get short pages), asking for a language of
everybody (a market in which an unusual language is spoken would show nothing in it: the person's
own language is always among the market's), stopped uploads before what was seen (whoever swipes
most would get what nobody liked), and stopped ones without a home (they would be shown anywhere).
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
"""Why an item is not eligible, the first that applies; the last is soft, "pool" where stopped."""
_UNLISTED, _MARKET, _RATING, _POOL, _LANGUAGE = range(len(REASONS))
_NONE = np.int8(-1)

MAX_REMEMBERED = 300
"""Kinds of request for which eligibility is kept: 3 bytes an item each, 7 where rules gave way."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """What may be shown, of one state of catalogue and reach; nobody writes to it.

    Attributes:
        allowed: shape (n,), one for each item of the catalogue.
        reason: shape (n,), codes into `REASONS`, -1 where nothing is against an item.
        relaxed: the rules that gave way: "language" where items in other languages than the
            market's are allowed as well, "pool" where those are that were stopped at home.
    """

    allowed: Bools
    reason: Codes
    relaxed: tuple[str, ...] = ()


class _Kind(NamedTuple):
    """All of a request that eligibility hangs on."""

    country: str
    language: str
    n_ratings: int


@dataclass(frozen=True, slots=True)
class _Tried:
    """The items that are not everywhere, of one reach: under trial with a home, or stopped."""

    index: Ints  # (m,)
    level: Ints  # (m,)
    stopped: Bools  # (m,)
    countries: Ints  # (m,) code
    languages: Ints  # (m,) code

    @classmethod
    def of(cls, catalogue: Catalogue, reach: Reach) -> "_Tried":
        """Find them."""
        on_trial = (reach.level < OPEN_LEVEL) & (catalogue.countries > 0)
        index = np.flatnonzero(on_trial | reach.stopped)
        countries, languages = catalogue.countries[index], catalogue.languages[index]
        return cls(index, reach.level[index], reach.stopped[index], countries, languages)


class _Answers:
    """What is eligible for one kind of request: strictly, and where soft rules give way.

    The wider answers are worked out when they are first asked for.
    """

    def __init__(self, base: Codes, tried: Ints, within: Bools, stopped_here: Bools) -> None:
        """Add what the pools say to what the catalogue says.

        Args:
            base: shape (n,), reasons but for the pools.
            tried: shape (m,), the items that are not everywhere.
            within: shape (m,), which of them reach this person.
            stopped_here: shape (m,), which of them are stopped and would otherwise.
        """
        reason = base.copy()
        out = tried[~within]
        against = reason[out]
        reason[out] = np.where((against < 0) | (against > _POOL), np.int8(_POOL), against)
        self.strict = Eligible(reason < 0, reason)
        self._stopped = tried[stopped_here]
        self._wide: Eligible | None = None
        self._last: Eligible | None = None

    @property
    def wide(self) -> Eligible:
        """What is eligible in all languages; the strict answer if no item is in another."""
        if self._wide is None:
            foreign = self.strict.reason == _LANGUAGE
            if foreign.any():
                reason = np.where(foreign, _NONE, self.strict.reason)
                self._wide = Eligible(reason < 0, reason, (REASONS[_LANGUAGE],))
            else:
                self._wide = self.strict
        return self._wide

    @property
    def last(self) -> Eligible:
        """The same with what was stopped at home; the wide answer if nothing was."""
        if self._last is None:
            wide = self.wide
            back = self._stopped[wide.reason[self._stopped] == _POOL]
            if len(back):
                reason = wide.reason.copy()
                reason[back] = _NONE
                self._last = Eligible(reason < 0, reason, (*wide.relaxed, REASONS[_POOL]))
            else:
                self._last = wide
        return self._last


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
        self._tried: _Tried | None = None
        self._bases: dict[_Kind, Codes] = {}
        self._kept: dict[_Kind, _Answers] = {}

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
                market's languages leave fewer, all languages are allowed, and where that leaves
                fewer even with what they have seen, what was stopped at home.
        """
        tried = self._keep_up(catalogue, reach)
        age = age_in(profile, scene, self._markets.of(scene.country).least_age)
        n_ratings = int(self._ratings.searchsorted(age, side="right"))
        answers = self._answers(catalogue, tried, _Kind(scene.country, scene.language, n_ratings))
        n_new = known.n_new(answers.strict.allowed)
        if n_new >= at_least:
            return answers.strict
        wide, last = answers.wide, answers.last
        n_left = _n_wanted(known, wide)
        if n_left < at_least and _n_wanted(known, last) > n_left:
            return last
        return wide if known.n_new(wide.allowed) > n_new else answers.strict

    def _keep_up(self, catalogue: Catalogue, reach: Reach) -> _Tried:
        """Forget what was remembered of another state; return what is not everywhere in this."""
        is_same = self._catalogue is catalogue and self._sequence == catalogue.sequence
        if is_same and self._reach is reach and self._tried is not None:
            return self._tried
        if not is_same:
            self._catalogue, self._sequence = catalogue, catalogue.sequence
            self._ratings = np.unique(catalogue.ratings)
            self._bases.clear()
        self._reach = reach
        self._kept.clear()
        self._tried = _Tried.of(catalogue, reach)
        return self._tried

    def _answers(self, catalogue: Catalogue, tried: _Tried, kind: _Kind) -> _Answers:
        found = self._kept.get(kind)
        if found is not None:
            return found
        base = self._bases.get(kind)
        if base is None:
            if len(self._bases) >= MAX_REMEMBERED:
                self._bases.clear()
                self._kept.clear()
            base = self._bases[kind] = self._work_out(catalogue, kind)
        within = self._is_within_reach(catalogue, tried, kind)
        here = within & ~tried.stopped, within & tried.stopped
        found = self._kept[kind] = _Answers(base, tried.index, *here)
        return found

    def _work_out(self, catalogue: Catalogue, kind: _Kind) -> Codes:
        """Return, shape (n,), what the catalogue alone says against each item."""
        reason = np.full(len(catalogue), _NONE, dtype=np.int8)
        reason[self._is_foreign(catalogue, kind)] = _LANGUAGE
        if kind.n_ratings < len(self._ratings):
            reason[catalogue.ratings >= self._ratings[kind.n_ratings]] = _RATING
        reason[~catalogue.in_market(kind.country)] = _MARKET
        reason[~catalogue.listed] = _UNLISTED
        return reason

    def _is_foreign(self, catalogue: Catalogue, kind: _Kind) -> Bools:
        """Return which items are in a language that is known, and not one of the market's."""
        languages = self._markets.of(kind.country).languages
        if not languages:
            return np.zeros(len(catalogue), dtype=np.bool_)
        spoken = [catalogue.language_code(name) for name in (*languages, kind.language)]
        return ~_is_any(catalogue.languages, [0, *spoken])

    def _is_within_reach(self, catalogue: Catalogue, tried: _Tried, kind: _Kind) -> Bools:
        """Return, shape (m,), which of the tried items have come as far as this person.

        Pool 0 is the home country in the item's language (unless either language is unknown),
        pool 1 the home country, pool 2 its neighbours too. What is stopped came as far as its
        home at most. Items without a country that are not stopped are not among the tried.
        """
        if not kind.country:
            return np.zeros(len(tried.index), dtype=np.bool_)
        within: Bools = tried.countries == catalogue.country_code(kind.country)
        if kind.language:
            code = catalogue.language_code(kind.language)
            within &= (tried.level > 0) | _is_any(tried.languages, [0, code])
        near = [*map(catalogue.country_code, self._homes.get(kind.country, ()))]
        spread = np.flatnonzero((tried.level == OPEN_LEVEL - 1) & ~tried.stopped)
        within[spread] |= _is_any(tried.countries[spread], near)
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


def _n_wanted(known: Known, found: Eligible) -> int:
    """Return how many allowed items the person has not blocked, whether they know them or not."""
    wanted = found.allowed if known.blocked is None else found.allowed & ~known.blocked
    return int(np.count_nonzero(wanted))


def _is_any(codes: Ints, wanted: list[int]) -> Bools:
    """Return which codes are one of a few; -1 stands for what has no code."""
    found = np.zeros(len(codes), dtype=np.bool_)
    for code in wanted:
        found |= codes == code
    return found
