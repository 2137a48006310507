"""Arithmetic that is the same for one number and for an array of them, to the last bit.

A scalar goes through the same numpy loops as an array, so one user simulated alone answers as
in a vector of a million; but it comes back as a Python float, since arithmetic on numpy's own
scalars is several times slower. Rejected for that: `math.exp`, which rounds differently.
"""

from typing import cast

import numpy as np

from env.vocabulary import Floats

Reals = float | Floats
"""A number, or an array of them that broadcasts with the others of a call."""

_INVERSE_ROOT_TAU = 0.3989422804014327


def exp(x: Reals) -> Reals:
    """Return e^x."""
    return float(np.exp(x)) if isinstance(x, float) else np.exp(x)


def cos(x: Reals) -> Reals:
    """Return the cosine."""
    return float(np.cos(x)) if isinstance(x, float) else np.cos(x)


def sin(x: Reals) -> Reals:
    """Return the sine."""
    return float(np.sin(x)) if isinstance(x, float) else np.sin(x)


def log1p(x: Reals) -> Reals:
    """Return ln(1 + x)."""
    return float(np.log1p(x)) if isinstance(x, float) else np.log1p(x)


def logistic(x: Reals) -> Reals:
    """Return 1 / (1 + e^-x), without overflow where |x| < 700."""
    return 1.0 / (1.0 + exp(-x))


def least(x: Reals, y: Reals) -> Reals:
    """Return the smaller one."""
    if isinstance(x, float) and isinstance(y, float):
        return min(x, y)
    return np.minimum(x, y)


def most(x: Reals, y: Reals) -> Reals:
    """Return the greater one."""
    if isinstance(x, float) and isinstance(y, float):
        return max(x, y)
    return np.maximum(x, y)


def clip_to_unit(x: Reals) -> Reals:
    """Return x, or the nearer end of [0, 1]."""
    return min(max(x, 0.0), 1.0) if isinstance(x, float) else np.minimum(np.maximum(x, 0.0), 1.0)


def is_below(x: Reals, y: Reals) -> Reals:
    """Return 1 where x < y, else 0: with a uniform x in [0, 1) an event of probability y."""
    return cast("Reals", 1.0 * (x < y))


def either(condition: Reals, yes: Reals, no: Reals) -> Reals:
    """Return `yes` where the condition is 1 and `no` where it is 0."""
    return condition * yes + (1.0 - condition) * no


def sum_rows(rows: Floats) -> Floats:
    """Return the sum over the first axis, added in an order that hangs on its length alone.

    numpy adds the rows of a wide array one by one and those of a narrow one in blocks, so its own
    sum rounds differently for one user than for many.

    Args:
        rows: shape (m, n), m >= 1.

    Returns:
        Shape (n,).

    >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).tolist()
    [9.0, 12.0]
    """
    while len(rows) > 1:
        half = (len(rows) + 1) // 2
        added = rows[:half].copy()
        added[: len(rows) - half] += rows[half:]
        rows = added
    return np.asarray(rows[0])


def normal_tail(x: Floats) -> Floats:
    """Return P(Z >= x) of a standard normal Z, to 1e-7.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.2.17; numpy has no erf.

    >>> abs(float(normal_tail(np.array(1.959963985))) - 0.025) < 1e-7
    True
    """
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.2316419 * size)
    series = 1.330274429 * t
    for coefficient in (-1.821255978, 1.781477937, -0.356563782, 0.319381530):
        series += coefficient
        series *= t
    upper = np.exp(-0.5 * size * size) * (_INVERSE_ROOT_TAU * series)
    return np.where(x < 0.0, 1.0 - upper, upper)
