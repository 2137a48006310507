"""What debts ask of traffic: which part of the cards of each kind of viewer it takes to pay them.

An upload is owed its impressions by the users of its home who speak its language (whoever's
language is unknown may be one of them; one whose own is unknown is for all of them), an upload
that has left its first pool by everybody at home, one without a home by all. So debts are summed
by home and language, and each sum is spread evenly over the impressions that can pay it.

Two shares come of it. One is what to reserve now: each debt, and a little more for chance, over the
time that it has left until its aim. Slots are drawn, and not each of them is seen, so without that
the last few impressions of an upload that is alone in its market hang on luck. The other judges
whether the promise can be kept: the least constant share that pays all in time, if the earliest
deadlines come first,

    max over t of (debts due within t) / (t * impressions an hour)

(the demand bound of earliest deadline first: Baruah, Rosier and Howell, "Algorithms and complexity
concerning the preemptive scheduling of periodic, real-time tasks on one processor", Real-Time
Systems 1990), with t not below a quarter of the time allowed, so that a few impressions which are
about due are no emergency. What tests owe is in the first share only, and within the same budget:
it has no deadline, so it can be neither late nor an alarm, and debts are served first.

Rejected: markets by country (where two languages are spoken half of what is reserved finds no
upload that it may show), and an alarm by what catching up would need (a tail of the late is one).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from env.fair_start.trial import Trial
from env.vocabulary import Floats

HOUR_MS = 3_600_000

_LEAST_LEFT = 1.0 / 24.0
"""Of the time allowed: what is about due is to be paid within that."""

_CHANCE = 2.0
"""Standard deviations of a Poisson count, the debt, by which more is reserved than it is."""

_HORIZONS = np.linspace(0.25, 1.0, 7)
"""Of the time allowed, at which it is asked whether what is due until then can be paid."""

_TEST_TIME = 0.5
"""Of the time allowed, in which two thirds of what tests owe are reserved for."""

_UNKNOWN_RATE = 1.0
"""Impressions an hour where nobody came yet who could pay."""

_NOW, _LATE, _DUE = 0, 1, 2

_NOTHING = np.zeros(_DUE + len(_HORIZONS))


class Place(NamedTuple):
    """A country and a language, of viewers or of uploads; empty where unknown."""

    country: str
    language: str

    def __str__(self) -> str:
        """Return it as text.

        >>> str(Place("MY", "en")), str(Place("MY", ""))
        ('MY/en', 'MY')
        """
        return f"{self.country}/{self.language}" if self.language else self.country


class Needed(NamedTuple):
    """What the debts that a kind of viewer can pay ask of their cards.

    Attributes:
        share: to reserve now.
        even: the least constant share that pays all in time.
        late: whether the time of some is over.
    """

    share: float
    even: float
    late: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """Debts of one moment by who can pay them, an hour and by impression of theirs.

    Attributes:
        anywhere: of debts that everybody can pay.
        at_home: of those that everybody in a country can pay.
        spoken: of those that need a language, by country and language.
    """

    anywhere: Floats
    at_home: Mapping[str, Floats]
    spoken: Mapping[str, Mapping[str, Floats]]

    @classmethod
    def of(
        cls, owing: Iterable[Trial], rates: Mapping[Place, float], within_ms: int, now_ms: int
    ) -> "Demand":
        """Sum up.

        Args:
            owing: uploads that are owed impressions, in the same order whenever it matters.
            rates: impressions an hour, above 0, by the viewers' place.
            within_ms: the time that a debt may take, milliseconds.
            now_ms: the clock.
        """
        debts: dict[Place, Floats] = {}
        for trial in owing:
            place = Place(trial.country, "" if trial.level else trial.language)
            sums = debts.setdefault(place if trial.country else Place("", ""), _NOTHING.copy())
            _add(sums, trial, within_ms, now_ms)
        anywhere, at_home, spoken = _NOTHING, dict[str, Floats](), dict[str, dict[str, Floats]]()
        for place, owed in debts.items():
            owed[_DUE:] = np.cumsum(owed[_DUE:]) / (_HORIZONS * within_ms / HOUR_MS)
            sums = owed / _rate(place, rates)
            if not place.country:
                anywhere = sums
            elif not place.language:
                at_home[place.country] = sums
            else:
                spoken.setdefault(place.country, {})[place.language] = sums
        return cls(anywhere, at_home, spoken)

    def at(self, place: Place) -> Needed:
        """Return what is needed of the viewers of a place."""
        spoken = self.spoken.get(place.country, {})
        sums = self.anywhere + self.at_home.get(place.country, _NOTHING)
        if place.language:
            sums = sums + spoken.get(place.language, _NOTHING)
        else:
            sums = sum(spoken.values(), sums)
        return Needed(float(sums[_NOW]), float(sums[_DUE:].max()), bool(sums[_LATE] > 0.0))


def _add(sums: Floats, trial: Trial, within_ms: int, now_ms: int) -> None:
    """Add a debt: a late one to be paid soon, a very late one as if it were new.

    What is late by all the time that it had cannot be delivered by slots; at its price it will be
    paid by whoever can be shown it, and must not hold the market's slots meanwhile.
    """
    debt, late_ms = trial.debt, now_ms - trial.due_ms
    left_ms = trial.aim_ms - now_ms if late_ms <= 0 else late_ms
    asked = debt + _CHANCE * math.sqrt(debt)
    sums[_NOW] += asked * HOUR_MS / min(max(left_ms, _LEAST_LEFT * within_ms), within_ms)
    sums[_NOW] += trial.test(now_ms) * HOUR_MS / (_TEST_TIME * within_ms)
    sums[_LATE] += debt * (late_ms > 0)
    horizon = int(np.searchsorted(_HORIZONS, abs(late_ms) / within_ms))
    sums[_DUE + min(horizon, len(_HORIZONS) - 1)] += debt


def _rate(place: Place, rates: Mapping[Place, float]) -> float:
    """Return the impressions an hour of those who can pay debts of a place, above 0."""
    can_pay = (
        rate
        for users, rate in rates.items()
        if not place.country
        or (
            users.country == place.country
            and (not place.language or users.language in ("", place.language))
        )
    )
    return sum(can_pay) or _UNKNOWN_RATE


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
