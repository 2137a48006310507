"""Functions that make rows of probabilities from scores and draw from them."""

import numpy as np

from env.vocabulary import Floats, Ints


def softmax(scores: Floats, temperature: float = 1.0, floor: float = 0.0) -> Floats:
    """Return pmfs of scores along the last axis, mixed with a share of uniform.

    Args:
        scores: shape (..., K).
        temperature: the scale of the scores, above 0.
        floor: the share, in [0, 1].
    """
    powers = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    pmf = powers / powers.sum(axis=-1, keepdims=True)
    return np.asarray((1.0 - floor) * pmf + floor / scores.shape[-1])


def draw(pmf: Floats, rng: np.random.Generator) -> Ints:
    """Return an index drawn from each row of pmfs (n, K) by inverse CDF, shape (n,)."""
    cdf = pmf.cumsum(axis=1)
    return np.asarray((rng.random((len(pmf), 1)) * cdf[:, -1:] >= cdf).sum(axis=1))
