"""Retrieval merges what the sources propose into a few hundred candidates, by share.

A source is a class with a name, a share and a method `propose`; a new one is one class and one line
in `SOURCES`. Uploads with a shortfall come first. Every other source gets a fixed share of the
result; a source without proposals leaves its share to the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from env.arrays.index_sets import first_indices
from env.items.popularity import Popular
from env.items.topics import of_topic
from env.users import state as users
from env.vocabulary import Bools, Float32s, Floats, Ints
from policies.candidates.query import MATCH_STEP, CandidateSource, Query, matches_of

FRESH_POOL = 5
"""A fresh list of n is drawn from the n x FRESH_POOL latest uploads, so that a bulk import does not
always lead with the same few."""

_LEAST_POOL = 2
"""A pool of fewer than this times the items examined hardly has enough wanted items."""

_MOST_TRIES = 8_192
"""Beyond this number it is faster to select from all wanted items."""

_SAMPLED = 8
_NONE = np.zeros(0, dtype=np.int64)
_STEPS = np.float32(1.0 / MATCH_STEP)


@dataclass(frozen=True)
class BestMatches:
    """The items that match one of the user's interests best, the best first."""

    name: str  # of the interest, see `policies.candidates.query.interests_of`
    share: float

    def propose(self, query: Query, n: int) -> Ints:
        """Return the n best matches; none where the user has no such interest."""
        interest, n = query.interests.get(self.name), min(n, query.n_new)
        if interest is None or n == 0:
            return _NONE
        catalogue, mean, sd = query.catalogue, query.items.reward_mean, query.items.reward_sd
        near = query.near(n)
        if near is None:
            matches = matches_of(self.name, interest, catalogue.vectors, mean)
            return _nearest(_steps(matches) + query.handicap, mean, sd, n, query.rng)
        index = near[self.name]
        matches = matches_of(self.name, interest, catalogue.vectors[index], mean[index])
        return index[_nearest(_steps(matches), mean[index], sd[index], n, query.rng)]


@dataclass(frozen=True)
class Best:
    """The items of the highest mean reward."""

    name: str = "best"
    share: float = 0.15

    def propose(self, query: Query, n: int) -> Ints:
        """Return the first n of the ranking by mean reward."""
        return _first(query.items.best, query.new, n, query.n_tries(n))


@dataclass(frozen=True)
class InsistedTopics:
    """The best items of the topics that the user insists on, by a draw of their mean reward."""

    name: str = "topics"
    share: float = 0.25

    def propose(self, query: Query, n: int) -> Ints:
        """Return n of them, in turn by topic, the best of each first."""
        wanted, _ = query.insisted
        if not len(wanted):
            return _NONE
        lists = [self._best_of(query, code)[:n] for code in wanted.tolist()]
        rank = np.concatenate([np.arange(len(some)) for some in lists])
        return np.concatenate(lists)[np.argsort(rank, kind="stable")][:n]

    def _best_of(self, query: Query, code: int) -> Ints:
        """Return the new items of a topic, the best first."""
        index = of_topic(query.catalogue, code)
        index = index[query.new[index]]
        worth = query.rng.standard_normal(len(index)) * query.items.reward_sd[index]
        return index[np.argsort(-(query.items.reward_mean[index] + worth), kind="stable")]


@dataclass(frozen=True)
class MostPopular:
    """The most popular items of the scene."""

    name: str = "popular"
    share: float = 0.1

    def propose(self, query: Query, n: int) -> Ints:
        """Return the first n of the scene's ranking."""
        popular = query.items.popularity.here(query.scene)
        return _first_popular(popular, query.new, n, query.n_tries(n))


@dataclass(frozen=True)
class Fresh:
    """Some of the latest items."""

    name: str = "fresh"
    share: float = 0.1

    def propose(self, query: Query, n: int) -> Ints:
        """Return n of the n x `FRESH_POOL` latest items, in random order."""
        return _some_latest(query, n * FRESH_POOL, n)


@dataclass(frozen=True)
class Followed:
    """Items of the creators that the user follows."""

    name: str = "followed"
    share: float = 0.1

    def propose(self, query: Query, n: int) -> Ints:
        """Return the latest n of them, the latest first."""
        catalogue = query.catalogue
        codes = catalogue.codes.creators(users.followed(query.user))
        if not len(codes):
            return codes
        theirs = catalogue.of_creators(codes)
        theirs = theirs[query.new[theirs]]
        return theirs[np.argsort(-catalogue.published_ms[theirs], kind="stable")][:n]


@dataclass(frozen=True)
class Collaborative:
    """The items that match best by the answers of all users, the best first."""

    name: str = "collaborative"
    share: float = 0.05

    def propose(self, query: Query, n: int) -> Ints:
        """Return the n best matches; none where nothing is known of the user's taste."""
        taste = query.taste
        if taste is None or not len(query.new) or not n:
            return _NONE
        index, matches = query.factor_index, taste.matches()
        matches[~query.new.take(index, mode="clip") | (index < 0)] = -np.inf
        best = _largest(matches, n)
        return index[best[np.isfinite(matches[best])]]


@dataclass(frozen=True)
class AtRandom:
    """Any items."""

    name: str = "random"
    share: float = 0.1

    def propose(self, query: Query, n: int) -> Ints:
        """Return n items, all equally likely."""
        return _some_latest(query, len(query.catalogue), n)


@dataclass(frozen=True)
class Debut:
    """Uploads with a shortfall in their delivery guarantee; they come before all others."""

    name: str = "debut"
    share: float = 0.0

    def propose(self, query: Query, n: int) -> Ints:
        """Return the uploads that the page has reserved slots for."""
        return query.reserved.debut[:n]


@dataclass(frozen=True)
class Again:
    """Items that the user has seen or has on an open page, where nothing else is left."""

    name: str = "again"
    share: float = 0.0

    def propose(self, query: Query, n: int) -> Ints:
        """Return the n of them that were seen first; the filters decide about them."""
        return query.history.again(query.eligible.allowed)[:n]


SOURCES: Sequence[CandidateSource] = (
    BestMatches("long_interest", 0.25),
    BestMatches("session_interest", 0.2),
    InsistedTopics(),
    Best(),
    MostPopular(),
    Fresh(),
    Followed(),
    Collaborative(),
    AtRandom(),
)
"""The sources that share the candidates, in the order in which they are asked and draw. An item
that several propose is credited to the one whose turn comes first."""

FIRST: CandidateSource = Debut()
"""The source of the first candidates, up to as many as are wanted."""

LAST: CandidateSource = Again()
"""The source of what the others leave missing."""


def default_shares() -> dict[str, float]:
    """Return the shares of the sources by name; only their ratios count."""
    return {source.name: source.share for source in SOURCES}


def _first(ranking: Ints, wanted: Bools, n: int, n_tries: int) -> Ints:
    """Return the first n wanted items of a ranking; its head is examined first."""
    head = ranking[:n_tries]
    first = head[wanted[head]][:n]
    return first if len(first) == n else ranking[wanted[ranking]][:n]


def _first_popular(popular: Popular, wanted: Bools, n: int, n_tries: int) -> Ints:
    """Return the first n wanted items of a scene's ranking; its head is ranked first."""
    if n_tries <= _MOST_TRIES:
        head = popular.head(n_tries)
        first = head[wanted[head]][:n]
        if len(first) == n:
            return first
    return popular.first_of(wanted, n)


def _some_latest(query: Query, n_pool: int, n: int) -> Ints:
    """Return at most n distinct new items of the latest n_pool, in random order."""
    latest = query.catalogue.latest()
    return _some(latest, n_pool, query.new, n, query.n_tries(n), query.rng)


def _some(
    ranking: Ints, n_pool: int, wanted: Bools, n: int, n_tries: int, rng: np.random.Generator
) -> Ints:
    """Return at most n distinct wanted items of the first n_pool of a ranking, in random order.

    Where too few of these are wanted, the pool is the first n_pool wanted items.
    """
    pool = ranking[:n_pool]
    if len(pool) == len(wanted) and min(n_tries, _LEAST_POOL * len(pool)) > _MOST_TRIES:
        return _choose(np.flatnonzero(wanted), n, rng)
    if n_tries < _LEAST_POOL * len(pool):  # else the pool has hardly n wanted items
        tried = pool[_draw_distinct(len(pool), n_tries, rng)]
        found = tried[wanted[tried]][:n]
        if len(found) == n:
            return found
    return _choose(_first(ranking, wanted, n_pool, n_pool * n_tries // max(n, 1)), n, rng)


def _largest(values: Float32s, n: int) -> Ints:
    """Return the indices of the n largest values, the largest first."""
    if n < len(values):
        best = np.argpartition(values, len(values) - n)[len(values) - n :]
    else:
        best = np.arange(len(values))
    largest: Ints = best[np.argsort(-values[best], kind="stable")]
    return largest


def _choose(index: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return at most n distinct elements of an index, in random order."""
    return rng.choice(index, size=min(n, len(index)), replace=False)


def _draw_distinct(n: int, n_tries: int, rng: np.random.Generator) -> Ints:
    """Return the distinct results of n_tries draws below n, in the order drawn.

    All orders are equally likely, so any long enough part of the result is a uniform choice.
    """
    drawn = (rng.random(n_tries if n else 0) * n).astype(np.int64)
    return drawn[first_indices(drawn)]


def _steps(matches: Float32s) -> Float32s:
    """Return matches in whole steps; those in one step count as equal."""
    steps = matches * _STEPS
    np.rint(steps, out=steps)
    return steps


def _nearest(
    steps: Float32s, reward_mean: Floats, reward_sd: Floats, n: int, rng: np.random.Generator
) -> Ints:
    """Return the positions of the n highest, equal ones in the order of a draw of their reward."""
    best = _highest(steps, n)
    worth = rng.standard_normal(len(best))
    worth *= reward_sd[best]
    worth += reward_mean[best]
    worth /= 2.0 + 2.0 * np.abs(worth)  # less than half a step
    worth += steps[best]
    return best[worth.argsort()[: -n - 1 : -1]]


def _highest(steps: Float32s, n: int) -> Ints:
    """Return the indices of the n highest values and of all that equal the last of them.

    Every eighth value gives a bound that about 2 n values reach; only these are partitioned.
    """
    sample = steps[::_SAMPLED]
    rank = len(sample) - 2 * n // _SAMPLED - 1
    some = (steps >= np.partition(sample, rank)[rank]).nonzero()[0] if rank >= 0 else _NONE
    if len(some) < n:
        some = np.arange(len(steps))
    values = steps[some]
    n_others = len(values) - n
    highest: Ints = some[values >= np.partition(values, n_others)[n_others]]
    return highest


_Proposed = tuple[Ints, Ints, Ints]
"""Distinct items, the codes of their sources, and what all sources proposed."""


@dataclass(frozen=True)
class Retrieved:
    """Proposed items, the most wanted first."""

    index: Ints  # (m,) distinct catalogue indices
    source: Ints  # (m,) codes into `names`
    names: tuple[str, ...]  # names of the sources, logged as reasons
    proposals: Ints  # (k,) what the sources with a share proposed, an item once for each of them

    def reason(self, row: int) -> str:
        """Return the name of the source that proposed the item in this row."""
        return self.names[int(self.source[row])]

    def n_proposers(self, index: Ints) -> tuple[int, ...]:
        """Return how many sources proposed each of a few items at `index`, at least 1."""
        counts = np.count_nonzero(self.proposals[:, None] == index, axis=0)
        return tuple(np.maximum(counts, 1).tolist())


def retrieve(query: Query, n: int, sources: Sequence[CandidateSource] = SOURCES) -> Retrieved:
    """Return n items for a user, fewer only where the sources that have a share know no more.

    Blocked items and items that are not eligible are never proposed. Items that the user has seen
    or has on an open page come last, by source "again"; the filters decide about them.

    Args:
        query: gives the shares; it is retrieved once, since its generator moves on.
        n: number of items, at least the reserved ones.
        sources: asked in this order.
    """
    names = (*(source.name for source in sources), FIRST.name, LAST.name)
    debut = FIRST.propose(query, n)
    n -= len(debut)
    index, source, proposals = _by_language(query, n, sources)
    again = LAST.propose(query, n - len(index)) if len(index) < n else index[:0]
    if not len(debut) and not len(again):
        return Retrieved(index, source, names, proposals)
    codes = np.repeat([len(sources), len(sources) + 1], [len(debut), len(again)])
    return Retrieved(
        np.concatenate([debut, index, again]),
        np.concatenate([codes[: len(debut)], source, codes[len(debut) :]]),
        names,
        proposals,
    )


def _by_language(query: Query, n: int, sources: Sequence[CandidateSource]) -> _Proposed:
    """Return at most n distinct items, their sources' codes and proposals, by languages.

    The slots that ask for another language have their share of the items, which come first. For
    finding out there are items that are good for anybody: a match would cost as much again. Where
    own ones are missing, the nearest others take their place.
    """
    if not query.languages.is_split:
        return _propose(query, n, sources)
    parts = [
        _propose(query.among(wanted, by_interest=liked), round(n * n_slots / query.size), sources)
        for wanted, n_slots, liked in query.languages.pools()
    ]
    n_left = n - sum(len(part[0]) for part in parts)
    parts.append(_propose(query.among(query.languages.is_own()), n_left, sources))
    for wanted in query.languages.substitutes():
        index = np.concatenate([part[0] for part in parts])
        if len(index) >= n:
            break
        wanted[index] = False
        parts.append(_propose(query.among(wanted), n - len(index), sources))
    index, source, proposals = (np.concatenate(column) for column in zip(*parts, strict=True))
    return index, source, proposals


def _propose(query: Query, n: int, sources: Sequence[CandidateSource]) -> _Proposed:
    """Return what the sources propose together: at most n distinct items, codes, proposals."""
    if n <= 0:
        return _NONE, _NONE, _NONE
    given = query.settings.shares
    shares = [given.get(source.name, source.share) for source in sources]
    lists = [source.propose(query, n) for source in sources]
    shared = [items for items, share in zip(lists, shares, strict=True) if share > 0.0]
    return *_merge(lists, shares, n), np.concatenate([_NONE, *shared])


def _merge(lists: Sequence[Ints], shares: Sequence[float], n: int) -> tuple[Ints, Ints]:
    """Return the first n distinct items and their sources' codes, interleaved by share.

    The item of rank r of a source is due at (r + 1/2) / share (stride scheduling: Waldspurger and
    Weihl, MIT/LCS/TM-528, 1995); an item that several propose is credited to the first.
    """
    order, source = _schedule(tuple(shares), tuple(map(len, lists)))
    ranked = [index for index, share in zip(lists, shares, strict=True) if share > 0.0]
    if not ranked:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    merged = np.concatenate(ranked)[order]
    first = first_indices(merged)[:n]
    return merged[first], source[first]


@lru_cache(maxsize=256)
def _schedule(shares: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Return the order in which the joined lists' items are due, and the source of each.

    It depends on the lists' lengths only, and these are nearly always the same.
    """
    due: list[Floats] = [np.zeros(0)]
    source = [np.zeros(0, np.int64)]
    for code, (share, length) in enumerate(zip(shares, lengths, strict=True)):
        if share > 0.0:
            due.append(np.asarray((np.arange(length) + 0.5) / share, dtype=np.float64))
            source.append(np.full(length, code))
    order = np.argsort(np.concatenate(due), kind="stable")
    return order, np.concatenate(source)[order]
