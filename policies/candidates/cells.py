"""An approximate nearest-neighbour index (faiss IVF) for large catalogues.

It holds two inverted files: content clusters for the session interest, and content clusters within
reward bands for the long-term interest. Items that changed after the build are searched one by one.
Measurements and rejected alternatives: `docs/decisions/nearest-neighbour-index.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from env.arrays.index_sets import distinct
from env.items.catalogue import Catalogue
from env.items.popularity import Popularity
from env.items.statistics import Aligned
from env.vocabulary import Float32s, Floats, Ints
from policies.candidates.query import EXPECTED, MATCH_STEP, Query

Bytes = npt.NDArray[np.uint8]
LEAST_ITEMS = 50_000
"""An index is faster than an exact search from this many items on."""

CELL = 500
"""Items per cell."""

LOOKED_AT = {"long_interest": 4_500, "session_interest": 8_000}
"""Items in the cells that a search visits if all items are wanted; the number grows as fewer are.

More visited items give a higher recall and a slower search; `docs/retrieval.md` measures both for a
million items."""

MOST_LOOKED_AT = 400_000
"""Upper bound on visited items, however few are wanted; a search that finds too few is repeated
once with twice as many."""

_FEW = 10_000
"""Up to this many wanted items are all ranked exactly."""

RISE = 0.02
"""In rewards: an item whose mean reward rose by more since the build joins the tail; one whose mean
reward fell by more is misplaced."""

MAX_TAIL = 20_000
"""Upper bound on risen items in the tail; those with the highest mean reward are kept."""

_BANDS = np.array([-0.2, -0.1, -0.05, -1e-9, 1e-9, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
_N_TIES = 7
"""Columns of numbers that break ties; before them stand an item's vector and its worth."""

_SAMPLE, _ROUNDS = 40, 6
_CHUNK = 1 << 16


class _Moved(NamedTuple):
    """Items whose mean reward differs from the index in one version of the states."""

    popularity: Popularity  # identifies the version
    risen: Ints  # items that are worth more, ascending, at most `MAX_TAIL`
    n: int  # number of items that are worth more or less


@dataclass(slots=True)
class ClusterIndex:
    """Finds matches in cells; at most one thread searches at a time."""

    n_changes: int  # the catalogue's change count at the build
    worth: Float32s  # (n,) mean reward beyond an unseen item's, at the build
    _by_content: "_Inverted"
    _by_worth: "_Inverted"
    _changed: tuple[int, Ints] = (-1, np.zeros(0, dtype=np.int64))
    _moved: tuple["_Moved", ...] = ()  # of the last two versions, the newest last

    @classmethod
    def build(cls, catalogue: Catalogue, items: Aligned | None) -> "ClusterIndex":
        """Return an index of the catalogue's current items.

        A million items take some 6 s of one core, and the GIL is free for most of it. Another
        thread may change the catalogue meanwhile.

        Args:
            catalogue: at least `CELL` items.
            items: statistics from the log; items beyond them count as unseen.
        """
        n_changes, vectors = catalogue.n_changes, catalogue.vectors
        worth = np.zeros(len(vectors), dtype=np.float32)
        if items is not None:
            worth[: len(items.reward_mean)] = _worth(items)[: len(vectors)]
        ties = np.random.default_rng(0)
        return cls(
            n_changes,
            worth,
            _Inverted(vectors, np.zeros_like(worth), [np.arange(len(vectors))], ties),
            _Inverted(vectors, worth, _banded(worth), ties),
        )

    def near(self, query: Query, n: int) -> dict[str, Ints] | None:
        """Return new items that contain nearly all of the n best matches, see `MatchIndex`."""
        catalogue, wanted, n_wanted = query.catalogue, query.new, query.n_new
        items, interests, rng = query.items, query.interests, query.rng
        if n_wanted <= max(_FEW, n):
            return dict.fromkeys(interests, np.flatnonzero(wanted))
        bitmap = np.packbits(wanted, bitorder="little")
        found = {}
        for source, interest in interests.items():
            is_expected = source == EXPECTED
            inverted = self._by_worth if is_expected else self._by_content
            tail = self.tail(catalogue, items) if is_expected else self.changed(catalogue)
            n_codes = min(round(LOOKED_AT[source] * len(wanted) / n_wanted), MOST_LOOKED_AT)
            index = inverted.find(interest, bitmap, n_codes, tail[wanted[tail]], n, rng)
            if index is None:
                return None
            found[source] = index
        return found

    def changed(self, catalogue: Catalogue) -> Ints:
        """Return the items that were added or changed since the build, ascending."""
        if self._changed[0] != catalogue.n_changes:
            self._changed = catalogue.n_changes, catalogue.changed_since(self.n_changes)
        return self._changed[1]

    def tail(self, catalogue: Catalogue, items: Aligned) -> Ints:
        """Return the items that the long interest's cells hold out of date, ascending.

        The session's cells hold no rewards, so for them only `changed` items are out of date.
        """
        changed, risen = self.changed(catalogue), self._moved_in(items).risen
        return distinct(np.concatenate([changed, risen])) if len(risen) else changed

    def follow(self, items: Aligned) -> None:
        """Find the items that moved in this version of the states."""
        self._moved_in(items)

    def _moved_in(self, items: Aligned) -> "_Moved":
        for moved in self._moved:
            if moved.popularity is items.popularity:
                return moved
        n = min(len(self.worth), len(items.reward_mean))
        worth = _worth(items)[:n]
        by = worth - self.worth[:n]
        risen = np.flatnonzero(by > RISE)
        n_moved = len(risen) + int(np.count_nonzero(by < -RISE))
        if len(risen) > MAX_TAIL:
            risen = np.sort(risen[np.argpartition(-worth[risen], MAX_TAIL)[:MAX_TAIL]])
        moved = _Moved(items.popularity, risen, n_moved)
        self._moved = (*self._moved[-1:], moved)
        return moved

    def is_due(self, catalogue: Catalogue) -> bool:
        """Return whether so many items changed, rose or fell that a new index is worth building."""
        n_changed = catalogue.n_changes - self.n_changes
        n_moved = max((moved.n for moved in self._moved), default=0)
        return n_changed + n_moved > max(MAX_TAIL // 4, len(self.worth) // 100)


class _Inverted:
    """An inverted file over content, reward and tie-breaking numbers of each item."""

    def __init__(
        self, vectors: Float32s, worth: Float32s, bands: Sequence[Ints], ties: np.random.Generator
    ) -> None:
        faiss.omp_set_num_threads(1)
        centres, cells = _cluster(vectors, worth, bands)
        self._n_dims, dim = vectors.shape[1], centres.shape[1]
        self._quantiser = faiss.IndexFlatIP(dim)
        self._quantiser.add(centres)
        half = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantiser, dim, len(centres), half, faiss.METRIC_INNER_PRODUCT
        )
        self._index.is_trained = True  # halves need no training, and the centres are given
        for begin in range(0, len(vectors), _CHUNK):
            rows = slice(begin, min(begin + _CHUNK, len(vectors)))
            drawn = ties.random((rows.stop - begin, _N_TIES)) - 0.5
            block = np.column_stack([vectors[rows], worth[rows], drawn]).astype(np.float32)
            index = np.arange(begin, rows.stop, dtype=np.int64)
            pointers = [faiss.swig_ptr(column) for column in (block, index, cells[rows])]
            self._index.add_core(len(block), *pointers)

    def find(
        self,
        interest: Float32s,
        bitmap: Bytes,
        n_codes: int,
        tail: Ints,
        n: int,
        rng: np.random.Generator,
    ) -> Ints | None:
        """Return the search's results and the tail, ascending; None if these are fewer than n.

        A search that finds too few visits twice as many items once.
        """
        for looked_at in (n_codes, 2 * n_codes):
            some = self.search(interest, bitmap, looked_at, n, rng)
            index = distinct(np.concatenate([some, tail]))
            if len(index) >= n:
                return index
        return None

    def search(
        self, interest: Float32s, bitmap: Bytes, n_codes: int, n: int, rng: np.random.Generator
    ) -> Ints:
        """Return up to 1.5 n wanted items that match best, fewer where fewer were found.

        Args:
            interest: shape (d,).
            bitmap: a bit for each item, set where it is wanted.
            n_codes: items that are visited, wanted or not.
        """
        n_dims = self._n_dims
        query = np.zeros((1, n_dims + 1 + _N_TIES), dtype=np.float32)
        query[0, : len(interest)] = interest[:n_dims]
        query[0, n_dims] = 1.0
        query[0, n_dims + 1 :] = rng.uniform(-MATCH_STEP, MATCH_STEP, _N_TIES) / _N_TIES
        faiss.omp_set_num_threads(1)
        args = faiss.SearchParametersIVF(
            sel=faiss.IDSelectorBitmap(bitmap),
            nprobe=min(4 * n_codes // CELL, self._index.nlist),
            max_codes=n_codes,
        )
        _, found = self._index.search(query, n + n // 2, params=args)
        some: Ints = found[0][found[0] >= 0]
        return some


def _worth(items: Aligned) -> Float32s:
    return (items.reward_mean - items.unseen_mean).astype(np.float32)


def _banded(worth: Float32s) -> list[Ints]:
    band = np.digitize(worth, _BANDS)
    return [np.flatnonzero(band == k) for k in distinct(band.astype(np.int64)).tolist()]


def _cluster(vectors: Float32s, worth: Float32s, bands: Sequence[Ints]) -> tuple[Float32s, Ints]:
    """Return the centres of cells, (n_cells, d + 1 + _N_TIES), and each item's cell, shape (n,)."""
    cells = np.zeros(len(vectors), dtype=np.int64)
    n_cells = 0
    for index in bands:
        cells[index] = n_cells + _clustered(vectors, index)
        n_cells = int(cells[index].max()) + 1
    taken, cells = np.unique(cells, return_inverse=True)
    sizes = np.bincount(cells, minlength=len(taken))
    n_dims = vectors.shape[1]
    centres = np.zeros((len(taken), n_dims + 1 + _N_TIES), dtype=np.float32)
    for column in range(n_dims):
        centres[:, column] = _sums(cells, vectors[:, column], sizes)
    centres[:, n_dims] = _sums(cells, worth, sizes)
    return centres, cells


def _sums(cells: Ints, values: Float32s, sizes: Ints) -> Floats:
    means: Floats = np.bincount(cells, weights=values, minlength=len(sizes)) / sizes
    return means


def _clustered(vectors: Float32s, index: Ints) -> Ints:
    """Return the cluster number of each item, by spherical k-means on a sample."""
    n = -(-len(index) // CELL)
    if n == 1:
        return np.zeros(len(index), dtype=np.int64)
    means = faiss.Clustering(vectors.shape[1], n)
    means.niter, means.spherical, means.seed = _ROUNDS, True, 1
    means.min_points_per_centroid = 1
    sample = index[:: max(len(index) // (_SAMPLE * n), 1)]
    flat = faiss.IndexFlatIP(vectors.shape[1])
    means.train(np.ascontiguousarray(vectors[sample]), flat)
    found = np.empty(len(index), dtype=np.int64)
    for begin in range(0, len(index), _CHUNK):
        some = index[begin : begin + _CHUNK]
        found[begin : begin + len(some)] = flat.search(vectors[some], 1)[1][:, 0]
    return found
