"""The action space of pages: m different candidates in order.

A `MultiDiscrete` that samples and contains only pages without repeats, so that a random policy is
a legal one. Gymnasium is told how to batch it: as plain numbers, as it would, pages repeat.
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
        """Hold arrays of this shape, whose last axis is a page.

        Args:
            k: candidates.
            shape: (m,) or (n, m), m at most k.
            seed: of the samples, or what draws them.
        """
        super().__init__(np.full(shape, k), seed=seed)
        self.k = k

    def sample(self, mask: Any = None, probability: Any = None) -> Ints:
        """Return a uniformly drawn page, or a batch of them.

        Raises:
            ValueError: a mask or probabilities are given, which pages have none of.
        """
        if mask is not None or probability is not None:
            raise ValueError("expected neither mask nor probability: pages are drawn uniformly")
        keys = self.np_random.random((*self.nvec.shape[:-1], self.k))
        return np.argsort(keys, axis=-1)[..., : self.nvec.shape[-1]].astype(np.int64)

    def contains(self, x: Any) -> bool:
        """Return whether x is in the space: in range and without a repeat."""
        return bool(super().contains(x)) and not has_repeats(np.asarray(x)).any()


@batch_space.register(PageSpace)
def _batch(space: PageSpace, n: int = 1) -> PageSpace:
    """Return the space of n pages, drawn as one page would be from here on."""
    return PageSpace(space.k, (n, *space.nvec.shape), seed=deepcopy(space.np_random))


def has_repeats(pages: Ints) -> Any:
    """Return whether pages show a candidate twice, shape (...) of pages of shape (..., m)."""
    in_order = np.sort(pages, axis=-1)
    return (in_order[..., 1:] == in_order[..., :-1]).any(axis=-1)
