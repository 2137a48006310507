"""How much of each market's cards to reserve so that uploads have their audience in time.

Market by market, the needed share is a feed-forward term: what its uploads are owed, each over the
time it has left, by the rate of impressions there. Reserved slots deliver less than they should
where pages have no fitting candidate, so an integral term makes up for it, the dual variable of
the constraint "delivered >= needed":

    lambda <- clip(lambda + eta * (needed - delivered) * dt, 0, budget)

(dual ascent, as for budgets of auctions in Balseiro and Gur, "Learning in Repeated Auctions with
Budgets", Management Science 2019, section 3; the clipping keeps what nobody can be shown from
winding it up). The share is their sum, at most the budget. The price of one upload is the same
dual of its own schedule, "paid >= elapsed": the integral of 1 / T - rate of payment / G, which is
elapsed / T - paid / G, so it costs no state. Under overload those with the earliest deadline have
the highest price, without a bound, and nothing starves.

Debts of uploads without a home are spread over all markets by their traffic.

Rejected: what was delivered so far as the whole of the feedback (reserves nothing until something
is late), and a bound on the price (who is as late as everybody would be served by match alone).
"""

import math
from collections.abc import Iterable, Mapping

import msgspec

from env.trials import Trial

HOUR_MS = 3_600_000
MAX_MARKETS = 300
SETTLE_MS = 300_000
"""Between two moves of the integral terms."""

_RATE_HALF_LIFE_H = 12.0
_SHORT_HALF_LIFE_H = 1.0
_ETA = 0.2  # per hour
_AIM = 0.8
"""Part of the time allowed in which to pay: chance makes half of the debts later than their aim."""
_LEAST_LEFT = 1.0 / 8.0
"""Of the time allowed: what is about due is to be paid within that."""
_LEAST_KNOWN_H = 1.0
"""Before a market was watched for that long there is no alarm."""
_LEAST_WATCHED_H = 0.1
_UNKNOWN_RATE = 1.0
"""Impressions an hour in a country from which nobody came yet."""


class Market(msgspec.Struct, array_like=True):
    """Recent impressions in one country, decayed to `at_ms`.

    Attributes:
        shown: impressions with a half-life of `_RATE_HALF_LIFE_H`.
        watched_h: hours that they come from, with the same decay.
        recent: impressions with a half-life of `_SHORT_HALF_LIFE_H`.
        paying: those of them that paid a debt.
        dual: the integral term, in [0, budget].
    """

    at_ms: int
    shown: float = 0.0
    watched_h: float = 0.0
    recent: float = 0.0
    paying: float = 0.0
    dual: float = 0.0

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


class Payments(msgspec.Struct, array_like=True, tag="payments/1"):
    """The controllers of all markets.

    Attributes:
        settled_ms: when the integral terms moved last.
    """

    settled_ms: int = 0
    markets: dict[str, Market] = {}

    def show(self, country: str, now_ms: int, *, paying: bool) -> None:
        """Count an impression in a country; the `MAX_MARKETS` first ones are told apart."""
        market = self.markets.get(country)
        if market is None:
            country = country if len(self.markets) < MAX_MARKETS else ""
            market = self.markets.setdefault(country, Market(now_ms))
        market.age(now_ms)
        market.shown += 1.0
        market.recent += 1.0
        market.paying += paying

    def settle(self, needed: Mapping[str, float], budget: float, now_ms: int) -> None:
        """Move the integral terms by what was needed and not delivered since the last time."""
        hours = min((now_ms - self.settled_ms) / HOUR_MS, 1.0)
        self.settled_ms = now_ms
        for country, market in self.markets.items():
            market.age(now_ms)
            missing = needed.get(country, 0.0) - market.delivered()
            market.dual = min(max(market.dual + _ETA * hours * missing, 0.0), budget)

    def needed(self, owing: Iterable[Trial], within_ms: float, now_ms: int) -> dict[str, float]:
        """Return the share that debts ask for, by country; "" stands for all that are not in it.

        Args:
            owing: uploads that are owed impressions.
            within_ms: the time that a debt may take, milliseconds.
            now_ms: not before any market's last impression.
        """
        owed_an_hour: dict[str, float] = {}
        for trial in owing:
            aim_ms = trial.due_ms - (1.0 - _AIM) * within_ms
            demand = trial.debt / _hours_left(aim_ms - now_ms, within_ms)
            owed_an_hour[trial.country] = owed_an_hour.get(trial.country, 0.0) + demand
        homeless = owed_an_hour.pop("", 0.0)
        rates = {country: self._rate(country, now_ms) for country in self.markets}
        anywhere = homeless / max(sum(rates.values()), 1.0) if homeless else 0.0
        return {
            country: owed_an_hour.get(country, 0.0) / rates.get(country, _UNKNOWN_RATE) + anywhere
            for country in {**rates, **owed_an_hour, "": 0.0}
        }

    def share(self, country: str, needed: float, budget: float) -> float:
        """Return the part of a country's cards to reserve."""
        if needed <= 0.0:
            return 0.0
        market = self.markets.get(country)
        return min(needed + (market.dual if market else 0.0), budget)

    def is_known(self, country: str) -> bool:
        """Return whether a country was watched for long enough to tell its rate."""
        market = self.markets.get(country)
        return market is not None and market.watched_h >= _LEAST_KNOWN_H

    def forget(self) -> None:
        """Forget all traffic, as after a silence."""
        self.markets.clear()

    def _rate(self, country: str, now_ms: int) -> float:
        aged = msgspec.structs.replace(self.markets[country])
        aged.age(now_ms)
        return aged.rate()


def _hours_left(left_ms: float, within_ms: float) -> float:
    """Return over how long to pay a debt: a late one soon, a very late one as if it were new.

    What is late by all the time that it had cannot be delivered by slots; at its price it will be
    paid by whoever can be shown it, and must not hold the market's slots meanwhile.
    """
    least = _LEAST_LEFT * within_ms
    hours = left_ms if left_ms > 0.0 else min(-left_ms, within_ms)
    return max(hours, least) / HOUR_MS
