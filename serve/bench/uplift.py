"""Relative uplift of one half of the users over the other."""

import numpy as np

from replay.intervals import Estimate


def uplift(learned: Estimate, uniform: Estimate) -> tuple[float, float]:
    """Return the relative gain and its lower 95% bound (delta method on the log of the ratio)."""
    ratio = learned.value / uniform.value
    se = float(np.hypot(learned.se / learned.value, uniform.se / uniform.value))
    return ratio - 1.0, float(ratio * np.exp(-1.959964 * se)) - 1.0
