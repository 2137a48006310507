"""The shadow price of an upload: the bonus on its match that gets its shortfall delivered in time.

The price measures how far deliveries are behind an even schedule, relative to the time left. It
needs no state of its own and has no upper bound. Derivation, the early first part of the schedule
and rejected alternatives: `docs/decisions/delivery-guarantee.md`.
"""

TEST_PRICE = -2.0
"""Price of an upload with only test impressions left: any delivery guarantee goes first."""
_FIRST_OWED, _FIRST_TIME = 0.1, 0.5
"""Fraction of the shortfall that is due early, and the fraction of the time in which it is."""
_LEAST_LEFT = 0.25
"""Smallest fraction of the time left that still raises the price."""


def price_of(elapsed: float, paid: float) -> float:
    """Return the price of a shortfall, at least 0.

    Args:
        elapsed: fraction of the time until its target time.
        paid: fraction delivered.

    >>> price_of(0.5, 0.5), price_of(0.75, 0.5), price_of(0.25, 0.0)
    (0.0, 1.0, 1.0)
    """
    first = _urgency(elapsed / _FIRST_TIME, paid / _FIRST_OWED)
    return max(_urgency(elapsed, paid), first)


def _urgency(elapsed: float, paid: float) -> float:
    """Return how far the delivered fraction is behind the elapsed one, relative to the rest."""
    if paid >= 1.0:
        return 0.0
    return max(elapsed - paid, 0.0) / max(1.0 - elapsed, _LEAST_LEFT)
