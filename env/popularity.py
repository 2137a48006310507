"""Popularity in a scene: its segments' plays, smoothed by the plays of wider segments.

Hierarchical Dirichlet smoothing adds `PRIOR_PLAYS` plays, distributed as in the surrounding
segment, to each segment's own. The mean content vector of a scene's plays, smoothed the same way,
is a first interest for new users. Formulas, sources and rejected alternatives:
`docs/decisions/popularity-segments.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.features import VECTOR_DIM
from env.index_sets import distinct, is_among
from env.segments import Plays, segment_names
from env.vocabulary import Bools, Float32s, Floats, Ints, Scene

PRIOR_PLAYS = 100.0

MAX_REMEMBERED = 1024
"""Scenes cached a version of the statistics, each with its segments' plays and top ranking."""
MAX_INTERESTS = 4096
"""Scene interests cached, 128 bytes each."""

MAX_PREPARED = 64
"""Scenes that a new version computes before its first page."""

_LEAST_HEAD = 2048


@dataclass(slots=True)
class Popular:
    """Popularity by catalogue index, in valid plays weighted as at the landmark.

    It equals the overall popularity times a factor, except for items played in the scene's
    segments, so a scene costs the items played in it and not a pass over all items.
    """

    everywhere: Floats  # shape (n,), plays in all scenes; later items have none
    played: Ints  # all items ever played anywhere, the most popular first
    total: float  # sum of `everywhere`
    factor: float  # on `everywhere`
    own: Ints  # shape (m,), items with other plays, ascending
    weights: Floats  # shape (m,), these plays
    highest: float = field(init=False)  # largest plays of any item
    _head: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._head = self._rank(_LEAST_HEAD)
        self.highest = float(self.at(self._head[:1]).sum())

    @classmethod
    def of(cls, plays: Floats) -> "Popular":
        """Rank plays in all scenes, shape (n,); of equals the later one comes first."""
        played = np.flatnonzero(plays)[::-1]
        ranking = played[np.argsort(-plays[played], kind="stable")]
        return cls(
            plays, ranking, float(plays.sum()), 1.0, np.zeros(0, dtype=np.int64), np.zeros(0)
        )

    @property
    def plays(self) -> Floats:
        """All plays, shape (n,)."""
        return self.at(np.arange(len(self.everywhere)))

    @property
    def ranking(self) -> Ints:
        """All items ever played anywhere, the most popular first."""
        return self.head(len(self.played))

    def at(self, index: Ints) -> Floats:
        """Return the plays of some items, shape of `index`."""
        if not len(self.everywhere):
            return np.zeros(len(index))
        plays = self.everywhere.take(index, mode="clip") * self.factor
        plays[index >= len(self.everywhere)] = 0.0
        if len(self.own):
            place = self.own.searchsorted(index)
            own = self.own.take(place, mode="clip") == index
            plays[own] = self.weights[place[own]]
        return plays

    def head(self, n: int) -> Ints:
        """Return the first n of the ranking, fewer where fewer were played."""
        if n > len(self._head) and len(self._head) < len(self.played):
            self._head = self._rank(2 * n)
        return self._head[:n]

    def first_of(self, wanted: Bools, n: int) -> Ints:
        """Return the first n of the ranking among `wanted`, shape (n_items,), or all there are."""
        own = self.own[wanted[self.own]]
        played = self.played[wanted[self.played]][: n + len(own)]
        return self._ordered(own, played)[:n]

    def _rank(self, n: int) -> Ints:
        """Return at least the first n of the ranking, the scene's own items merged in."""
        played = self.played[: n + len(self.own)]
        ranking = self._ordered(self.own, played)
        if len(played) == len(self.played) or not len(self.own):
            return ranking
        # Items not ranked here are no more popular than the last ranked one that is not own.
        others = np.flatnonzero(~is_among(ranking, self.own))
        return ranking[: int(others[-1]) + 1]

    def _ordered(self, own: Ints, played: Ints) -> Ints:
        """Return some own items and some items played everywhere, by popularity."""
        if not len(own):
            return played
        some = np.concatenate([own[::-1], played[~is_among(played, own)]])
        return some[np.argsort(-self.at(some), kind="stable")]


@dataclass(frozen=True, slots=True)
class Popularity:
    """Popularity in all scenes and in any one, for one version of the item statistics."""

    everywhere: Popular  # in all scenes together
    prior_plays: float  # `PRIOR_PLAYS` weighted as at the landmark
    _segments: Mapping[str, Plays]
    _index_of_row: Ints  # (n_rows,) catalogue index, -1 where there is none
    _remembered: dict[tuple[str, ...], Popular] = field(repr=False, default_factory=dict)
    _interests: dict[tuple[str, ...], Float32s] = field(repr=False, default_factory=dict)

    def here(self, scene: Scene) -> Popular:
        """Return popularity in a scene, cached by the scene's segments."""
        names = self._names(scene)
        popular = self._remembered.get(names)
        if popular is None:
            popular = self._blend(names)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[names] = popular
        return popular

    def interest(self, scene: Scene, vectors: Float32s) -> Float32s:
        """Return the mean content vector of a scene's plays, shape (VECTOR_DIM,), read-only.

        Its length is at most 1, and 0 without plays. Cached like `here`.

        Args:
            scene: of the request.
            vectors: shape (n, VECTOR_DIM), of the catalogue that this is aligned with, each of unit
                length or zero.
        """
        names = self._names(scene)
        interest = self._interests.get(names)
        if interest is None:
            if len(self._interests) >= MAX_INTERESTS:
                self._interests.clear()
            interest = self._mean(names, vectors)
        return interest

    def _names(self, scene: Scene) -> tuple[str, ...]:
        return self._known(segment_names(scene))

    def asked_for(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """Return the segments of the scenes cached by `here` and by `interest`, latest last."""
        return list(self._remembered), list(self._interests)

    def prepare(self, before: "Popularity", vectors: Float32s) -> None:
        """Compute the last `MAX_PREPARED` scenes that were requested of an earlier version."""
        here, interests = before.asked_for()
        for names in here[-MAX_PREPARED:]:
            if (known := self._known(names)) not in self._remembered:
                self._remembered[known] = self._blend(known)
        for names in interests[-MAX_PREPARED:]:
            if (known := self._known(names)) not in self._interests:
                self._mean(known, vectors)

    def _known(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self._segments)

    def _blend(self, names: tuple[str, ...]) -> Popular:
        """Add up the plays of a scene's segments, widest first, scaling down the wider ones."""
        placed = [(index, plays) for index, plays in map(self._placed, names) if len(index)]
        if not placed:
            return self.everywhere
        own = distinct(np.concatenate([index for index, _ in placed]))
        weights, factor, total = self.everywhere.at(own), 1.0, self.everywhere.total
        for index, plays in placed:
            kept = self.prior_plays / total
            weights *= kept
            factor *= kept
            weights[own.searchsorted(index)] += plays
            total = self.prior_plays + float(plays.sum())
        every = self.everywhere
        return Popular(every.everywhere, every.played, every.total, factor, own, weights)

    def _mean(self, names: tuple[str, ...], vectors: Float32s) -> Float32s:
        """Add a segment's plays to the cached mean of the segments around it."""
        if names:
            around = self._interests.get(names[:-1])
            around = self._mean(names[:-1], vectors) if around is None else around
            index, weights = self._placed(names[-1])
        else:
            around, index = np.zeros(VECTOR_DIM, dtype=np.float32), self.everywhere.played
            weights = self.everywhere.at(index)
        shares = (weights / (float(weights.sum()) + self.prior_plays)).astype(np.float32)
        kept = np.float32(1.0 - float(shares.sum()))
        mean: Float32s = kept * around + shares @ vectors[index]
        self._interests[names] = mean
        return mean

    def _placed(self, name: str) -> tuple[Ints, Floats]:
        """Return a segment's plays by catalogue index, without items outside the catalogue."""
        rows, weights = self._segments[name]
        index = self._index_of_row[rows]
        has_place = index >= 0
        return index[has_place], weights[has_place]
