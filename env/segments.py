"""Who plays what where: valid plays by segment of the scene, each segment inside the one before.

The segments of a scene are its country, then the language, the person's cohort, what brought them
here, the device and the part of the day within it; what a scene does not say makes no segment.
A segment borrows from the one around it (`env.popularity`), so what tells tastes apart comes
first, while there are still plays to tell it by. Market and language decide what can be followed
at all. The cohort has few values, which a person keeps, and parts newcomers from regulars. The
referrer says what somebody came for, but few visits have one, and for a regular their own past
says more: it stands within the cohort. Device and part of the day shift tastes least.

Names come from requests, so what they may fill is bounded. Cohorts and referrers are hashed into
`N_BUCKETS` each: an address with a number of its own for each visit then spreads over the buckets
like everybody else's plays and says nothing, instead of making a segment a visit. The cells (an
item's plays in a segment) are bounded: over the bound the lightest half goes, which are items
played once, a while ago. All plays weigh as at one landmark (`env.items`), so cells compare.

Rejected: independent segments whose lifts multiply (a country and its language would count twice),
the referrer before the cohort (the cohort's plays would be divided among referrers that most of
them do not have), device and part of the day before both (known where the referrer is new, but
they divide what tells more by sixteen), and a segment for each network or weekday (thinner than
what they could tell apart).
"""

from typing import NamedTuple

import numpy as np

from env.features import bucket_of
from env.vocabulary import Floats, Ints, Scene

MAX_CELLS = 100_000
"""12 bytes each in a snapshot, some 100 in the learner, and 16 in a replica."""

DEVICES = frozenset({"phone", "tablet", "desktop", "tv"})
HOURS_A_PART = 6
N_BUCKETS = 64
"""Into which cohorts are hashed, and referrers."""

_FORGOTTEN = 2.0**-20


class Plays(NamedTuple):
    """Columns over the items that were played in a segment; nobody writes to them."""

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
    """The plays of all segments; a part of the fold of `env.items`."""

    def __init__(self, max_cells: int = MAX_CELLS) -> None:
        """Start without any; over `max_cells` half of them go."""
        self._max_cells = max_cells
        self._n_cells = 0
        self._plays: dict[str, Plays | dict[int, float]] = {}

    def __len__(self) -> int:
        """Return how many cells there are."""
        return self._n_cells

    def fold(self, scene: Scene, row: int, weight: float) -> None:
        """Count a play of an item, known by its row, in every segment of its scene."""
        for name in segment_names(scene):
            plays = self._open(name)
            self._n_cells += row not in plays
            plays[row] = plays.get(row, 0.0) + weight
        if self._n_cells > self._max_cells:
            self._keep_heaviest(self._max_cells // 2)

    def fade(self, factor: float) -> None:
        """Move to another landmark, without what then counts for nothing."""
        faded = {name: (rows, weights * factor) for name, (rows, weights) in self.columns().items()}
        self._put(
            {name: Plays(r[w > _FORGOTTEN], w[w > _FORGOTTEN]) for name, (r, w) in faded.items()}
        )

    def columns(self) -> dict[str, Plays]:
        """Return the plays by segment, by name; later folds do not move them."""
        return {name: _closed(self._plays[name]) for name in sorted(self._plays)}

    def to_stored(self) -> dict[str, tuple[bytes, bytes]]:
        """Return the state; the same stream of plays gives the same."""
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
        """Return a segment's plays to be counted up; a replica never does, and keeps columns."""
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
