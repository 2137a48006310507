"""The protocol of an index that narrows the search for the best matches.

Retrieval ranks the items that an index names exactly, so an index adds speed and can only cost
recall. A small catalogue is searched without one.

See also `docs/decisions/candidate-retrieval.md`.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from env.items.catalogue import Catalogue
from env.items.statistics import Aligned
from env.users import state as users
from env.users.state import UserState
from env.vocabulary import Bools, Float32s, Floats, Ints, Scene


class MatchIndex(Protocol):
    """Finds items among which the best matches are."""

    def near(
        self,
        catalogue: Catalogue,
        items: Aligned,
        interests: Mapping[str, Float32s],
        wanted: Bools,
        n_wanted: int,
        n: int,
        rng: np.random.Generator,
    ) -> dict[str, Ints] | None:
        """Return wanted items that contain the n best matches of each interest; None: search all.

        Args:
            interests: vectors by source; the long interest's match is added to the mean reward.
            wanted: shape (n_items,), the items that may be found.
            n: number of items needed, at most n_wanted.

        Returns:
            For each interest at least n distinct wanted items.
        """
        ...

    def follow(self, items: Aligned) -> None:
        """Prepare the first search in a version of the states; any thread may call it."""
        ...


MATCH_STEP = 2.0**-12
"""Matches, or expected rewards from them, that differ by less count as equal."""

EXPECTED = "long_interest"
"""The source to whose match an item's mean reward is added, both in rewards. For a new user it says
little, so generally good items lead. The session's match is used alone."""

_SAMPLED = 8

_NOBODY = np.zeros(0, dtype=np.int64)

_STEPS = np.float32(1.0 / MATCH_STEP)

_ONE, _OUT = np.float32(1.0), np.float32(1e9)


def interests_of(
    user: UserState, scene: Scene, catalogue: Catalogue, items: Aligned
) -> dict[str, Float32s]:
    """Return a user's interest vectors by source; a session without cards has none.

    Args:
        scene: its popular content is the prior interest of a new user.

    Returns:
        Vectors of shape (VECTOR_DIM,), none of them zero.
    """
    prior = items.popularity.interest(scene, catalogue.vectors)
    long = users.long_interest(user, with_declared=catalogue.is_of_tags, prior=prior)
    found = {"long_interest": long}
    if scene.position > 0:
        found["session_interest"] = users.session_interest(user)
    return {source: interest for source, interest in found.items() if interest.any()}


def matches_of(source: str, interest: Float32s, vectors: Float32s, reward_mean: Floats) -> Float32s:
    """Return each item's match with an interest, shape (n,).

    Args:
        interest: shape (VECTOR_DIM,).
        vectors: of the items, shape (n, VECTOR_DIM).
        reward_mean: of the items, shape (n,).
    """
    matches = vectors @ interest
    if source == EXPECTED:
        matches += reward_mean.astype(np.float32)
    return matches


def best_matches(
    interests: Mapping[str, Float32s],
    catalogue: Catalogue,
    items: Aligned,
    wanted: Bools,
    n_wanted: int,
    n: int,
    nearest: MatchIndex | None,
    rng: np.random.Generator,
) -> dict[str, Ints]:
    """Return the n best matches of each interest, the best first, fewer where fewer are wanted.

    Args:
        wanted: shape (n_items,), the items that may be found.
        nearest: index to search in; None: all items are ranked.
    """
    n = min(n, n_wanted)
    if not interests or n == 0:
        return {}
    near = None
    if nearest is not None:
        near = nearest.near(catalogue, items, interests, wanted, n_wanted, n, rng)
    if near is not None:
        return {
            source: index[_rank_some(source, interests[source], catalogue, items, index, n, rng)]
            for source, index in near.items()
        }
    handicap = (wanted.astype(np.float32) - _ONE) * _OUT  # cheaper than a choice for each item
    mean, sd = items.reward_mean, items.reward_sd
    return {
        source: _nearest(
            matches_of(source, interest, catalogue.vectors, mean), handicap, mean, sd, n, rng
        )
        for source, interest in interests.items()
    }


def _rank_some(
    source: str,
    interest: Float32s,
    catalogue: Catalogue,
    items: Aligned,
    index: Ints,
    n: int,
    rng: np.random.Generator,
) -> Ints:
    """Return the positions of the n best matches among some wanted items."""
    mean, sd = items.reward_mean[index], items.reward_sd[index]
    matches = matches_of(source, interest, catalogue.vectors[index], mean)
    return _nearest(matches, np.zeros_like(matches), mean, sd, n, rng)


def _nearest(
    matches: Float32s,
    handicap: Float32s,
    reward_mean: Floats,
    reward_sd: Floats,
    n: int,
    rng: np.random.Generator,
) -> Ints:
    steps = matches * _STEPS
    np.rint(steps, out=steps)
    steps += handicap
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
    some = (steps >= np.partition(sample, rank)[rank]).nonzero()[0] if rank >= 0 else _NOBODY
    if len(some) < n:
        some = np.arange(len(steps))
    values = steps[some]
    n_others = len(values) - n
    highest: Ints = some[values >= np.partition(values, n_others)[n_others]]
    return highest
