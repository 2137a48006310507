"""Retrieval sources: each proposes items for a user, and a few hundred are merged by share.

Guaranteed uploads come first. Every other source ranks the eligible items in its own way and gets a
fixed share of the result; a source without proposals leaves its share to the others. Sources, costs
and rejected alternatives: `docs/decisions/candidate-retrieval.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from env.items.catalogue import Catalogue
from env.items.popularity import Popular
from env.items.statistics import ItemStates
from env.users import state as users
from env.users.state import UserState
from env.vocabulary import Bools, Float32s, Ints, Scene
from policies.candidates.context import UserHistory
from policies.candidates.nearest import MatchIndex, best_matches, interests_of

_TABLE = 1 << 14
"""Up to this highest code, a table is faster than sorting a few hundred codes."""


def first_indices(codes: Ints) -> Ints:
    """Return the position of each distinct code's first occurrence, in order.

    Small codes are written to a table backwards, so that the first occurrence is written last and
    stays; this takes a fifth of the time of sorting. Large codes are sorted, since their table
    would take megabytes.

    >>> first_places(np.array([7, 2, 7, 0, 2])).tolist()
    [0, 1, 3]
    >>> first_places(np.array([7, 2_000_000, 7, 0, 2_000_000])).tolist()
    [0, 1, 3]
    """
    highest = codes.max(initial=-1)
    if highest >= _TABLE:
        order = codes.argsort(kind="stable")
        ordered = codes[order]
        is_first = np.ones(len(order), dtype=np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
        return np.sort(order[is_first])
    places = np.arange(len(codes))
    first = np.empty(highest + 1, dtype=np.int64)
    first[codes[::-1]] = places[::-1]
    stays: Ints = places[first[codes] == places]
    return stays


FRESH_POOL = 5
"""A fresh list of n is drawn from the n x FRESH_POOL latest uploads, so that a bulk import does not
always lead with the same few."""

_TRIES = 2
"""Items that are examined for each item needed, divided by the wanted share of all items. If too
few of them are wanted, all items are examined."""

_MOST_TRIES = 8_192
"""Beyond this number it is faster to select from all wanted items."""

_NOBODY = np.zeros(0, dtype=np.int64)


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of each source in the candidates, at least 0; only their ratios count."""

    long_interest: float = 0.25
    session_interest: float = 0.2
    best: float = 0.15
    popular: float = 0.1
    fresh: float = 0.1
    followed: float = 0.1
    random: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError if a share is negative or all are 0."""
        shares = msgspec.structs.astuple(self)
        if min(shares) < 0.0 or not 0.0 < sum(shares) < np.inf:
            raise ValueError(f"shares must be at least 0 and not all 0, got {self}")


SOURCES = (*Shares.__struct_fields__, "debut", "again")
"""Names of the sources, logged as reasons. "debut" are uploads with a shortfall; "again" repeats
seen items where nothing else is left."""

DEBUT = SOURCES.index("debut")


@dataclass(frozen=True)
class Retrieved:
    """Proposed items, the most wanted first."""

    index: Ints  # (m,) distinct catalogue indices
    source: Ints  # (m,) codes into `SOURCES`

    def reason(self, row: int) -> str:
        """Return the name of the source that proposed the item in this row."""
        return SOURCES[int(self.source[row])]


def retrieve(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    states: ItemStates,
    known: UserHistory,
    allowed: Bools,
    n: int,
    seed: int,
    *,
    interests: Mapping[str, Float32s] | None = None,
    debut: Ints = _NOBODY,
    shares: Shares | None = None,
    nearest: MatchIndex | None = None,
    new: Bools | None = None,
) -> Retrieved:
    """Return n items for a user, fewer only where the sources that have a share know no more.

    Blocked items and items that are not allowed are never proposed. Items that the user has seen or
    has on an open page come last, by source "again"; the filters decide about them.

    Args:
        scene: its place and time define "popular".
        allowed: shape (n_items,), the eligible items.
        n: number of items, at least 0.
        seed: of the random choices, at least 0; the same arguments give the same result.
        interests: the user's, by source; None: they are computed here.
        debut: at most n uploads with a shortfall, allowed and new to the user; they come first.
        nearest: index for the best matches; None: all items are ranked.
        new: shape (n_items,), `known.new(allowed)`, overwritten; None: it is computed here.
    """
    shares, rng = shares or Shares(), np.random.default_rng(seed)
    items = states.aligned(catalogue)
    wanted = known.new(allowed) if new is None else new
    wanted[debut] = False
    n -= len(debut)
    latest = catalogue.latest()
    n_wanted = int(np.count_nonzero(wanted))
    n_tries = _TRIES * n * len(wanted) // max(n_wanted, 1)
    if interests is None:
        interests = interests_of(user, scene, catalogue, items)
    popular = items.popularity.here(scene)
    lists = {
        **best_matches(interests, catalogue, items, wanted, n_wanted, n, nearest, rng),
        "best": _first(items.best, wanted, n, n_tries),
        "popular": _first_popular(popular, wanted, n, n_tries),
        "fresh": _some(latest, n * FRESH_POOL, wanted, n, n_tries, rng),
        "followed": _rank_followed(user, catalogue, wanted)[:n],
        "random": _some(latest, len(latest), wanted, n, n_tries, rng),
    }
    index, source = _merge(lists, shares, n)
    again = _NOBODY
    if len(index) < n:
        again = _choose(known.again(allowed), n - len(index), rng)
    if not len(debut) and not len(again):
        return Retrieved(index, source)
    codes = np.repeat([DEBUT, SOURCES.index("again")], [len(debut), len(again)])
    return Retrieved(
        np.concatenate([debut, index, again]),
        np.concatenate([codes[: len(debut)], source, codes[len(debut) :]]),
    )


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


def _rank_followed(user: UserState, catalogue: Catalogue, wanted: Bools) -> Ints:
    """Return the wanted items of the creators that the user follows, the latest first."""
    codes = catalogue.codes.creators(users.followed(user))
    if not len(codes):
        return codes
    theirs = catalogue.of_creators(codes)
    theirs = theirs[wanted[theirs]]
    return theirs[np.argsort(-catalogue.published_ms[theirs], kind="stable")]


def _merge(lists: Mapping[str, Ints], shares: Shares, n: int) -> tuple[Ints, Ints]:
    """Return the first n distinct items and their sources' codes, interleaved by share.

    The item of rank r of a source is due at (r + 1/2) / share (stride scheduling: Waldspurger and
    Weihl, MIT/LCS/TM-528, 1995); an item that several propose is credited to the first.
    """
    order, source = _schedule(shares, tuple((name, len(lists[name])) for name in lists))
    ranked = [index for name, index in lists.items() if getattr(shares, name) > 0.0]
    if not ranked:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    merged = np.concatenate(ranked)[order]
    first = first_indices(merged)[:n]
    return merged[first], source[first]


@lru_cache(maxsize=256)
def _schedule(shares: Shares, lengths: tuple[tuple[str, int], ...]) -> tuple[Ints, Ints]:
    """Return the order in which the joined lists' items are due, and the source of each.

    It depends on the lists' lengths only, and these are nearly always the same.
    """
    due, source = [np.zeros(0)], [np.zeros(0, np.int64)]
    for name, length in lengths:
        share = getattr(shares, name)
        if share > 0.0:
            due.append((np.arange(length) + 0.5) / share)
            source.append(np.full(length, SOURCES.index(name)))
    order = np.argsort(np.concatenate(due), kind="stable")
    return order, np.concatenate(source)[order]


def _some(
    ranking: Ints, n_pool: int, wanted: Bools, n: int, n_tries: int, rng: np.random.Generator
) -> Ints:
    """Return at most n distinct wanted items of the first n_pool of a ranking, in random order.

    Where too few of these are wanted, the pool is the first n_pool wanted items.
    """
    pool = ranking[:n_pool]
    if len(pool) == len(wanted) and min(n_tries, _TRIES * len(pool)) > _MOST_TRIES:
        return _choose(np.flatnonzero(wanted), n, rng)
    if n_tries < _TRIES * len(pool):  # else the pool has hardly n wanted items
        tried = pool[_draw_distinct(len(pool), n_tries, rng)]
        found = tried[wanted[tried]][:n]
        if len(found) == n:
            return found
    return _choose(_first(ranking, wanted, n_pool, n_pool * n_tries // max(n, 1)), n, rng)


def _choose(index: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return at most n distinct elements of an index, in random order."""
    return rng.choice(index, size=min(n, len(index)), replace=False)


def _draw_distinct(n: int, n_tries: int, rng: np.random.Generator) -> Ints:
    """Return the distinct results of n_tries draws below n, in the order drawn.

    All orders are equally likely, so any long enough part of the result is a uniform choice.
    """
    drawn = (rng.random(n_tries if n else 0) * n).astype(np.int64)
    return drawn[first_indices(drawn)]
