"""Popularity of items in a scene: plays by nested segment, each smoothed by the wider one.

A scene's segments are its country, then language, cohort, referrer, device and part of the day
within it. Hierarchical Dirichlet smoothing adds `PRIOR_PLAYS` plays, distributed as in the
surrounding segment. The mean content vector of a scene's plays, smoothed the same way, is a first
interest for new users. Formulas, bounds and rejected alternatives:
`docs/decisions/popularity-segments.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from env.arrays.index_sets import distinct, is_among
from env.arrays.vectors import padded_sum
from env.columns.schema import bucket_of
from env.vocabulary import Bools, Float32s, Floats, Ints, Scene

MAX_CELLS = 100_000
"""Each takes 12 bytes in a snapshot, some 100 in the learner, and 16 in a replica."""

DEVICES = frozenset({"phone", "tablet", "desktop", "tv"})
HOURS_A_PART = 6
N_BUCKETS = 64
"""Number of buckets for cohorts, and for referrers."""

_FORGOTTEN = 2.0**-20


class Plays(NamedTuple):
    """The items played in a segment and their weights, read-only columns."""

    rows: Ints
    weights: Floats


def segment_names(scene: Scene) -> tuple[str, ...]:
    """Return the segments of a scene, the widest first.

    >>> segment_names(Scene(0, "TH", "th", device="phone", hour=20))
    ('TH', 'TH/th', 'TH/th///phone', 'TH/th///phone/3')
    >>> segment_names(Scene(0, "TH", cohort="new", referrer="ad", device="fridge"))
    ('TH', 'TH//19', 'TH//19/5', 'TH//19/5//0')
    """
    parts = (
        scene.country,
        scene.language,
        _bucket("cohort", scene.cohort),
        _bucket("referrer", scene.referrer),
        scene.device if scene.device in DEVICES else "",
        str(scene.hour // HOURS_A_PART) if scene.hour >= 0 else "",
    )
    return tuple("/".join(parts[: k + 1]) for k, part in enumerate(parts) if part)


class Segments:
    """The plays of all segments; part of the fold of `env.items.statistics`."""

    def __init__(self, max_cells: int = MAX_CELLS) -> None:
        """Start empty; beyond `max_cells` the lightest half is dropped."""
        self._max_cells = max_cells
        self._n_cells = 0
        self._plays: dict[str, Plays | dict[int, float]] = {}

    def __len__(self) -> int:
        """Return the number of cells, pairs of item and segment."""
        return self._n_cells

    def fold(self, scene: Scene, row: int, weight: float) -> None:
        """Count a play of an item, given by its row, in every segment of its scene."""
        for name in segment_names(scene):
            plays = self._open(name)
            self._n_cells += row not in plays
            plays[row] = plays.get(row, 0.0) + weight
        if self._n_cells > self._max_cells:
            self._keep_heaviest(self._max_cells // 2)

    def fade(self, factor: float) -> None:
        """Rescale to another landmark and drop weights that become negligible."""
        faded = {name: (rows, weights * factor) for name, (rows, weights) in self.columns().items()}
        self._put(
            {name: Plays(r[w > _FORGOTTEN], w[w > _FORGOTTEN]) for name, (r, w) in faded.items()}
        )

    def columns(self) -> dict[str, Plays]:
        """Return the plays by segment, sorted by name; later folds do not change them."""
        return {name: _closed(self._plays[name]) for name in sorted(self._plays)}

    def to_stored(self) -> dict[str, tuple[bytes, bytes]]:
        """Return the state; the same stream of plays gives the same state."""
        return {
            name: (rows.astype("<u4").tobytes(), weights.astype("<f8").tobytes())
            for name, (rows, weights) in self.columns().items()
        }

    @classmethod
    def from_stored(
        cls, stored: dict[str, tuple[bytes, bytes]], max_cells: int = MAX_CELLS
    ) -> "Segments":
        """Return the segments that `to_stored` wrote.

        Raises:
            ValueError: a segment's columns are of different lengths.
        """
        segments = cls(max_cells)
        segments._put({name: _read(name, *columns) for name, columns in stored.items()})
        return segments

    def _open(self, name: str) -> dict[int, float]:
        """Return a segment's plays as a dict for counting; replicas only read and keep columns."""
        plays = self._plays.get(name)
        if not isinstance(plays, dict):
            plays = {} if plays is None else _opened(plays)
            self._plays[name] = plays
        return plays

    def _keep_heaviest(self, n: int) -> None:
        columns = self.columns()
        weights = np.concatenate([weights for _, weights in columns.values()])
        stays = np.zeros(len(weights), dtype=np.bool_)
        stays[np.argsort(-weights, kind="stable")[:n]] = True
        kept, begin = {}, 0
        for name, (rows, theirs) in columns.items():
            mine = stays[begin : begin + len(rows)]
            begin += len(rows)
            kept[name] = Plays(rows[mine], theirs[mine])
        self._put(kept)

    def _put(self, plays: dict[str, Plays]) -> None:
        self._plays = {name: columns for name, columns in plays.items() if len(columns.rows)}
        self._n_cells = sum(len(columns.rows) for columns in plays.values())


def _opened(plays: Plays) -> dict[int, float]:
    return dict(zip(plays.rows.tolist(), plays.weights.tolist(), strict=True))


def _closed(plays: Plays | dict[int, float]) -> Plays:
    if isinstance(plays, Plays):
        return plays
    rows = np.fromiter(plays.keys(), dtype=np.int64, count=len(plays))
    return Plays(rows, np.fromiter(plays.values(), dtype=np.float64, count=len(plays)))


def _read(name: str, rows: bytes, weights: bytes) -> Plays:
    plays = Plays(np.frombuffer(rows, "<u4").astype(np.int64), np.frombuffer(weights, "<f8"))
    if len(plays.rows) != len(plays.weights):
        raise ValueError(
            f"segment {name}: expected {len(plays.rows)} weights, got {len(plays.weights)}"
        )
    return plays


def _bucket(kind: str, word: str) -> str:
    return str(bucket_of(kind, word, N_BUCKETS)) if word else ""


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
        """Return the mean content vector of a scene's plays, shape (d,), read-only.

        Its length is at most 1, and 0 without plays. Cached like `here`.

        Args:
            scene: of the request.
            vectors: shape (n, d), of the catalogue that this is aligned with, each of unit length
                or zero.
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
            around, index = np.zeros(vectors.shape[1], dtype=np.float32), self.everywhere.played
            weights = self.everywhere.at(index)
        shares = (weights / (float(weights.sum()) + self.prior_plays)).astype(np.float32)
        kept = np.float32(1.0 - float(shares.sum()))
        mean = padded_sum(kept * around, shares @ vectors[index])
        self._interests[names] = mean
        return mean

    def _placed(self, name: str) -> tuple[Ints, Floats]:
        """Return a segment's plays by catalogue index, without items outside the catalogue."""
        rows, weights = self._segments[name]
        index = self._index_of_row[rows]
        has_place = index >= 0
        return index[has_place], weights[has_place]
