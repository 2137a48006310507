"""How much of each market's cards to reserve so that uploads have their audience in time.

A market is the viewers of a country who speak a language. Market by market, the needed share is a
feed-forward term: what the uploads that these people may be shown are owed, each over the time it
has left (`env.demand`), by the rate of impressions. Reserved slots deliver less than they should
where pages have no fitting candidate, so an integral term makes up for it, the dual variable of
the constraint "delivered >= needed":

    lambda <- clip(lambda + eta * (needed - delivered) * dt, 0, budget)

(dual ascent, as for budgets of auctions in Balseiro and Gur, "Learning in Repeated Auctions with
Budgets", Management Science 2019, section 3; the clipping keeps what nobody can be shown from
winding it up). The share is their sum, at most the budget. The price of one upload is the same
dual of its own schedule, see `env.trials`.

Two things it cannot mend are said instead. A market is overdrawn where what is needed on an even
schedule has been more than the budget for `ALARM_MS`; and debts are unreachable where they are
late, and for `UNFED_MS` not even half of what was reserved for them found an upload to show: as
where a home has fewer people than an upload is owed impressions, and nobody is shown it twice.

Rejected: what was delivered so far as the whole of the feedback (reserves nothing until something
is late), and markets by country (see `env.demand`).
"""

import math

import msgspec

from env.demand import HOUR_MS, Demand, Needed, Place

MAX_MARKETS = 1_000
SETTLE_MS = 300_000
"""Between two moves of the integral terms."""
ALARM_MS = 1_800_000
UNFED_MS = 3 * HOUR_MS

_RATE_HALF_LIFE_H = 12.0
_SHORT_HALF_LIFE_H = 1.0
_ETA = 0.2  # per hour
_LEAST_KNOWN_H = 1.0
"""Before a market was watched for that long there is no alarm."""
_LEAST_WATCHED_H = 0.1
_ELSEWHERE = Place("", "")
"""Market of viewers of whom nothing is known, and of all beyond the `MAX_MARKETS` first places."""


class Market(msgspec.Struct, array_like=True):
    """Recent impressions of one kind of viewer, decayed to `at_ms`.

    Attributes:
        shown: impressions with a half-life of `_RATE_HALF_LIFE_H`.
        watched_h: hours that they come from, with the same decay.
        recent: impressions with a half-life of `_SHORT_HALF_LIFE_H`.
        paying: those of them that paid a debt.
        dual: the integral term, in [0, budget].
        over_ms: since when more than the budget is needed; 0: it is not.
        unfed_ms: since when something is late and slots find too little to show; 0: they do find.
    """

    at_ms: int
    shown: float = 0.0
    watched_h: float = 0.0
    recent: float = 0.0
    paying: float = 0.0
    dual: float = 0.0
    over_ms: int = 0
    unfed_ms: int = 0

    def age(self, now_ms: int) -> None:
        """Decay to this time."""
        hours = (now_ms - self.at_ms) / HOUR_MS
        if hours <= 0.0:
            return
        slow, fast = math.exp2(-hours / _RATE_HALF_LIFE_H), math.exp2(-hours / _SHORT_HALF_LIFE_H)
        self.shown *= slow
        self.watched_h = self.watched_h * slow + (1.0 - slow) * _RATE_HALF_LIFE_H / math.log(2.0)
        self.recent *= fast
        self.paying *= fast
        self.at_ms = now_ms

    def rate(self) -> float:
        """Return impressions an hour, above 0."""
        return max(self.shown, 1.0) / max(self.watched_h, _LEAST_WATCHED_H)

    def delivered(self) -> float:
        """Return the part of recent impressions that paid."""
        return self.paying / max(self.recent, 1.0)

    def share(self, needed: Needed, budget: float) -> float:
        """Return the part of the cards to reserve."""
        return min(needed.share + self.dual, budget) if needed.share > 0.0 else 0.0

    def settle(self, needed: Needed, budget: float, hours: float) -> None:
        """Move the integral term by what was needed and not delivered, and watch for trouble."""
        missing = needed.share - self.delivered()
        self.dual = min(max(self.dual + _ETA * hours * missing, 0.0), budget)
        is_over = needed.even > budget and self.watched_h >= _LEAST_KNOWN_H
        self.over_ms = (self.over_ms or self.at_ms) if is_over else 0
        is_unfed = needed.late and 2.0 * self.delivered() < self.share(needed, budget)
        self.unfed_ms = (self.unfed_ms or self.at_ms) if is_unfed else 0


class Payments(msgspec.Struct, array_like=True, tag="payments/2"):
    """The controllers of all markets.

    Attributes:
        settled_ms: when the integral terms moved last.
    """

    settled_ms: int = 0
    markets: dict[Place, Market] = {}

    def show(self, place: Place, now_ms: int, *, paying: bool) -> None:
        """Count an impression of a viewer; the `MAX_MARKETS` first places are told apart."""
        market = self.markets.get(place)
        if market is None:
            place = place if len(self.markets) < MAX_MARKETS else _ELSEWHERE
            market = self.markets.setdefault(place, Market(now_ms))
        market.age(now_ms)
        market.shown += 1.0
        market.recent += 1.0
        market.paying += paying

    def settle(self, demand: Demand, budget: float, now_ms: int) -> None:
        """Move the integral terms by what was needed and not delivered since the last time."""
        hours = min((now_ms - self.settled_ms) / HOUR_MS, 1.0)
        self.settled_ms = now_ms
        for place, market in self.markets.items():
            market.age(now_ms)
            market.settle(demand.at(place), budget, hours)

    def rates(self, now_ms: int) -> dict[Place, float]:
        """Return impressions an hour by market; now is not before any market's last one."""
        return {place: _aged(market, now_ms).rate() for place, market in self.markets.items()}

    def share(self, place: Place, needed: Needed, budget: float) -> float:
        """Return the part of a market's cards to reserve."""
        return self.markets.get(place, Market(0)).share(needed, budget)

    def overdrawn(self, now_ms: int) -> list[Place]:
        """Return the markets in which more than the budget has been needed for long enough."""
        return [p for p, m in self.markets.items() if m.over_ms and now_ms - m.over_ms >= ALARM_MS]

    def unreachable(self, now_ms: int) -> list[Place]:
        """Return the markets whose slots have found too little to show for long enough."""
        markets = self.markets.items()
        return [p for p, m in markets if m.unfed_ms and now_ms - m.unfed_ms >= UNFED_MS]

    def forget(self) -> None:
        """Forget all traffic, as after a silence."""
        self.markets.clear()


def _aged(market: Market, now_ms: int) -> Market:
    aged = msgspec.structs.replace(market)
    aged.age(now_ms)
    return aged
