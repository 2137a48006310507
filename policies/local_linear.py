"""Means along a line of even places, each told by those near by: local linear regression.

At each place a line is fitted to all, weighted by a Gaussian kernel, and read there (Fan and
Gijbels, Local Polynomial Modelling, 1996, section 3.2). A weighted mean alone is biased where the
places seen are uneven, and at both ends. A bandwidth beyond the line fits one line to all of it.
"""

from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats

FLAT = 1e-3
"""Added to the spread of the levels seen: where there is one, the slope is 0."""
LEAST_SEEN = 1e-3
"""Weight of the mean over all places, for where nothing was seen."""


class LocalLinear(NamedTuple):
    """Moments of the kernel, each of shape (L, L): weight, times distance, times its square."""

    weight: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(cls, n_places: int, bandwidth: float) -> "LocalLinear":
        """Return those of places from 0 to 1.

        Args:
            n_places: L, 2 or more.
            bandwidth: standard deviation of the kernel, above 0.

        Raises:
            ValueError: the bandwidth is not above 0.
        """
        if bandwidth <= 0.0:
            raise ValueError(f"expected a bandwidth above 0, got {bandwidth}")
        place = np.arange(n_places) / (n_places - 1)
        distance = place - place[:, None]
        weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
        return cls(weight, weight * distance, weight * distance**2)

    def means(self, n: Floats, sums: Floats) -> Floats:
        """Return the means at each place.

        Args:
            n: of what was summed, shape (L, ..).
            sums: shape (L, .., ..): that of n, or more axes after it.
        """
        over = tuple(range(n.ndim))
        prior = sums.sum(axis=over) / n.sum()
        n = n.reshape(*n.shape, *[1] * (sums.ndim - n.ndim))
        zeroth, first, second = (np.tensordot(part, n, axes=1) for part in self)
        total, slope = (np.tensordot(part, sums, axes=1) for part in self[:2])
        zeroth += LEAST_SEEN
        second += FLAT
        total += LEAST_SEEN * prior
        return (second * total - first * slope) / (second * zeroth - first**2)
