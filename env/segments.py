"""Valid plays by segment of the scene, each segment nested in the one before.

A scene's segments are its country, then language, cohort, referrer, device and part of the day
within it. `env.popularity` smooths each segment by the wider one. Names come from requests, so
cohorts and referrers are hashed into buckets and the number of cells is bounded. Order of the
segments, bounds and rejected alternatives: `docs/decisions/popularity-segments.md`.
"""

from typing import NamedTuple

import numpy as np

from env.features import bucket_of
from env.vocabulary import Floats, Ints, Scene

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
        str(scene.hour // HOURS_A_PART),
    )
    return tuple("/".join(parts[: k + 1]) for k, part in enumerate(parts) if part)


class Segments:
    """The plays of all segments; part of the fold of `env.items`."""

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
