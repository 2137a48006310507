"""An index of cells (faiss IVF) in which the best matches of a large catalogue are found.

Two of them, for the two kinds of interest. The session's match is an inner product of content, so
its cells are clusters of content vectors. The long interest's is added to an item's mean reward,
and there rewards decide as much as content: its cells are clusters within bands of reward, and the
reward stands in the vector (33 numbers). With clusters of content alone the best of a person would
be spread over all of them (recall .38 with 128 of 1,024 cells; with bands .99 with 32).

Vectors are kept as halves, which loses nothing, since a block is halves already. The market, ages,
pools and what the person knows are one bitmap of wanted items, tested inside the search. Of items
that match alike, as where they have no more than a tag, which ones are found is drawn anew for each
page: seven further numbers of an item are random, weighed by less than `MATCH_STEP`.

An index is a cache of one moment. What came or changed since, and what has earned more than the
index knows, is looked at beside it, item by item (the tail), so an upload is found by the next
page; where the tail grows long, or much has fallen, another index is due.

Rejected: HNSW (recall .68 at 200 of clustered vectors, and slow under a filter), product
quantisation (a tenth of the memory, but the re-ranking would need several times as many), an index
for each market (an item stands in most of them), and taking items out of an index or moving them
inside it (not beside a search).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from env.catalogue import Catalogue
from env.features import VECTOR_DIM
from env.index_sets import distinct
from env.items import Aligned
from env.popularity import Popularity
from env.vocabulary import Bools, Float32s, Floats, Ints
from policies.matches import EXPECTED, MATCH_STEP

Bytes = npt.NDArray[np.uint8]

LEAST_ITEMS = 50_000
"""From so many items on an index is faster than looking at all."""

CELL = 500
"""Items of a cell."""
LOOKED_AT = {"long_interest": 4_500, "session_interest": 8_000}
"""Items in the cells that a search looks into, if all are wanted; of few wanted ones more.

With more, more of the best are found and a search takes longer; `docs/retrieval.md` says what these
come to among a million items."""
MOST_LOOKED_AT = 400_000
"""Of however few wanted ones; a search that meets too few is made once more with twice as many."""
_FEW = 10_000
"""So few wanted items are all looked at."""

RISE = 0.02
"""In rewards: an item that has earned so much more than the index knows is in the tail; so much
less, and it stands where it no longer belongs."""
MAX_TAIL = 20_000
"""Of the tail's items that have risen; those that are worth most are in it."""

_BANDS = np.array([-0.2, -0.1, -0.05, -1e-9, 1e-9, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
_WORTH, _TIES, _DIM = VECTOR_DIM, VECTOR_DIM + 1, VECTOR_DIM + 8
_SAMPLE, _ROUNDS = 40, 6
_CHUNK = 1 << 16


class _Moved(NamedTuple):
    """What is worth something else in a version of the states than an index knows.

    Attributes:
        popularity: tells the version.
        risen: items that are worth more, ascending, `MAX_TAIL` at most.
        n: how many are worth more or less.
    """

    popularity: Popularity
    risen: Ints
    n: int


@dataclass(slots=True)
class Cells:
    """Finds matches in cells; one thread searches."""

    n_changes: int  # of the catalogue, when it was read
    worth: Float32s  # (n,) mean reward beyond an unseen item's, as it was then
    _by_content: "_Inverted"
    _by_worth: "_Inverted"
    _changed: tuple[int, Ints] = (-1, np.zeros(0, dtype=np.int64))
    _moved: tuple["_Moved", ...] = ()  # in the last two versions, the newest last

    @classmethod
    def build(cls, catalogue: Catalogue, items: Aligned | None) -> "Cells":
        """Return an index of what is in the catalogue; another thread may move that meanwhile.

        It takes some 6 s for a million items, of one core; the GIL is free for most of it.

        Args:
            catalogue: at least `CELL` items.
            items: what the log says of them; those that it does not know yet are unseen.
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
        """Return wanted items among which nearly all of the n best matches are, see `Nearest`."""
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
        """Return the items that came or changed since, ascending."""
        if self._changed[0] != catalogue.n_changes:
            self._changed = catalogue.n_changes, catalogue.changed_since(self.n_changes)
        return self._changed[1]

    def tail(self, catalogue: Catalogue, items: Aligned) -> Ints:
        """Return what the cells of the long interest do not know as it is, ascending.

        Cells of content hold no worth, so for the session's only what `changed` is looked at.
        """
        changed, risen = self.changed(catalogue), self._moved_in(items).risen
        return distinct(np.concatenate([changed, risen])) if len(risen) else changed

    def follow(self, items: Aligned) -> None:
        """Find what has moved in a version of the states."""
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
        """Return whether another index is worth its making.

        What changed or has risen makes the tail long, what has fallen stands before others in the
        cells of what it was worth.
        """
        n_changed = catalogue.n_changes - self.n_changes
        n_moved = max((moved.n for moved in self._moved), default=0)
        return n_changed + n_moved > max(MAX_TAIL // 4, len(self.worth) // 100)


class _Inverted:
    """Vectors in cells: content, worth and ties of each item."""

    def __init__(
        self, vectors: Float32s, worth: Float32s, bands: Sequence[Ints], ties: np.random.Generator
    ) -> None:
        faiss.omp_set_num_threads(1)
        centres, cells = _cluster(vectors, worth, bands)
        self._quantiser = faiss.IndexFlatIP(_DIM)
        self._quantiser.add(centres)
        half = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantiser, _DIM, len(centres), half, faiss.METRIC_INNER_PRODUCT
        )
        self._index.is_trained = True  # halves need no training, and the centres are given
        for begin in range(0, len(vectors), _CHUNK):
            rows = slice(begin, min(begin + _CHUNK, len(vectors)))
            block = np.empty((rows.stop - begin, _DIM), dtype=np.float32)
            block[:, :_WORTH], block[:, _WORTH] = vectors[rows], worth[rows]
            block[:, _TIES:] = ties.random((len(block), _DIM - _TIES)) - 0.5
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
        """Return what a search finds and the tail, ascending; None where these are fewer than n.

        Where wanted items are not met in the first cells, twice as many are looked at.
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
        """Return some more than n wanted items that match best, fewer where fewer were met.

        Args:
            interest: shape (VECTOR_DIM,).
            bitmap: a bit for each item, set where it is wanted.
            n_codes: items that are looked at, wanted or not.
            n: how many are needed.
            rng: decides between equals.
        """
        query = np.empty((1, _DIM), dtype=np.float32)
        query[0, :_WORTH], query[0, _WORTH] = interest, 1.0
        query[0, _TIES:] = rng.uniform(-MATCH_STEP, MATCH_STEP, _DIM - _TIES) / (_DIM - _TIES)
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
    """Return the centres of cells, shape (n_cells, _DIM), and each item's cell, shape (n,)."""
    cells = np.zeros(len(vectors), dtype=np.int64)
    n_cells = 0
    for index in bands:
        cells[index] = n_cells + _clustered(vectors, index)
        n_cells = int(cells[index].max()) + 1
    taken, cells = np.unique(cells, return_inverse=True)
    sizes = np.bincount(cells, minlength=len(taken))
    centres = np.zeros((len(taken), _DIM), dtype=np.float32)
    for column in range(VECTOR_DIM):
        centres[:, column] = _sums(cells, vectors[:, column], sizes)
    centres[:, _WORTH] = _sums(cells, worth, sizes)
    return centres, cells


def _sums(cells: Ints, values: Float32s, sizes: Ints) -> Floats:
    means: Floats = np.bincount(cells, weights=values, minlength=len(sizes)) / sizes
    return means


def _clustered(vectors: Float32s, index: Ints) -> Ints:
    """Return a number of its cluster for each of some items, by spherical k-means of a sample."""
    n = -(-len(index) // CELL)
    if n == 1:
        return np.zeros(len(index), dtype=np.int64)
    means = faiss.Clustering(VECTOR_DIM, n)
    means.niter, means.spherical, means.seed = _ROUNDS, True, 1
    means.min_points_per_centroid = 1
    sample = index[:: max(len(index) // (_SAMPLE * n), 1)]
    flat = faiss.IndexFlatIP(VECTOR_DIM)
    means.train(np.ascontiguousarray(vectors[sample]), flat)
    found = np.empty(len(index), dtype=np.int64)
    for begin in range(0, len(index), _CHUNK):
        some = index[begin : begin + _CHUNK]
        found[begin : begin + len(some)] = flat.search(vectors[some], 1)[1][:, 0]
    return found
