"""Pacing controllers that reserve a share of each market's cards for delivery guarantees.

Each market adds an integral term to the share that `env.demand` needs, the dual variable of
"delivered >= needed", since reserved slots deliver less where pages have no fitting candidate. The
sum is capped at the budget. Over-committed and under-filled markets are reported. Update rule and
rejected alternatives: `docs/decisions/delivery-guarantee.md`.
"""

import math

import msgspec

from env.demand import HOUR_MS, Demand, Needed, Place

MAX_MARKETS = 1_000
SETTLE_MS = 300_000
"""Time between two updates of the integral terms."""
ALARM_MS = 1_800_000
UNFED_MS = 3 * HOUR_MS

_RATE_HALF_LIFE_H = 12.0
_SHORT_HALF_LIFE_H = 1.0
_ETA = 0.2  # per hour
_LEAST_KNOWN_H = 1.0
"""Hours of traffic in a market before the first alarm."""
_LEAST_WATCHED_H = 0.1
_ELSEWHERE = Place("", "")
"""Market of users without a known place, and of all places beyond the first `MAX_MARKETS`."""


class Market(msgspec.Struct, array_like=True):
    """Pacing controller of one market: its recent impressions, decayed to `at_ms`."""

    at_ms: int
    shown: float = 0.0  # impressions with a half-life of `_RATE_HALF_LIFE_H`
    watched_h: float = 0.0  # hours in which they came, with the same decay
    recent: float = 0.0  # impressions with a half-life of `_SHORT_HALF_LIFE_H`
    paying: float = 0.0  # those of `recent` that reduced a shortfall
    dual: float = 0.0  # the integral term, in [0, budget]
    over_ms: int = 0  # start of the market's over-commitment; 0 for none
    unfed_ms: int = 0  # start of late deliveries whose slots are under-filled; 0 for none

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
        """Return the share of recent impressions that reduced a shortfall."""
        return self.paying / max(self.recent, 1.0)

    def share(self, needed: Needed, budget: float) -> float:
        """Return the share of the cards to reserve."""
        return min(needed.share + self.dual, budget) if needed.share > 0.0 else 0.0

    def settle(self, needed: Needed, budget: float, hours: float) -> None:
        """Update the integral term by the share needed but not delivered, and the alarms."""
        missing = needed.share - self.delivered()
        self.dual = min(max(self.dual + _ETA * hours * missing, 0.0), budget)
        is_over = needed.even > budget and self.watched_h >= _LEAST_KNOWN_H
        self.over_ms = (self.over_ms or self.at_ms) if is_over else 0
        is_unfed = needed.late and 2.0 * self.delivered() < self.share(needed, budget)
        self.unfed_ms = (self.unfed_ms or self.at_ms) if is_unfed else 0


class Payments(msgspec.Struct, array_like=True, tag="payments/2"):
    """The pacing controllers of all markets."""

    settled_ms: int = 0  # last update of the integral terms
    markets: dict[Place, Market] = {}

    def show(self, place: Place, now_ms: int, *, paying: bool) -> None:
        """Count a user's impression; places beyond the first `MAX_MARKETS` share one market."""
        market = self.markets.get(place)
        if market is None:
            place = place if len(self.markets) < MAX_MARKETS else _ELSEWHERE
            market = self.markets.setdefault(place, Market(now_ms))
        market.age(now_ms)
        market.shown += 1.0
        market.recent += 1.0
        market.paying += paying

    def settle(self, demand: Demand, budget: float, now_ms: int) -> None:
        """Update the integral terms by the share needed but not delivered since the last time."""
        hours = min((now_ms - self.settled_ms) / HOUR_MS, 1.0)
        self.settled_ms = now_ms
        for place, market in self.markets.items():
            market.age(now_ms)
            market.settle(demand.at(place), budget, hours)

    def rates(self, now_ms: int) -> dict[Place, float]:
        """Return impressions an hour by market; `now_ms` is not before any last impression."""
        return {place: _aged(market, now_ms).rate() for place, market in self.markets.items()}

    def share(self, place: Place, needed: Needed, budget: float) -> float:
        """Return the share of a market's cards to reserve."""
        return self.markets.get(place, Market(0)).share(needed, budget)

    def overdrawn(self, now_ms: int) -> list[Place]:
        """Return the markets that have been over-committed for `ALARM_MS`."""
        return [p for p, m in self.markets.items() if m.over_ms and now_ms - m.over_ms >= ALARM_MS]

    def unreachable(self, now_ms: int) -> list[Place]:
        """Return the markets that have been under-filled for `UNFED_MS`."""
        markets = self.markets.items()
        return [p for p, m in markets if m.unfed_ms and now_ms - m.unfed_ms >= UNFED_MS]

    def forget(self) -> None:
        """Forget all traffic, as after a silence."""
        self.markets.clear()


def _aged(market: Market, now_ms: int) -> Market:
    aged = msgspec.structs.replace(market)
    aged.age(now_ms)
    return aged
