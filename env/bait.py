"""How much an item baits: appeal that is paid for with satisfaction. Assumed, as no log knows it.

    bait = s(-.8 + .5 e + .8 n)

with e the item's effect in standard deviations and n standard normal, so what attracts baits a
little more often, and whoever serves by clicks alone serves more of it.
"""

from env.reals import Reals, logistic

BAIT_IN_UTILITY = 0.5
MEAN_BAIT = 0.34
"""Of the distribution above: the part of an item's effect that is bait is measured from here."""


def bait_of(effect_sds: Reals, normal: Reals) -> Reals:
    """Return bait in (0, 1).

    Args:
        effect_sds: the item's effect in standard deviations between items.
        normal: a standard normal number of the same shape.
    """
    return logistic(-0.8 + 0.5 * effect_sds + 0.8 * normal)


def quality_of(effect: Reals, bait: Reals) -> Reals:
    """Return what of an item's effect is quality: u = ... + q + .5 c, so q = effect - .5 c.

    >>> quality_of(0.5, MEAN_BAIT)
    0.5
    """
    return effect - BAIT_IN_UTILITY * (bait - MEAN_BAIT)
