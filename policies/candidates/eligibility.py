"""This module decides which items may be shown in a request's market, language and age group.

The answer depends on few facts, so it is computed once for each kind of request and then updated
incrementally: after an upload or a change of reach only that item is examined again. Rules and
rejected alternatives: `docs/decisions/eligibility.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from env.arrays.growing import grown
from env.arrays.index_sets import distinct
from env.fair_start.reach import Reach
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.items.catalogue import Catalogue
from env.vocabulary import Bools, Ints, Profile, Scene, spoken_by
from policies.candidates.context import UserHistory
from policies.candidates.markets import Markets

Codes = npt.NDArray[np.int8]
REASONS = ("unlisted", "market", "rating", "pool", "language")
"""Reasons against an item; the first that applies is stored. "language" is a soft rule, and so is
"pool" for stopped items."""

UNLISTED, MARKET, RATING, POOL, LANGUAGE = range(len(REASONS))
NOTHING = np.int8(-1)
"""Code of an eligible item."""

OWN, MARKET_LANGUAGE, REGION, FAR = range(4)
"""Distances of an item's language from the user: their own, or no words; another of the market's;
neither, but the item is from the country or a related one; neither."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The eligible items in one state of catalogue and reach; read-only.

    It is valid for the page at hand only: the next request may update it.
    """

    allowed: Bools  # (n,) one for each item of the catalogue
    reason: Codes  # (n,) codes into `REASONS`, -1 where an item is allowed
    n_allowed: int  # number of allowed items
    # Rules that gave way: "language" if items in other languages than the market's are allowed,
    # "pool" if items that were stopped at home are.
    relaxed: tuple[str, ...] = ()
    # (n,) distance of each item's language, `OWN` to `FAR`; None: all items count as the user's own
    distance: Codes | None = None

    @classmethod
    def of(
        cls, reason: Codes, relaxed: tuple[str, ...] = (), distance: Codes | None = None
    ) -> "Eligible":
        """Return the answer with these reasons and distances of languages, shape (n,) each."""
        allowed = reason < 0
        return cls(allowed, reason, int(np.count_nonzero(allowed)), relaxed, distance)

    def moved(self, index: Ints, reason: Codes, distance: Codes | None, n: int) -> "Eligible":
        """Return the answer for n items with new reasons for some, which include all new items.

        Args:
            index: shape (m,), distinct.
            reason: shape (m,), against each.
            distance: shape (n,), of all items.
        """
        allowed, reasons = grown(self.allowed, n), grown(self.reason, n)
        allowed[len(self.allowed) :] = False
        n_allowed = self.n_allowed - int(np.count_nonzero(allowed[index]))
        allowed[index], reasons[index] = reason < 0, reason
        n_allowed += int(np.count_nonzero(allowed[index]))
        return Eligible(allowed, reasons, n_allowed, self.relaxed, distance)


class EligibilityAnswers:
    """The strict and the relaxed answers for one kind of request."""

    def __init__(self, reason: Codes, distance: Codes, n_changes: int, n_steps: int) -> None:
        """Start from the reasons against each item, shape (n,), after these changes and steps.

        Args:
            distance: shape (n,), of each item's language.
        """
        self.strict, self.distance = Eligible.of(reason, (), distance), distance
        self.n_changes, self.n_steps = n_changes, n_steps
        self._wide: Eligible | None = None
        self._last: Eligible | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the arrays in bytes, without their spare capacity."""
        held = {id(some): some for some in (self.strict, self._wide, self._last) if some}
        masks = sum(some.allowed.nbytes + some.reason.nbytes for some in held.values())
        return masks + self.distance.nbytes

    def move(self, index: Ints, reason: Codes, is_back: Bools, distance: Codes, n: int) -> None:
        """Replace the reasons of some of n items, which include all new items.

        Args:
            index: shape (m,), distinct.
            reason: shape (m,), against each.
            is_back: shape (m,), items that are stopped and would otherwise reach these users.
            distance: shape (m,), of each item's language.
        """
        self.distance = grown(self.distance, n)
        self.distance[index] = distance
        strict, wide, last = self.strict, self._wide, self._last
        self.strict = strict.moved(index, reason, self.distance, n)
        if wide is not None:
            foreign = reason == LANGUAGE
            self._wide = _follow(wide, strict, self.strict, index, reason, foreign, LANGUAGE)
            reason = np.where(foreign, NOTHING, reason)
        if wide is None or self._wide is None or last is None:
            self._last = None
        else:
            back = is_back & (reason == POOL)
            self._last = _follow(last, wide, self._wide, index, reason, back, POOL)

    @property
    def wide(self) -> Eligible:
        """The answer with all languages allowed; the strict one if that changes nothing."""
        if self._wide is None:
            foreign = self.strict.reason == LANGUAGE
            if foreign.any():
                reason = np.where(foreign, NOTHING, self.strict.reason)
                self._wide = Eligible.of(reason, (REASONS[LANGUAGE],), self.distance)
            else:
                self._wide = self.strict
        return self._wide

    def last(self, stopped_here: Ints) -> Eligible:
        """Return the wide answer with items that were stopped at home allowed as well.

        Args:
            stopped_here: items that are stopped and would otherwise reach these users.
        """
        if self._last is None:
            wide = self.wide
            back = stopped_here[wide.reason[stopped_here] == POOL]
            if len(back):
                reason = wide.reason.copy()
                reason[back] = NOTHING
                relaxed = (*wide.relaxed, REASONS[POOL])
                self._last = Eligible.of(reason, relaxed, self.distance)
            else:
                self._last = wide
        return self._last


def _follow(
    wider: Eligible,
    before: Eligible,
    narrower: Eligible,
    index: Ints,
    reason: Codes,
    gives_way: Bools,
    rule: int,
) -> Eligible | None:
    """Return the updated relaxed answer, or None if it has to be computed again.

    Args:
        wider: the relaxed answer before; it is `before` if the rule had relaxed nothing.
        before: the narrower answer before.
        narrower: the narrower answer now.
        index: shape (m,), the items that changed.
        reason: shape (m,), their reasons in `narrower`.
        gives_way: shape (m,), the items that the relaxed rule allows.
    """
    if wider is before:
        return None if gives_way.any() else narrower
    reason = np.where(gives_way, NOTHING, reason)
    moved = wider.moved(index, reason, narrower.distance, len(narrower.reason))
    if moved.n_allowed == narrower.n_allowed:
        return narrower
    return replace(moved, relaxed=(*narrower.relaxed, REASONS[rule]))


MAX_REMEMBERED = 300
"""Kinds of request kept in the cache, least recently used dropped first; at least
`_MIN_REMEMBERED`."""

_MIN_REMEMBERED = 16
MAX_BYTES = 1 << 28
"""Upper bound on the cache: 3 bytes an item for each kind, and 2 for each relaxed rule."""

_MAX_STEPS = 32
"""Versions of the reach that are remembered; an older answer is computed again from scratch."""


class _Kind(NamedTuple):
    """The facts of a request on which eligibility depends."""

    country: str
    language: str
    n_ratings: int


class Eligibility:
    """A cache of eligible items by kind of request, updated as catalogue and reach change."""

    def __init__(self, markets: Markets, pools: Pools) -> None:
        """Start with an empty cache.

        Args:
            pools: the countries that an item spreads to from its home.
        """
        self._markets = markets
        self._homes = _homes_by_neighbour(pools.neighbours)
        self._catalogue: Catalogue | None = None
        self._n_changes = 0
        self._reach: Reach | None = None
        self._n_steps = 0
        self._steps: dict[int, Ints] = {}  # step number -> items whose reach moved
        self._ratings: Ints = np.zeros(0, dtype=np.int64)
        self._kept: dict[_Kind, EligibilityAnswers] = {}

    def eligible(self, known: UserHistory, reach: Reach, scene: Scene, at_least: int) -> Eligible:
        """Return the items that may be shown to a user now.

        Args:
            known: the user's history in the catalogue.
            reach: where items under rollout may be shown, aligned to the catalogue.
            scene: gives the market's country and the user's language.
            at_least: number of items that must remain. If the market's languages leave fewer unseen
                and unblocked items, all languages are allowed; if that leaves fewer even with seen
                items, items that were stopped in this home market are allowed.
        """
        catalogue = known.catalogue
        self._keep_up(catalogue, reach)
        age = age_in(known.user.profile, scene, self._markets.of(scene.country).least_age)
        n_ratings = int(self._ratings.searchsorted(age, side="right"))
        kind = _Kind(scene.country, scene.language, n_ratings)
        kept = self._kept.get(kind)
        n_bytes = 0 if kept is None else kept.n_bytes
        answers = self._answers(catalogue, reach, kind)
        found = self._found(catalogue, reach, kind, answers, known, at_least)
        if answers.n_bytes > n_bytes:
            self._forget()
        return found

    def _found(
        self,
        catalogue: Catalogue,
        reach: Reach,
        kind: _Kind,
        answers: EligibilityAnswers,
        known: UserHistory,
        at_least: int,
    ) -> Eligible:
        """Return the narrowest answer that leaves the user enough items."""
        n_new = _n_new(known, answers.strict)
        if n_new >= at_least:
            return answers.strict
        wide = answers.wide
        n_left = _n_wanted(known, wide)
        if n_left < at_least:
            last = answers.last(self._stopped_here(catalogue, reach, kind))
            if _n_wanted(known, last) > n_left:
                return last
        return wide if _n_new(known, wide) > n_new else answers.strict

    def _keep_up(self, catalogue: Catalogue, reach: Reach) -> None:
        """Record changes since the last request; clear the cache if it is another catalogue."""
        if self._catalogue is not catalogue:
            self._catalogue, self._n_changes, self._reach = catalogue, 0, None
            self._ratings = np.zeros(0, dtype=np.int64)
            self._kept.clear()
        if self._n_changes != catalogue.n_changes:
            changed = catalogue.changed_since(self._n_changes)
            self._n_changes = catalogue.n_changes
            ratings = np.union1d(self._ratings, catalogue.ratings[changed])
            if len(ratings) > len(self._ratings):  # a kind depends on them
                self._ratings = ratings
                self._kept.clear()
        if self._reach is not reach:
            if self._reach is not None:
                self._step(reach.moved_since(self._reach))
            self._reach = reach

    def _step(self, moved: Ints) -> None:
        """Record where the reach moved; uploads alone are catalogue changes already."""
        if len(moved):
            self._n_steps += 1
            self._steps[self._n_steps] = moved
            self._steps.pop(self._n_steps - _MAX_STEPS, None)

    def _answers(self, catalogue: Catalogue, reach: Reach, kind: _Kind) -> EligibilityAnswers:
        """Return the updated answers for a kind, and mark it as most recently used."""
        found = self._kept.pop(kind, None)
        if found is None or self._n_steps - found.n_steps > _MAX_STEPS:
            reason = self._against(catalogue, reach, kind, slice(0, len(catalogue)))
            distance = self._distances(catalogue, kind, slice(0, len(catalogue)))
            found = EligibilityAnswers(reason, distance, self._n_changes, self._n_steps)
        elif (found.n_changes, found.n_steps) != (self._n_changes, self._n_steps):
            steps = range(found.n_steps + 1, self._n_steps + 1)
            moved = [catalogue.changed_since(found.n_changes), *map(self._steps.__getitem__, steps)]
            index = distinct(np.concatenate(moved))
            against = self._against(catalogue, reach, kind, index)
            is_back = self._is_stopped_here(catalogue, reach, kind, index)
            distance = self._distances(catalogue, kind, index)
            found.move(index, against, is_back, distance, len(catalogue))
            found.n_changes, found.n_steps = self._n_changes, self._n_steps
        self._kept[kind] = found
        return found

    def _forget(self) -> None:
        """Evict the least recently used kinds beyond the bounds."""
        n_bytes = sum(answers.n_bytes for answers in self._kept.values())
        while len(self._kept) > MAX_REMEMBERED or (
            n_bytes > MAX_BYTES and len(self._kept) > _MIN_REMEMBERED
        ):
            n_bytes -= self._kept.pop(next(iter(self._kept))).n_bytes

    def _against(
        self, catalogue: Catalogue, reach: Reach, kind: _Kind, index: Ints | slice
    ) -> Codes:
        """Return the code of the rule against each item, shape (m,), -1 where there is none."""
        listed = catalogue.listed[index]
        reason = np.full(len(listed), NOTHING, dtype=np.int8)
        reason[self._is_foreign(catalogue, kind, index)] = LANGUAGE
        level, stopped = reach.level[index], reach.stopped[index]
        tried = np.flatnonzero((level < OPEN_LEVEL) | stopped)
        of = tried if isinstance(index, slice) else index[tried]
        within = self._is_within_reach(catalogue, kind, of, level[tried], stopped[tried])
        reason[tried[~within | stopped[tried]]] = POOL
        if kind.n_ratings < len(self._ratings):
            reason[catalogue.ratings[index] >= self._ratings[kind.n_ratings]] = RATING
        reason[~catalogue.in_market(kind.country, index)] = MARKET
        reason[~listed] = UNLISTED
        return reason

    def _is_foreign(self, catalogue: Catalogue, kind: _Kind, index: Ints | slice) -> Bools:
        """Return which items are in a known language that is not one of the market's."""
        languages, codes = self._markets.of(kind.country).languages, catalogue.languages[index]
        if not languages:
            return np.zeros(len(codes), dtype=np.bool_)
        spoken = map(catalogue.codes.language, (*languages, *spoken_by(kind.language)))
        return ~_is_any(codes, [0, *spoken])

    def _distances(self, catalogue: Catalogue, kind: _Kind, index: Ints | slice) -> Codes:
        """Return the distance of each item's language from the user, shape (m,).

        Without a registered language all languages of the market are the user's own.
        """
        languages, codes = self._markets.of(kind.country).languages, catalogue.languages[index]
        own = spoken_by(kind.language) or languages
        if not own:
            return np.full(len(codes), OWN, dtype=np.int8)
        distance = np.full(len(codes), FAR if languages else MARKET_LANGUAGE, dtype=np.int8)
        if languages:
            near = map(catalogue.codes.country, (kind.country, *self._homes.get(kind.country, ())))
            distance[_is_any(catalogue.countries[index], [*near])] = REGION
            spoken = map(catalogue.codes.language, languages)
            distance[_is_any(codes, [*spoken])] = MARKET_LANGUAGE
        distance[_is_any(codes, [0, *map(catalogue.codes.language, own)])] = OWN
        return distance

    def _stopped_here(self, catalogue: Catalogue, reach: Reach, kind: _Kind) -> Ints:
        """Return the stopped items that would otherwise reach this user."""
        stopped = reach.tried[reach.stopped[reach.tried]]
        here: Ints = stopped[self._is_stopped_here(catalogue, reach, kind, stopped)]
        return here

    def _is_stopped_here(
        self, catalogue: Catalogue, reach: Reach, kind: _Kind, index: Ints
    ) -> Bools:
        """Return, shape (m,), which items are stopped and would otherwise reach this user."""
        stopped = reach.stopped[index]
        home = catalogue.countries[index] == catalogue.codes.country(kind.country)
        within = self._is_within_reach(catalogue, kind, index, reach.level[index], stopped)
        here: Bools = stopped & home & within
        return here

    def _is_within_reach(
        self, catalogue: Catalogue, kind: _Kind, index: Ints, level: Ints, stopped: Bools
    ) -> Bools:
        """Return, shape (m,), which items under rollout have reached this user.

        Pool 0 is the home country in the item's language (unless either language is unknown), pool
        1 the home country, pool 2 its neighbours as well. An item without a home is everywhere. A
        stopped item never leaves its home.
        """
        countries, languages = catalogue.countries[index], catalogue.languages[index]
        if not kind.country:
            homeless: Bools = countries == 0
            return homeless
        within: Bools = countries == catalogue.codes.country(kind.country)
        if kind.language:
            code = catalogue.codes.language(kind.language)
            within &= (level > 0) | _is_any(languages, [0, code])
        near = [*map(catalogue.codes.country, self._homes.get(kind.country, ()))]
        spread = np.flatnonzero((level == OPEN_LEVEL - 1) & ~stopped)
        within[spread] |= _is_any(countries[spread], near)
        within |= countries == 0
        return within


def age_in(profile: Profile, scene: Scene, unknown: int) -> int:
    """Return the least age in years that the user's year of birth allows.

    >>> newyear = Scene(at_ms=1_767_225_600_000)  # 2026 begins
    >>> [age_in(Profile(birth_year=year), newyear, 13) for year in (2008, 2007, 0)]
    [17, 18, 13]
    """
    if not profile.birth_year:
        return unknown
    return max(datetime.fromtimestamp(scene.at_ms / 1000, UTC).year - profile.birth_year - 1, 0)


def _homes_by_neighbour(neighbours: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return for each country the homes whose pool 2 includes it."""
    countries = {country for near in neighbours.values() for country in near}
    return {
        country: tuple(home for home, near in neighbours.items() if country in near)
        for country in countries
    }


def _n_new(known: UserHistory, found: Eligible) -> int:
    return known.n_new(found.allowed, found.n_allowed)


def _n_wanted(known: UserHistory, found: Eligible) -> int:
    return known.n_wanted(found.allowed, found.n_allowed)


def _is_any(codes: Ints, wanted: list[int]) -> Bools:
    """Return which codes are among a few; -1 stands for a missing code."""
    found = np.zeros(len(codes), dtype=np.bool_)
    for code in wanted:
        found |= codes == code
    return found
