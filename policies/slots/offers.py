"""This module chooses the new uploads that a page's reserved slots may show to a user.

Uploads with a delivery guarantee are ranked by their match with the user's interests plus a shadow
price that rises as delivery falls behind. It also counts impressions that were drawn and not yet
reported. Derivation and rejected alternatives: `docs/decisions/reserved-slots.md`.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.arrays.growing import grown
from env.arrays.index_sets import distinct, first_indices
from env.arrays.vectors import products
from env.fair_start.reach import Reach
from env.items.catalogue import Catalogue
from env.vocabulary import Bools, Float32s, Floats, Ints
from policies.candidates.query import Query

OFFERED = 4
"""Guaranteed uploads offered for each reserved slot at most, so that the policy still has a
choice."""

MARGIN = 0.15
"""In units of match + price: uploads within this distance of the most urgent one are offered."""

PENDING_TIMEOUT_MS = 180_000
"""Attribution timeout: a card without a report for this long counts as not seen."""

_TIES = 0x74696573
"""Keeps these draws apart from all others of the page's seed."""


def uploads_with_shortfall(catalogue: Catalogue, reach: Reach, new: Bools, pending: Ints) -> Ints:
    """Return the uploads whose shortfall exceeds their undelivered impressions.

    Undelivered impressions of a creator's near-duplicates count towards the shortfall they share.

    Args:
        new: shape (n,), items that may be shown to the user and are new to them.
        pending: shape (n,), impressions that were drawn and not yet reported.

    Returns:
        Catalogue indices by falling price, ties in ascending order.
    """
    owing = reach.owing
    debts = catalogue.duplicates[owing] * catalogue.codes.n_creators + catalogue.creators[owing]
    _, debt_of = np.unique(debts, return_inverse=True)
    on_its_way = np.bincount(debt_of, weights=pending[owing])[debt_of]
    owed = owing[new[owing] & (reach.owed[owing] > on_its_way)]
    return owed[np.argsort(-reach.price[owed], kind="stable")]


def choose_reserved(query: Query, owed: Ints, n_reserved: int, at_most: int) -> Ints:
    """Return the guaranteed uploads that suit a user best, the most urgent match first.

    There is one for each reserved slot, and further ones within `MARGIN` of the first; of
    near-duplicates only the first is kept.

    Args:
        query: gives the user's interests, the items and their shadow prices.
        owed: shape (m,), see `uploads_with_shortfall`.
        n_reserved: slots that choose from them, at least 0.
        at_most: upper bound on the result; not below n_reserved.

    Returns:
        Catalogue indices.
    """
    n = min(OFFERED * n_reserved, at_most)
    if not len(owed) or n <= 0:
        return owed[:0]
    catalogue = query.catalogue
    owed = np.random.default_rng(query.seed ^ _TIES).permutation(owed)
    worth = _match(query.interests, catalogue.vectors[owed]) + query.reach.price[owed]
    # The order of equals is random, so the choice that a partition makes among them is as well.
    best = np.argpartition(-worth, n - 1)[:n] if n < len(owed) else np.arange(len(owed))
    best = _distinct(best, worth, catalogue, owed)
    if len(best) < n < len(owed):
        best = _distinct(np.arange(len(owed)), worth, catalogue, owed)[:n]
    n_urgent = np.count_nonzero(worth[best] >= worth[best[0]] - MARGIN)
    return owed[best[: max(n_urgent, n_reserved)]]


def _distinct(places: Ints, worth: Floats, catalogue: Catalogue, owed: Ints) -> Ints:
    """Return positions in `owed` by falling worth, only the first of near-duplicates."""
    ranked = places[np.argsort(-worth[places], kind="stable")]
    return ranked[first_indices(catalogue.duplicates[owed[ranked]])]


def _match(interests: Mapping[str, Float32s], content: Float32s) -> Floats:
    """Return the better of the matches with long and session interest, 0 without any."""
    none = np.zeros(len(content), dtype=np.float32)
    matches = [products(content, interest) for interest in interests.values()] or [none]
    best: Floats = np.max(matches, axis=0).astype(np.float64)
    return best


@dataclass(slots=True)
class PendingImpressions:
    """Impressions of guaranteed uploads that a replica drew and the shortfalls do not include yet.

    A shortfall falls only when an interaction closes and the learner publishes. Until then each
    draw counts as delivered, or until `PENDING_TIMEOUT_MS` have passed. Draws of other replicas are
    unknown here: if they cause the fall, our own draw is settled too early, and the upload may get
    a few impressions too many.
    """

    _pending: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _settled: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _draws: deque[tuple[int, int]] = field(default_factory=deque)  # at_ms, catalogue index
    _reach: Reach | None = None

    def pending(self, reach: Reach, now_ms: int) -> Ints:
        """Return, shape (n,), the draws of each item that `reach` does not include yet; read-only.

        Args:
            reach: the shortfalls that pages are drawn with now.
        """
        if reach is not self._reach:
            self._settle(reach)
        while self._draws and self._draws[0][0] <= now_ms - PENDING_TIMEOUT_MS:
            _, index = self._draws.popleft()
            forgotten = self._settled if self._settled[index] else self._pending
            forgotten[index] -= 1
        return self._pending

    def drew(self, index: Ints, now_ms: int) -> None:
        """Count the cards of a delivered page; call it after `pending` of the same request."""
        if self._reach is None:
            return
        for i in index[self._reach.owed[index] > 0.0].tolist():
            self._pending[i] += 1
            self._draws.append((now_ms, i))

    def _settle(self, reach: Reach) -> None:
        """Settle draws by the fall of the shortfalls; new items have none pending."""
        before, self._reach = self._reach, reach
        n_known, n = len(self._pending), len(reach.owed)
        if n > n_known:
            self._pending, self._settled = grown(self._pending, n), grown(self._settled, n)
            self._pending[n_known:] = self._settled[n_known:] = 0
        if before is None:
            return
        drawn = distinct(np.array([i for _, i in self._draws], dtype=np.int64))
        fall = np.clip(before.owed[drawn] - reach.owed[drawn], 0.0, self._pending[drawn])
        self._pending[drawn] -= fall.astype(np.int64)
        self._settled[drawn] += fall.astype(np.int64)
