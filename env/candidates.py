"""Retrieval in the simulated world: which K items a person may be shown next.

Slot k draws from its own class of the live items (rows k, k + K, k + 2 K, ..), so candidates are
always distinct without a draw being thrown away. The first half of the slots takes items of the
topics that the server believes this person likes, from what it saw and not from their taste; the
other half takes any. Items that are shown in another market only are not offered, or, to train
and test policies that have to heed a mask, are offered and masked.

A topic is a pattern of signs, so the best topic of a belief is its own signs, and the next best
have one of them, the weakest, turned.

Rejected: nearest neighbours (retrieval is not what is studied here, and every step would search
the whole stock), and drawing with rejection of repeats (how many words a life takes would hang on
chance).
"""

import numpy as np
from numpy.typing import NDArray

from env.draws import shorts
from env.generated import MARKETS
from env.moods import N_TOPICS
from env.supply import EVERYWHERE, Stock
from env.vocabulary import Floats, Ints, Keys
from env.world import N_TOPIC_BITS

CANDIDATE_LANE = 96
MOST_CANDIDATES = 256
N_FAVOURITES = 1 + N_TOPIC_BITS
_BITS = 1 << np.arange(N_TOPIC_BITS)
_ANY_TOPIC = N_TOPICS
_N_AIMS = N_TOPICS + 1
_SCALE = np.float32(2.0**-32)


def favourite_topics(beliefs: Floats) -> Ints:
    """Return the topics that beliefs of interest favour, best first, shape (n, N_FAVOURITES).

    Args:
        beliefs: shape (n_dims, n).

    >>> favourite_topics(np.array([[0.5, -0.4, 0.3, -0.2, 0.1]]).T).tolist()
    [[21, 5, 29, 17, 23, 20]]
    """
    leading = beliefs[:N_TOPIC_BITS]
    best = (leading > 0.0).T @ _BITS
    turned = _BITS[np.argsort(np.abs(leading), axis=0, kind="stable")].T
    return np.column_stack([best, best[:, None] ^ turned])


class Shelf:
    """A stock sorted so that what a slot may draw is two runs of one array.

    Attributes:
        order: rows of the items, by (class, topic, market) and again by (class, market).
        runs: a row a cell, by market of the person from `EVERYWHERE` on, slot, and topic or any:
            start of the first run, its length, the distance from its end to the second, length of
            both. A cell without items has the runs of any topic.
        market: of the items.
    """

    def __init__(self, stock: Stock, k: int, *, masked: bool) -> None:
        """Sort.

        Args:
            stock: what there is.
            k: slots.
            masked: what is not allowed is drawn too.

        Raises:
            ValueError: a slot has no item that is shown everywhere.
        """
        market = stock.market - EVERYWHERE
        row_class = np.arange(stock.n) % k
        width = len(MARKETS) + 1
        by_topic = ((row_class * _N_AIMS + stock.topic) * width) + market
        by_market = ((row_class * _N_AIMS + _ANY_TOPIC) * width) + market
        cells = np.concatenate([by_topic, by_market])
        by_cell = np.argsort(cells, kind="stable")
        self.order: Ints = by_cell % stock.n
        self.market: Ints = stock.market
        n_cells = k * _N_AIMS * width
        ends = np.searchsorted(cells[by_cell], np.arange(n_cells + 1))
        bounds = np.stack([ends[m : m + n_cells : width] for m in range(width + 1)], axis=-1)
        bounds = bounds.reshape(k, _N_AIMS, width + 1)
        self.first: Ints = bounds[:, _ANY_TOPIC, 0]
        n_everywhere = bounds[:, _ANY_TOPIC, 1] - self.first
        if not n_everywhere.all():
            raise ValueError(
                f"expected an item that is shown everywhere in each of {k} classes of "
                f"{stock.n} items, got none in class {int(np.argmin(n_everywhere))}; "
                "ask for fewer candidates or more items"
            )
        self.runs = _runs(bounds, masked=masked)


def _runs(bounds: Ints, *, masked: bool) -> NDArray[np.int32]:
    """Return `Shelf.runs` of the bounds of cells, shape (k, topics, width + 1), by rows of 4."""
    n_markets = bounds.shape[-1] - 1
    runs = np.zeros((n_markets, *bounds.shape[:2], 4), dtype=np.int32)
    runs[..., 0] = bounds[..., 0]
    runs[..., 1] = (bounds[..., -1] if masked else bounds[..., 1]) - bounds[..., 0]
    runs[..., 3] = runs[..., 1]
    if not masked:
        for own in range(1, n_markets):
            runs[own, ..., 2] = bounds[..., own] - bounds[..., 1]
            runs[own, ..., 3] += (bounds[..., own + 1] - bounds[..., own]).astype(np.int32)
    is_empty = runs[..., 3:] == 0
    return np.where(is_empty, runs[:, :, _ANY_TOPIC:], runs).reshape(-1, 4)


class Candidates:
    """Draws the candidates of n people.

    Attributes:
        rows: of the stock, the latest candidates, shape (n, K).
        mask: 1 where a candidate may be shown, shape (n, K).
    """

    def __init__(self, n: int, k: int, *, masked: bool, least: int = 1) -> None:
        """Make room.

        Args:
            n: people.
            k: candidates each.
            masked: offer and mask items of other markets, instead of not offering them.
            least: candidates of each person that are allowed whatever is drawn, at most k.
        """
        self._masked, self._least = masked, least
        self.rows: Ints = np.zeros((n, k), dtype=np.int64)
        self.mask = np.ones((n, k), dtype=np.int8)
        self._base, self._split, self._shift = np.zeros((3, n, k), dtype=np.int32)
        self._last = np.zeros((n, k), dtype=np.int32)
        self._span = np.zeros((n, k), dtype=np.float32)
        self._index = np.zeros((n, k), dtype=np.int32)
        self._scaled = np.zeros((n, k), dtype=np.float32)
        self._is_beyond = np.zeros((n, k), dtype=np.bool_)
        self._beyond = np.zeros((n, k), dtype=np.int32)
        self._slots = np.arange(k)
        self._n_aimed = k // 2

    def aim(self, shelf: Shelf, index: Ints, favourites: Ints, market: Ints) -> None:
        """Say what may be drawn for some people until the next `aim`.

        Args:
            shelf: of today's stock.
            index: of the people, shape (m,).
            favourites: topics that they are believed to like, shape (m, N_FAVOURITES).
            market: theirs, shape (m,).
        """
        topic = np.full((len(index), len(self._slots)), _ANY_TOPIC)
        topic[:, : self._n_aimed] = favourites[:, self._slots[: self._n_aimed] % N_FAVOURITES]
        cell = (market - EVERYWHERE)[:, None] * len(self._slots) + self._slots
        runs = np.take(shelf.runs, cell * _N_AIMS + topic, axis=0, mode="clip")
        base, split, shift, span = np.moveaxis(runs, -1, 0)
        self._base[index], self._split[index], self._shift[index] = base, split, shift
        self._last[index] = span - 1
        self._span[index] = span * _SCALE

    def draw(self, shelf: Shelf, keys: Keys, cards: Ints, market: Ints) -> None:
        """Draw `rows` and `mask` anew.

        Args:
            shelf: of today's stock.
            keys: of the lives, shape (n,).
            cards: number of the next card of each, shape (n,).
            market: of the people, shape (n,).
        """
        drawn, index = shorts(keys, cards, CANDIDATE_LANE, len(self._slots)), self._index
        np.multiply(drawn, self._span, out=self._scaled, dtype=np.float32, casting="unsafe")
        np.copyto(index, self._scaled, casting="unsafe")
        np.minimum(index, self._last, out=index)
        np.greater_equal(index, self._split, out=self._is_beyond)
        np.multiply(self._is_beyond, self._shift, out=self._beyond)
        index += self._base
        index += self._beyond
        np.take(shelf.order, index, out=self.rows, mode="clip")
        if self._masked:
            self._mask_out(shelf, market)

    def _mask_out(self, shelf: Shelf, market: Ints) -> None:
        """Mask items of other markets; too few left, the first slots show what all markets may."""
        where_shown = np.take(shelf.market, self.rows, mode="clip")
        is_allowed = (where_shown == EVERYWHERE) | (where_shown == market[:, None])
        first = shelf.first[: self._least]
        for person in np.flatnonzero(is_allowed.sum(axis=1) < self._least):
            self.rows[person, : self._least] = shelf.order[first]
            is_allowed[person, : self._least] = True
        np.copyto(self.mask, is_allowed)
