"""Retrieval: a few hundred items worth scoring, out of all, each from a source that says why.

A source ranks the eligible items in its own way: by what the person is expected to make of it (an
item's mean reward and its match with the long-term interest, both in rewards), near the interest of
this session, best by what it surely earned so far, popular where the person is, fresh, of followed
creators, or just any.
The lists are merged by share, so that a source is as present at the top as at the end, and one
that has nothing to say (a session that begins has no interest) leaves its share to the others.
Uploads that are owed an audience (`policies.fair_start`) stand before all: they are few, and a
reserved slot must not lose them to a cap.

The best matches are exact (`policies.matches`). Everything else is kept in order by the catalogue
and the item states, and a page looks at the heads of these orders; the passes over all items that
are left are over a mask of those that are wanted, a byte each: it is copied, counted, and for an
index packed into bits. Rejected: one score for all (a single source would win each page), and the
best by posterior mean alone (its head are those that were lucky with a few cards).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from env import users
from env.catalogue import Catalogue
from env.items import ItemStates
from env.popularity import Popular
from env.users import UserState
from env.vocabulary import Bools, Float32s, Ints, Scene
from policies.distinct import first_places
from policies.known import Known
from policies.matches import best_matches, interests_of
from policies.nearest import Nearest

FRESH_POOL = 5
"""A fresh list of n is a random choice from the n x FRESH_POOL latest uploads, so that a bulk
import does not always lead with the same few."""

_TRIES = 2
"""Draws for each item chosen by chance, and places looked at for each that is taken from the head
of a ranking, times what part of all is wanted; where too few were good, it is done the long way."""
_MOST_TRIES = 8_192
"""Where more are needed, few of many are wanted, and it is faster to pick these out of all."""

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
        """Check the shares.

        Raises:
            ValueError: one is negative, or all are 0.
        """
        shares = msgspec.structs.astuple(self)
        if min(shares) < 0.0 or not 0.0 < sum(shares) < np.inf:
            raise ValueError(f"shares must be at least 0 and not all 0, got {self}")


SOURCES = (*Shares.__struct_fields__, "debut", "again")
"""The sources' names, as they stand in a page as reasons; "debut" are owed uploads, "again" repeats
what was seen, where nothing else is left."""

DEBUT = SOURCES.index("debut")


@dataclass(frozen=True)
class Retrieved:
    """Proposed items, the most wanted first.

    Attributes:
        index: shape (m,), distinct catalogue indices.
        source: shape (m,), codes into `SOURCES`.
    """

    index: Ints
    source: Ints

    def reason(self, row: int) -> str:
        """Return the name of the source that proposed the item in this place."""
        return SOURCES[int(self.source[row])]


def retrieve(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    states: ItemStates,
    known: Known,
    allowed: Bools,
    n: int,
    seed: int,
    *,
    interests: Mapping[str, Float32s] | None = None,
    debut: Ints = _NOBODY,
    shares: Shares | None = None,
    nearest: Nearest | None = None,
    new: Bools | None = None,
) -> Retrieved:
    """Return n items for a person, fewer only where the sources that have a share know no more.

    Items that are not allowed or are blocked are never proposed, those that the person has seen
    or has on an open page only after all others, by source "again"; what becomes of these is for
    `policies.filters` to say.

    Args:
        user: who asks.
        scene: where "popular" is counted.
        catalogue: all items.
        states: what the log says about them.
        known: what of the catalogue the person knows.
        allowed: shape (n_items,), what may be shown there, see `policies.eligibility`.
        n: how many, at least 0.
        seed: of the random choices, at least 0; the same arguments give the same result.
        interests: the person's, by source; None: they are worked out here.
        debut: at most n owed uploads, allowed and new to the person; they come first.
        shares: of the other sources.
        nearest: where the best matches are looked for; None: everywhere.
        new: shape (n_items,), `known.new(allowed)`, which is written to; None: it is made here.
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
    """Return the first n of a ranking that are wanted; its head is looked at first."""
    head = ranking[:n_tries]
    first = head[wanted[head]][:n]
    return first if len(first) == n else ranking[wanted[ranking]][:n]


def _first_popular(popular: Popular, wanted: Bools, n: int, n_tries: int) -> Ints:
    """Return the first n of a scene's ranking that are wanted; its head is ranked first."""
    if n_tries <= _MOST_TRIES:
        head = popular.head(n_tries)
        first = head[wanted[head]][:n]
        if len(first) == n:
            return first
    return popular.first_of(wanted, n)


def _rank_followed(user: UserState, catalogue: Catalogue, wanted: Bools) -> Ints:
    """Return what is of the creators that this person follows, the latest first."""
    codes = catalogue.codes.creators(users.followed(user))
    if not len(codes):
        return codes
    theirs = catalogue.of_creators(codes)
    theirs = theirs[wanted[theirs]]
    return theirs[np.argsort(-catalogue.published_ms[theirs], kind="stable")]


def _merge(lists: Mapping[str, Ints], shares: Shares, n: int) -> tuple[Ints, Ints]:
    """Return the first n distinct items and their sources' codes, interleaved by share.

    The item of rank r of a source is due at (r + 1/2) / share (stride scheduling: Waldspurger
    and Weihl, MIT/LCS/TM-528, 1995); an item that several propose is credited to the first.
    """
    order, source = _schedule(shares, tuple((name, len(lists[name])) for name in lists))
    ranked = [index for name, index in lists.items() if getattr(shares, name) > 0.0]
    if not ranked:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    merged = np.concatenate(ranked)[order]
    first = first_places(merged)[:n]
    return merged[first], source[first]


@lru_cache(maxsize=256)
def _schedule(shares: Shares, lengths: tuple[tuple[str, int], ...]) -> tuple[Ints, Ints]:
    """Return the order in which the lists, end to end, are due, and the source of each place.

    It hangs on nothing but the lists' lengths, and these are nearly always the same.
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
    """Return at most n different wanted ones of the first n_pool of a ranking, in random order.

    Where too few of these are wanted, the pool is the first n_pool that are.
    """
    pool = ranking[:n_pool]
    if len(pool) == len(wanted) and min(n_tries, _TRIES * len(pool)) > _MOST_TRIES:
        return _choose(np.flatnonzero(wanted), n, rng)
    if n_tries < _TRIES * len(pool):  # else there are hardly n wanted ones in the pool
        tried = pool[_draw_distinct(len(pool), n_tries, rng)]
        found = tried[wanted[tried]][:n]
        if len(found) == n:
            return found
    return _choose(_first(ranking, wanted, n_pool, n_pool * n_tries // max(n, 1)), n, rng)


def _choose(index: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return at most n different ones of an index, in random order."""
    return rng.choice(index, size=min(n, len(index)), replace=False)


def _draw_distinct(n: int, n_tries: int, rng: np.random.Generator) -> Ints:
    """Return the distinct ones of n_tries draws from the first n numbers, in the order drawn.

    Each order is as likely as any other, so a part of it that is long enough is a fair choice.
    """
    drawn = (rng.random(n_tries if n else 0) * n).astype(np.int64)
    return drawn[first_places(drawn)]
