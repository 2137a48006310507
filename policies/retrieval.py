"""Retrieval: a few hundred items worth scoring, out of all, each from a source that says why.

A source ranks the available items in its own way: near the long-term interest, near the
interest of this session, popular where the person is, fresh, of followed creators, or just any.
The lists are merged by share, so that a source is as present at the top as at the end, and one
that has nothing to say (a newcomer has no interests) leaves its share to the others.

Exact over all items with numpy: 10,000 items need no index, and a recall below 1 would be one more
thing that a policy is blamed for. Rejected: one score for all (a single source would win each
page), and an approximate index (it pays from some 100,000 items on).
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env import users
from env.catalogue import Catalogue
from env.items import Aligned, ItemStates
from env.users import UserState
from env.vocabulary import Bools, Float32s, Ints, Scene
from policies.filters import blocked_items, known_items

FRESH_POOL = 5
"""A fresh list of n is a random choice from the n x FRESH_POOL latest uploads, so that a bulk
import does not always lead with the same few."""

MATCH_STEP = 2.0**-12
"""Two matches (at most 1) that differ by less count as alike."""


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of each source in the candidates, at least 0; only their ratios count."""

    long_interest: float = 0.3
    session_interest: float = 0.25
    popular: float = 0.15
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


SOURCES = (*Shares.__struct_fields__, "again")
"""The sources' names, as they stand in a page as reasons; "again" repeats what was seen, where
nothing else is left."""


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
    n: int,
    seed: int,
    shares: Shares | None = None,
) -> Retrieved:
    """Return n items for a person, fewer only where the sources that have a share know no more.

    Items that are unlisted or of another market are never proposed, those that the person has
    seen, has on an open page or has blocked only after all others, by source "again"; what
    becomes of these is for `policies.filters` to say.

    Args:
        user: who asks.
        scene: its country is the market and where "popular" is counted.
        catalogue: all items.
        states: what the log says about them.
        n: how many, at least 0.
        seed: of the random choices, at least 0; the same arguments give the same result.
        shares: of the sources.
    """
    shares = shares or Shares()
    rng = np.random.default_rng(seed)
    items = states.aligned(catalogue)
    allowed = catalogue.available(scene.country) & ~blocked_items(user, catalogue)
    known = known_items(user, catalogue, scene.at_ms)
    wanted = allowed & ~known
    latest = catalogue.latest()
    near = {
        source: _nearest(catalogue.vectors @ interest, wanted, n, items, rng)
        for source, interest in _interests(user, scene).items()
    }
    lists = {
        **near,
        "popular": _first(items.most_popular(scene.country), wanted, n),
        "fresh": _choose(_first(latest, wanted, n * FRESH_POOL), n, rng),
        "followed": _rank_followed(user, catalogue, wanted)[:n],
        "random": _choose(np.flatnonzero(wanted), n, rng),
    }
    index, source = _merge(lists, shares, n)
    again = _choose(np.flatnonzero(allowed & known), n - len(index), rng)
    return Retrieved(
        np.concatenate([index, again]),
        np.concatenate([source, np.full(len(again), SOURCES.index("again"))]),
    )


def _interests(user: UserState, scene: Scene) -> dict[str, Float32s]:
    """Return the interests that there are, by source; a session that begins has none yet.

    They stay vectors: for a product of two matrices BLAS wakes its threads, which took 8 ms
    instead of 0.1 on a machine that has other work.
    """
    interests = {"long_interest": users.long_interest(user)}
    if scene.position > 0:
        interests["session_interest"] = users.session_interest(user)
    return {source: interest for source, interest in interests.items() if interest.any()}


def _nearest(
    matches: Float32s, wanted: Bools, n: int, items: Aligned, rng: np.random.Generator
) -> Ints:
    """Return the n best matches among the wanted, the best first.

    Where items have no more than a tag, hundreds match alike: these are ranked by a draw from
    each one's posterior reward, so that neither their order in the catalogue nor what was first
    liked decides. Alike are matches that round to the same multiple of `MATCH_STEP`.
    """
    n = min(n, int(np.count_nonzero(wanted)))
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    steps = np.rint(matches / np.float32(MATCH_STEP))
    steps[~wanted] = -np.inf
    n_others = len(steps) - n
    best = np.flatnonzero(steps >= np.partition(steps, n_others)[n_others])
    noise = rng.standard_normal(len(best))
    worth = items.reward_mean[best] + items.reward_sd[best] * noise
    return best[np.lexsort((-worth, -steps[best]))[:n]]


def _first(ranking: Ints, wanted: Bools, n: int) -> Ints:
    """Return the first n of a ranking that are wanted; its head is looked at first."""
    head = ranking[: 4 * n]
    first = head[wanted[head]][:n]
    return first if len(first) == n else ranking[wanted[ranking]][:n]


def _rank_followed(user: UserState, catalogue: Catalogue, wanted: Bools) -> Ints:
    """Return what is of the creators that this person follows, the latest first."""
    codes = catalogue.creator_codes(users.followed(user))
    if not len(codes):
        return codes
    follows = np.zeros(catalogue.n_creators, dtype=np.bool_)
    follows[codes] = True
    theirs = np.flatnonzero(wanted & follows[catalogue.creators])
    return theirs[np.argsort(-catalogue.published_ms[theirs], kind="stable")]


def _merge(lists: dict[str, Ints], shares: Shares, n: int) -> tuple[Ints, Ints]:
    """Return the first n distinct items and their sources' codes, interleaved by share.

    The item of rank r of a source is due at (r + 1/2) / share (stride scheduling: Waldspurger
    and Weihl, MIT/LCS/TM-528, 1995); an item that several propose is credited to the first.
    """
    share_of = msgspec.structs.asdict(shares)
    due, index, source = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, ranked in lists.items():
        if share_of[name] > 0.0:
            due.append((np.arange(len(ranked)) + 0.5) / share_of[name])
            index.append(ranked)
            source.append(np.full(len(ranked), SOURCES.index(name)))
    order = np.argsort(np.concatenate(due), kind="stable")
    merged = np.concatenate(index)[order]
    first = _first_places(merged)[:n]
    return merged[first], np.concatenate(source)[order][first]


def _first_places(index: Ints) -> Ints:
    """Return where each distinct one of an index stands first, in order.

    Written backwards, so that of equal ones the first is written last and stays; this takes a
    fifth of the time of `np.unique`.
    """
    places = np.arange(len(index))
    first = np.empty(index.max(initial=-1) + 1, dtype=np.int64)
    first[index[::-1]] = places[::-1]
    stays: Ints = places[first[index] == places]
    return stays


def _choose(index: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return at most n different ones of an index, in random order."""
    return rng.choice(index, size=min(n, len(index)), replace=False)
