"""Which of the uploads that are owed an audience this person is offered, and what is on its way.

Every upload is owed its first impressions, so somebody must see it; whom it is offered to is
decided by what it is about. Offered are those with the highest

    match(the person's interests, the upload's content) + price

with the price of `env.reach.Reach`, the dual variable of the promise: it is 0 while an upload
collects its audience in time, so that match alone decides, and rises as it falls behind. With it
this is the greedy step of a dual ascent for "the best matches such that each gets its G" (Balseiro,
Lu and Mirrokni, "Dual Mirror Descent for Online Allocation Problems", ICML 2020). The policy then
chooses among those that are about as urgent as the first: what is late stands alone and cannot be
passed over. What only a test is owed to has a price below that of any debt: it is offered where no
debt can be paid.

Of near-duplicates one is offered: they need not be one upload (a copy by somebody else has a debt
of its own), and so many of them that they are all that is most urgent would leave a page nothing
else to choose from, and show it one of them.

Rejected: a queue (it gives an upload to whoever comes, and its evidence tells nothing), the
policy's score instead of the match (it knows least about exactly these items), and a choice of as
many however late one of them is (the policy passes over the same ones again and again).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from env.catalogue import Catalogue
from env.columns import grown
from env.index_sets import distinct
from env.reach import Reach
from env.vocabulary import Bools, Float32s, Floats, Ints
from policies.distinct import first_places

OFFERED = 4
"""Owed uploads offered for each reserved slot at most: the policy still has a choice there."""

MARGIN = 0.15
"""Of match + price: the policy may choose what is within it of the most urgent."""

PATIENCE_MS = 180_000
"""Time after which a card that nobody has reported is taken for one that was not seen."""

_TIES = 0x74696573
"""Keeps these draws apart from all others that a page's seed is used for."""


def owed_to(catalogue: Catalogue, reach: Reach, new: Bools, pending: Ints) -> Ints:
    """Return the uploads that are owed more than is on its way to people.

    What is on its way of a creator's near-duplicates pays the debt that they share.

    Args:
        catalogue: all items.
        reach: tells the debts.
        new: shape (n,), what may be shown to the person and is new to them.
        pending: shape (n,), impressions that are on their way.

    Returns:
        Catalogue indices, the most urgent first, between equals in ascending order.
    """
    owing = reach.owing
    debts = catalogue.duplicates[owing] * catalogue.codes.n_creators + catalogue.creators[owing]
    _, debt_of = np.unique(debts, return_inverse=True)
    on_its_way = np.bincount(debt_of, weights=pending[owing])[debt_of]
    owed = owing[new[owing] & (reach.owed[owing] > on_its_way)]
    return owed[np.argsort(-reach.price[owed], kind="stable")]


def offer(
    interests: Mapping[str, Float32s],
    catalogue: Catalogue,
    reach: Reach,
    owed: Ints,
    n_reserved: int,
    at_most: int,
    seed: int,
) -> Ints:
    """Return the owed uploads that suit a person best, the most urgent match first.

    One for each reserved slot, and of the next ones those within `MARGIN` of the first; of
    near-duplicates only the first.

    Args:
        interests: the person's, see `policies.matches.interests_of`.
        catalogue: all items.
        reach: tells the prices.
        owed: shape (m,), see `owed_to`.
        n_reserved: slots that choose from them, at least 0.
        at_most: how many they may be; not below n_reserved.
        seed: decides between equals.

    Returns:
        Catalogue indices.
    """
    n = min(OFFERED * n_reserved, at_most)
    if not len(owed) or n <= 0:
        return owed[:0]
    owed = np.random.default_rng(seed ^ _TIES).permutation(owed)
    worth = _match(interests, catalogue.vectors[owed]) + reach.price[owed]
    # The order in which equals stand is drawn, so whichever of them a partition takes is as well.
    best = np.argpartition(-worth, n - 1)[:n] if n < len(owed) else np.arange(len(owed))
    best = _distinct(best, worth, catalogue, owed)
    if len(best) < n < len(owed):
        best = _distinct(np.arange(len(owed)), worth, catalogue, owed)[:n]
    n_urgent = np.count_nonzero(worth[best] >= worth[best[0]] - MARGIN)
    return owed[best[: max(n_urgent, n_reserved)]]


def _distinct(places: Ints, worth: Floats, catalogue: Catalogue, owed: Ints) -> Ints:
    """Return places of owed uploads, the greatest worth first, of near-duplicates the first."""
    ranked = places[np.argsort(-worth[places], kind="stable")]
    return ranked[first_places(catalogue.duplicates[owed[ranked]])]


def _match(interests: Mapping[str, Float32s], content: Float32s) -> Floats:
    """Return the better one of the matches with long and session interest, 0 without any."""
    matches = [content @ vector for vector in interests.values()] or [np.zeros(len(content))]
    best: Floats = np.max(matches, axis=0).astype(np.float64)
    return best


@dataclass(slots=True)
class Undelivered:
    """How many impressions of owed uploads one replica has drawn that the debt does not show yet.

    A debt falls when an interaction closes, and that only when the learner publishes; until then a
    new upload would be drawn for everybody. So each draw counts as if it were paid until the debt
    falls by it, or until `PATIENCE_MS` have passed without a word of it.

    What other replicas have drawn is not known here: the debt's fall may be theirs, then a draw of
    our own is taken off too early, and the upload may have a few impressions too many.
    """

    _pending: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _settled: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _draws: deque[tuple[int, int]] = field(default_factory=deque)  # at_ms, catalogue index
    _reach: Reach | None = None

    def pending(self, reach: Reach, now_ms: int) -> Ints:
        """Return, shape (n,), draws of each item that the debts of `reach` do not show yet.

        Nobody writes to it.

        Args:
            reach: the debts that pages are drawn with now.
            now_ms: the time of the request.
        """
        if reach is not self._reach:
            self._settle(reach)
        while self._draws and self._draws[0][0] <= now_ms - PATIENCE_MS:
            _, index = self._draws.popleft()
            forgotten = self._settled if self._settled[index] else self._pending
            forgotten[index] -= 1
        return self._pending

    def drew(self, index: Ints, now_ms: int) -> None:
        """Count the cards of a page that is given out, after `pending` of the same request.

        Args:
            index: catalogue indices of its cards.
            now_ms: the time of the request.
        """
        if self._reach is None:
            return
        for i in index[self._reach.owed[index] > 0.0].tolist():
            self._pending[i] += 1
            self._draws.append((now_ms, i))

    def _settle(self, reach: Reach) -> None:
        """Take off what the debts have fallen by; new items have nothing on its way."""
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
