"""Local linear regression on a line of evenly spaced points.

At each point a line is fitted to all data, weighted by a Gaussian kernel, and evaluated there (Fan
and Gijbels, Local Polynomial Modelling, 1996, section 3.2). A weighted mean is biased at both ends
and where data is uneven. A bandwidth beyond the line fits one line to all data.
"""

from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats

FLAT = 1e-3
"""Added to the levels' variance, so that the slope is 0 where only one level was seen."""
LEAST_SEEN = 1e-3
"""Weight of the overall mean, for points without data."""


class LocalLinear(NamedTuple):
    """Moments of the kernel, each (L, L): the weight, times distance, times its square."""

    weight: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(cls, n_places: int, bandwidth: float) -> "LocalLinear":
        """Return the moments for n_places >= 2 points from 0 to 1.

        Raises:
            ValueError: the bandwidth, the kernel's standard deviation, is not above 0.
        """
        if bandwidth <= 0.0:
            raise ValueError(f"expected a bandwidth above 0, got {bandwidth}")
        place = np.arange(n_places) / (n_places - 1)
        distance = place - place[:, None]
        weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
        return cls(weight, weight * distance, weight * distance**2)

    def means(self, n: Floats, sums: Floats) -> Floats:
        """Return the smoothed means at each point.

        Args:
            n: weight of each sum, shape (L, ..).
            sums: shape of n, with any number of further axes.
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
