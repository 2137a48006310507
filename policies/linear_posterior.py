"""The exact Gaussian posterior of a linear model with an intercept for each item.

    r = beta . x + u_item + noise
    beta ~ N(0, diag)     u_item ~ N(0, item_sd^2)     noise ~ N(0, noise_sd^2)

Items come without end, so their intercepts are never columns of a matrix: given beta they are
independent, and are eliminated from the normal equations (the Schur complement). What remains is
one matrix over the fixed columns, which a rewarded card of item i changes by rank one:

    d = noise_sd^2 / item_sd^2 + n_i      gap = x - (sum of x_i) / d
    S += d / (d + 1) gap gap'             c += d / (d + 1) gap (r - (sum of r_i) / d)

With beta = S^-1 c, a candidate (x, i) has mean beta . gap + (sum of r_i) / d and variance
noise_sd^2 (1 / d + gap' S^-1 gap), gap and d of that item now. This is what the hybrid model of Li,
Chu, Langford and Schapire, "A Contextual-Bandit Approach to Personalized News Article
Recommendation", WWW 2010, algorithm 2, computes where an item's own model is an intercept.

Rejected: a column an item (its matrix grows with the square of the uploads), and updating the
inverse itself (Sherman and Morrison; it loses digits over long streams, and is needed once a page).
"""

import numpy as np

from env.vocabulary import Floats, Ints, Keys

_CAPACITY = 256


class LinearPosterior:
    """The posterior; a deterministic fold of the rewards it is told of."""

    def __init__(self, prior_sds: Floats, item_sd: float, noise_sd: float) -> None:
        """Know nothing but the prior.

        Args:
            prior_sds: of the fixed columns' weights, shape (p,), above 0.
            item_sd: of the items' intercepts, above 0.
            noise_sd: of a reward around its expectation, above 0.
        """
        self._noise_var = noise_sd * noise_sd
        self._least = self._noise_var / (item_sd * item_sd)
        self._precision: Floats = np.diag(self._noise_var / (prior_sds * prior_sds))
        self._target: Floats = np.zeros(len(prior_sds))
        self._rows: dict[int, int] = {}
        self._sums: Floats = np.zeros((_CAPACITY, len(prior_sds)))  # of the columns, a row an item
        self._totals: Floats = np.zeros(_CAPACITY)  # of the rewards
        self._counts: Floats = np.zeros(_CAPACITY)
        self._solved: tuple[Floats, Floats] | None = None

    def fold(self, x: Floats, key: int, reward: float) -> None:
        """Learn a reward.

        Args:
            x: the fixed columns, shape (p,).
            key: of the item.
            reward: finite.
        """
        row = self._row(key)
        depth = self._least + self._counts[row]
        gap = x - self._sums[row] / depth
        weight = depth / (depth + 1.0)
        self._precision += weight * gap[:, None] * gap
        self._target += weight * (reward - self._totals[row] / depth) * gap
        self._sums[row] += x
        self._totals[row] += reward
        self._counts[row] += 1.0
        self._solved = None

    def moments(self, x: Floats, keys: Keys) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each candidate's expected reward, shape (n,).

        Args:
            x: the fixed columns, shape (n, p).
            keys: of the items, shape (n,); an unknown one has the prior's intercept.
        """
        beta, covariance = self._solution()
        rows = self._rows_of(keys)
        depth = self._least + self._counts[rows]
        gap = x - self._sums[rows] / depth[:, None]
        mean = gap @ beta + self._totals[rows] / depth
        variance = self._noise_var * (1.0 / depth + ((gap @ covariance) * gap).sum(axis=1))
        return np.asarray(mean), np.sqrt(variance)

    def _solution(self) -> tuple[Floats, Floats]:
        if self._solved is None:
            inverse: Floats = np.asarray(np.linalg.inv(self._precision), dtype=np.float64)
            self._solved = inverse @ self._target, inverse
        return self._solved

    def _rows_of(self, keys: Keys) -> Ints:
        return np.array([self._rows.get(key, 0) for key in keys.tolist()], dtype=np.int64)

    def _row(self, key: int) -> int:
        """Return the item's row; row 0 is that of all items without a reward."""
        row = self._rows.setdefault(key, len(self._rows) + 1)
        if row == len(self._counts):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        return row
