"""A small world of pages whose every order is enumerated, so that each policy's value is exact.

A page shows 5 of 6 items, each once, and is swiped downwards: a card is liked with a chance that
hangs on the scene, on the person and on the card before it (more of the same bores), and whoever
liked it is likelier to see the next one. So a slot's reward depends on the cards above it and on
what they earned: a cascade. People differ in a way that no policy sees, so that pages of one person
depend on each other. Policies draw slot by slot from a softmax over what is left, mixed with a
floor.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from env.reals import logistic
from env.vocabulary import Bools, Floats, Ints

N_SCENES = 8
N_ITEMS = 6
N_SLOTS = 5
ORDERS = np.array(list(permutations(range(N_ITEMS), N_SLOTS)), dtype=np.int64)  # (720, 5)
MOODS = np.array([-0.6, 0.0, 0.6])
"""Log-odds by which a kind of person likes cards more; kinds are equally frequent."""
FLOOR = 0.1
BOREDOM = 0.8
STAY = (0.7, 2.7)
"""Log-odds to see the next card, after one not liked and after one liked."""


@dataclass(frozen=True, slots=True, eq=False)
class PagePolicy:
    """A policy's distribution over orders.

    Attributes:
        conditional: of each item at each slot given the slots before, shape (scenes, orders, slots,
            items).
        chosen: of the order's own items, shape (scenes, orders, slots).
        order: of whole pages, shape (scenes, orders).
    """

    conditional: Floats
    chosen: Floats
    order: Floats

    @classmethod
    def of(cls, scores: Floats) -> "PagePolicy":
        """Return the policy that draws by a softmax of scores of shape (scenes, items)."""
        left = _items_left()
        raised = np.exp(scores)[:, None, None, :] * left
        softmax = raised / raised.sum(axis=3, keepdims=True)
        floor = left / left.sum(axis=2, keepdims=True)
        conditional = (1.0 - FLOOR) * softmax + FLOOR * floor
        at = np.broadcast_to(ORDERS[None, :, :, None], (*conditional.shape[:3], 1))
        chosen = np.take_along_axis(conditional, at, axis=3)[..., 0]
        return cls(conditional, chosen, chosen.prod(axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class PageLog:
    """Pages drawn and what was liked on them, one row a page."""

    user: Ints  # (n,)
    scene: Ints  # (n,)
    order: Ints  # (n,) index into ORDERS
    reward: Floats  # (n, slots) 0 or 1


@dataclass(frozen=True, slots=True, eq=False)
class PageWorld:
    """Chances to like the card at each slot if it is seen, shape (moods, scenes, orders, slots)."""

    likes: Floats

    @classmethod
    def of(cls, appeal: Floats) -> "PageWorld":
        """Return the world in which items appeal by log-odds of shape (scenes, items)."""
        same = np.zeros(ORDERS.shape)
        same[:, 1:] = ORDERS[:, 1:] % 2 == ORDERS[:, :-1] % 2
        odds = appeal[:, ORDERS] - BOREDOM * same
        likes = np.asarray(logistic(MOODS[:, None, None, None] + odds))
        return cls(likes)

    def value(self, policy: PagePolicy) -> float:
        """Return the expected likes of a page, over people and scenes, exactly."""
        seen, expected = np.ones(self.likes.shape[:3]), np.zeros(self.likes.shape[:3])
        stay = np.asarray(logistic(np.array(STAY)))
        for slot in range(N_SLOTS):
            liked = self.likes[..., slot]
            expected += seen * liked
            seen = seen * (liked * stay[1] + (1.0 - liked) * stay[0])
        return float((expected.mean(axis=0) * policy.order).sum(axis=1).mean())

    def draw(
        self, policy: PagePolicy, n_people: int, n_pages: int, generator: np.random.Generator
    ) -> PageLog:
        """Return pages of each person, drawn by a policy."""
        user = np.repeat(np.arange(n_people), n_pages)
        mood = generator.integers(len(MOODS), size=n_people)[user]
        scene = generator.integers(N_SCENES, size=len(user))
        upto = policy.order.cumsum(axis=1) + np.arange(N_SCENES)[:, None]
        order = np.searchsorted(upto.ravel(), scene + generator.random(len(user)), side="right")
        order = np.minimum(order - scene * len(ORDERS), len(ORDERS) - 1)
        likes = generator.random((len(user), N_SLOTS)) < self.likes[mood, scene, order]
        stays = generator.random((len(user), N_SLOTS)) < np.asarray(
            logistic(np.where(likes, STAY[1], STAY[0]))
        )
        seen = np.ones_like(likes)
        seen[:, 1:] = np.logical_and.accumulate(stays[:, :-1], axis=1)
        return PageLog(user, scene, order, (likes & seen).astype(np.float64))


def _items_left() -> Bools:
    """Return which items are left before each slot of each order, shape (orders, slots, items)."""
    shown = ORDERS[:, :, None] == np.arange(N_ITEMS)
    left: Bools = np.ones(shown.shape, dtype=np.bool_)
    left[:, 1:] = ~np.logical_or.accumulate(shown, axis=1)[:, :-1]
    return left
