"""The action space of pages: ordered lists of m different candidates.

It is a `MultiDiscrete` restricted to pages without repeats, so a random policy is legal. A batching
rule is registered with Gymnasium, whose default would allow repeats.
"""

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from env.vocabulary import Ints


class PageSpace(spaces.MultiDiscrete):
    """Ordered pages of m different candidates out of K, alone or a batch of them."""

    def __init__(
        self, k: int, shape: tuple[int, ...], seed: int | np.random.Generator | None = None
    ) -> None:
        """Create the space of arrays of shape (m,) or (n, m), with m at most k."""
        super().__init__(np.full(shape, k), seed=seed)
        self.k = k

    def sample(self, mask: Any = None, probability: Any = None) -> Ints:
        """Return a uniformly drawn page, or a batch of pages.

        Raises:
            ValueError: a mask or probabilities are given; pages support neither.
        """
        if mask is not None or probability is not None:
            raise ValueError("expected neither mask nor probability: pages are drawn uniformly")
        keys = self.np_random.random((*self.nvec.shape[:-1], self.k))
        return np.argsort(keys, axis=-1)[..., : self.nvec.shape[-1]].astype(np.int64)

    def contains(self, x: Any) -> bool:
        """Return whether x is in range and without a repeat."""
        return bool(super().contains(x)) and not has_repeats(np.asarray(x)).any()


@batch_space.register(PageSpace)
def _batch(space: PageSpace, n: int = 1) -> PageSpace:
    """Return the space of n pages, with a copy of the random state."""
    return PageSpace(space.k, (n, *space.nvec.shape), seed=deepcopy(space.np_random))


def has_repeats(pages: Ints) -> Any:
    """Return whether pages of shape (..., m) repeat a candidate, shape (...)."""
    in_order = np.sort(pages, axis=-1)
    return (in_order[..., 1:] == in_order[..., :-1]).any(axis=-1)
