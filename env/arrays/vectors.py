"""Sums and products of vectors of two lengths: the numbers that the shorter one lacks are 0."""

import numpy as np

from env.vocabulary import Float32s


def padded_sum(one: Float32s, other: Float32s) -> Float32s:
    """Return the sum, as long as the longer one.

    >>> padded_sum(np.ones(1, dtype=np.float32), np.ones(2, dtype=np.float32)).tolist()
    [2.0, 1.0]
    """
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    if len(longer) == len(shorter):
        return longer + shorter
    total: Float32s = longer.copy()
    total[: len(shorter)] += shorter
    return total


def padded(vector: Float32s, n: int) -> Float32s:
    """Return a vector of at least n numbers, the missing ones 0."""
    return np.pad(vector, (0, max(n - len(vector), 0)))


def products(rows: Float32s, vector: Float32s) -> Float32s:
    """Return the inner product of each row with a vector, shape (n,).

    Args:
        rows: shape (n, d).
        vector: shape (k,), of any length.
    """
    d = min(rows.shape[1], len(vector))
    found: Float32s = rows[:, :d] @ vector[:d]
    return found
