"""What must be added to an upload's match so that its debt is paid in time: its price.

Its schedule is "paid >= elapsed" until its aim, which is before it is due: chance makes half of
the debts later than their aim. How far it is behind is the dual variable of that, the integral of
1 / aim - rate of payment / owed, so it costs no state. Its price is that by the part of the time
that is left: by how much it must be paid faster than others that are new. What few people like
gets its turn by it before its time is up, and among the late the earliest comes first. So that too
many of them let nobody wait with nothing, a first part is due earlier, by a price of its own; it is
so little that it never counts but then.

Rejected: a bound on the price (who is as late as everybody would be served by match alone), and a
price that is not by the time left (what suits nobody waits until its lateness is worth all that it
lacks in match: a third of the time).
"""

TEST_PRICE = -2.0
"""Of what only its test is owed to: whatever is in debt goes before it, however little it suits."""
_FIRST_OWED, _FIRST_TIME = 0.1, 0.5
"""Part of the debt that is to be paid first, and of the time until the aim in which."""
_LEAST_LEFT = 0.25
"""Of the time until the aim: what is later is as urgent."""


def price_of(elapsed: float, paid: float) -> float:
    """Return the price of a debt, at least 0.

    Args:
        elapsed: part of the time until its aim.
        paid: part of the debt.

    >>> price_of(0.5, 0.5), price_of(0.75, 0.5), price_of(0.25, 0.0)
    (0.0, 1.0, 1.0)
    """
    first = _urgency(elapsed / _FIRST_TIME, paid / _FIRST_OWED)
    return max(_urgency(elapsed, paid), first)


def _urgency(elapsed: float, paid: float) -> float:
    """Return how far what is paid is behind what has elapsed, by what is left of the time.

    Both are parts, of what is to be paid and of the time until then; all paid is never behind.
    """
    if paid >= 1.0:
        return 0.0
    return max(elapsed - paid, 0.0) / max(1.0 - elapsed, _LEAST_LEFT)
