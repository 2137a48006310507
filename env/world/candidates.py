"""Retrieval in the simulated world: draws the K candidate items of each user.

The first half of the slots takes items of the topics that the server believes the user likes, the
second half any items. Items of another market are left out or, on request, offered and masked.

Layout of the slots and rejected alternatives: `docs/decisions/world-candidates.md`.
"""

import numpy as np
from numpy.typing import NDArray

from env.arrays.draws import shorts
from env.vocabulary import Floats, Ints, Keys
from env.world.generated import MARKETS
from env.world.moods import N_TOPICS
from env.world.supply import EVERYWHERE, Stock
from env.world.world import N_TOPIC_BITS

CANDIDATE_LANE = 96
MOST_CANDIDATES = 256
N_FAVOURITES = 1 + N_TOPIC_BITS
_BITS = 1 << np.arange(N_TOPIC_BITS)
_ANY_TOPIC = N_TOPICS
_N_AIMS = N_TOPICS + 1
_SCALE = np.float32(2.0**-32)


def favourite_topics(beliefs: Floats) -> Ints:
    """Return the topics that beliefs, (n_dims, n), favour, best first, shape (n, N_FAVOURITES).

    The best topic has the signs of the belief; the others have one sign, the weakest first, turned.

    >>> favourite_topics(np.array([[0.5, -0.4, 0.3, -0.2, 0.1]]).T).tolist()
    [[21, 5, 29, 17, 23, 20]]
    """
    leading = beliefs[:N_TOPIC_BITS]
    best = (leading > 0.0).T @ _BITS
    turned = _BITS[np.argsort(np.abs(leading), axis=0, kind="stable")].T
    return np.column_stack([best, best[:, None] ^ turned])


class CandidateIndex:
    """A stock sorted so that the items of a slot are at most two runs of one array.

    Attributes:
        order: rows of the items, by (class, topic, market) and again by (class, market).
        runs: one row per cell, by market of the user (from `EVERYWHERE` on), slot, and topic or
            any: start of the first run, its length, the distance from its end to the second, length
            of both. A cell without items has the runs of any topic.
    """

    def __init__(self, stock: Stock, k: int, *, masked: bool) -> None:
        """Sort a stock for k slots; `masked` includes items of other markets.

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
    """Return the runs from the bounds of cells, shape (k, topics, width + 1), as rows of 4."""
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
    """Draws the candidates of n users."""

    def __init__(self, n: int, k: int, *, masked: bool, least: int = 1) -> None:
        """Allocate k candidates for each of n users.

        Args:
            n: users.
            k: candidates each.
            masked: offer and mask items of other markets, instead of leaving them out.
            least: candidates of each user that are always allowed, at most k.
        """
        self._masked, self._least = masked, least
        self.rows: Ints = np.zeros((n, k), dtype=np.int64)  # (n, k) rows of the stock, latest draw
        self.mask = np.ones((n, k), dtype=np.int8)  # (n, k) 1 where allowed
        self._base, self._split, self._shift = np.zeros((3, n, k), dtype=np.int32)
        self._last = np.zeros((n, k), dtype=np.int32)
        self._span = np.zeros((n, k), dtype=np.float32)
        self._index = np.zeros((n, k), dtype=np.int32)
        self._scaled = np.zeros((n, k), dtype=np.float32)
        self._is_beyond = np.zeros((n, k), dtype=np.bool_)
        self._beyond = np.zeros((n, k), dtype=np.int32)
        self._slots = np.arange(k)
        self._n_aimed = k // 2

    def aim(self, shelf: CandidateIndex, index: Ints, favourites: Ints, market: Ints) -> None:
        """Set the runs from which some users' items are drawn until the next `aim`.

        The index and markets have shape (m,); `favourites`, (m, N_FAVOURITES), are the topics that
        the users are believed to like.
        """
        topic = np.full((len(index), len(self._slots)), _ANY_TOPIC)
        topic[:, : self._n_aimed] = favourites[:, self._slots[: self._n_aimed] % N_FAVOURITES]
        cell = (market - EVERYWHERE)[:, None] * len(self._slots) + self._slots
        runs = np.take(shelf.runs, cell * _N_AIMS + topic, axis=0, mode="clip")
        base, split, shift, span = np.moveaxis(runs, -1, 0)
        self._base[index], self._split[index], self._shift[index] = base, split, shift
        self._last[index] = span - 1
        self._span[index] = span * _SCALE

    def draw(self, shelf: CandidateIndex, keys: Keys, cards: Ints, market: Ints) -> None:
        """Draw `rows` and `mask` anew; `cards` numbers each user's next card, shape (n,)."""
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

    def _mask_out(self, shelf: CandidateIndex, market: Ints) -> None:
        """Mask items of other markets; if too few are left, refill the first slots."""
        where_shown = np.take(shelf.market, self.rows, mode="clip")
        is_allowed = (where_shown == EVERYWHERE) | (where_shown == market[:, None])
        first = shelf.first[: self._least]
        for user in np.flatnonzero(is_allowed.sum(axis=1) < self._least):
            self.rows[user, : self._least] = shelf.order[first]
            is_allowed[user, : self._least] = True
        np.copyto(self.mask, is_allowed)
