"""The bait of a simulated item: appeal that costs satisfaction. Assumed, as no log records it.

    bait = s(-.8 + .5 e + .8 n)

s is the logistic function, e the item's effect in standard deviations, n standard normal.
Attractive items bait a little more often, so a feed that serves by clicks alone serves more bait.
"""

from env.reals import Reals, logistic

BAIT_IN_UTILITY = 0.5
MEAN_BAIT = 0.34
"""Mean of the distribution above; bait enters an item's utility as the difference from it."""


def bait_of(effect_sds: Reals, normal: Reals) -> Reals:
    """Return bait in (0, 1), from effects in standard deviations and standard normal numbers."""
    return logistic(-0.8 + 0.5 * effect_sds + 0.8 * normal)


def quality_of(effect: Reals, bait: Reals) -> Reals:
    """Return the quality in an item's effect: u = ... + q + .5 c, so q = effect - .5 c.

    >>> quality_of(0.5, MEAN_BAIT)
    0.5
    """
    return effect - BAIT_IN_UTILITY * (bait - MEAN_BAIT)
