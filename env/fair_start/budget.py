"""The share of each market's cards to reserve for the delivery guarantees of uploads.

`Demand` sums the shortfalls of uploads by the users who can be shown them and yields the share that
is needed. A pacing controller for each market corrects it for deliveries that fell short, capped at
the budget, and over-committed and under-filled markets are reported. Formulas, the bound for
deadlines and rejected alternatives: `docs/decisions/delivery-guarantee.md`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from env.fair_start.trial import UploadTrial
from env.vocabulary import Floats

HOUR_MS = 3_600_000
_LEAST_LEFT = 1.0 / 24.0
"""Fraction of the time allowed; what is due sooner is spread over that much time."""

_CHANCE = 2.0
"""Standard deviations of a Poisson count of the shortfall, reserved on top of it."""

_HORIZONS = np.linspace(0.25, 1.0, 7)
"""Fractions of the time allowed at which the deliveries due until then are checked."""

_TEST_TIME = 0.5
"""Fraction of the time allowed for which two thirds of the test impressions are reserved."""

_UNKNOWN_RATE = 1.0
"""Impressions an hour assumed where no eligible user has come yet."""

_NOW, _LATE, _DUE = 0, 1, 2
_NOTHING = np.zeros(_DUE + len(_HORIZONS))


class MarketKey(NamedTuple):
    """A country and a language, of users or of uploads; empty where unknown."""

    country: str
    language: str

    def __str__(self) -> str:
        """Return it as text.

        >>> str(MarketKey("MY", "en")), str(MarketKey("MY", ""))
        ('MY/en', 'MY')
        """
        return f"{self.country}/{self.language}" if self.language else self.country


class Needed(NamedTuple):
    """The shares of one market's cards that its delivery guarantees need."""

    share: float  # to reserve now
    even: float  # the least constant share that delivers everything in time
    late: bool  # whether any delivery is past its deadline


@dataclass(frozen=True, slots=True)
class Demand:
    """Shortfalls at one moment, grouped by eligible users, an hour and per impression of theirs.

    Attributes:
        anywhere: shortfalls that every user can reduce.
        at_home: by country, those that every user of it can reduce.
        spoken: by country and language, those that need users of that language.
    """

    anywhere: Floats
    at_home: Mapping[str, Floats]
    spoken: Mapping[str, Mapping[str, Floats]]

    @classmethod
    def of(
        cls,
        owing: Iterable[UploadTrial],
        rates: Mapping[MarketKey, float],
        within_ms: int,
        now_ms: int,
    ) -> "Demand":
        """Sum the shortfalls of uploads.

        Args:
            owing: uploads with a shortfall, in a fixed order so that sums are reproducible.
            rates: impressions an hour, above 0, by the users' place.
            within_ms: the time allowed for a delivery, milliseconds.
            now_ms: the clock.
        """
        debts: dict[MarketKey, Floats] = {}
        for trial in owing:
            place = MarketKey(trial.country, "" if trial.level else trial.language)
            sums = debts.setdefault(place if trial.country else MarketKey("", ""), _NOTHING.copy())
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

    def at(self, place: MarketKey) -> Needed:
        """Return the shares needed of the users of a place."""
        spoken = self.spoken.get(place.country, {})
        sums = self.anywhere + self.at_home.get(place.country, _NOTHING)
        if place.language:
            sums = sums + spoken.get(place.language, _NOTHING)
        else:
            sums = sum(spoken.values(), sums)
        return Needed(float(sums[_NOW]), float(sums[_DUE:].max()), bool(sums[_LATE] > 0.0))


def _add(sums: Floats, trial: UploadTrial, within_ms: int, now_ms: int) -> None:
    """Add an upload's shortfall: late ones are due soon, very late ones count as new.

    Reserved slots cannot deliver an upload that is late by more than the time allowed. Its price
    gets it shown to any eligible user, and it must not hold the market's slots meanwhile.
    """
    debt, late_ms = trial.debt, now_ms - trial.due_ms
    left_ms = trial.aim_ms - now_ms if late_ms <= 0 else late_ms
    asked = debt + _CHANCE * math.sqrt(debt)
    sums[_NOW] += asked * HOUR_MS / min(max(left_ms, _LEAST_LEFT * within_ms), within_ms)
    sums[_NOW] += trial.test(now_ms) * HOUR_MS / (_TEST_TIME * within_ms)
    sums[_LATE] += debt * (late_ms > 0)
    horizon = int(np.searchsorted(_HORIZONS, abs(late_ms) / within_ms))
    sums[_DUE + min(horizon, len(_HORIZONS) - 1)] += debt


def _rate(place: MarketKey, rates: Mapping[MarketKey, float]) -> float:
    """Return the impressions an hour of the users eligible for a place's uploads, above 0."""
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
"""Time between two updates of the integral terms."""

ALARM_MS = 1_800_000
UNFED_MS = 3 * HOUR_MS
_RATE_HALF_LIFE_H = 12.0
_SHORT_HALF_LIFE_H = 1.0
_ETA = 0.2  # per hour
_LEAST_KNOWN_H = 1.0
"""Hours of traffic in a market before the first alarm."""

_LEAST_WATCHED_H = 0.1
_ELSEWHERE = MarketKey("", "")
"""Market of users without a known place, and of all places beyond the first `MAX_MARKETS`."""


class MarketPacing(msgspec.Struct, array_like=True):
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


class PacingController(msgspec.Struct, array_like=True, tag="payments/2"):
    """The pacing controllers of all markets."""

    settled_ms: int = 0  # last update of the integral terms
    markets: dict[MarketKey, MarketPacing] = {}

    def show(self, place: MarketKey, now_ms: int, *, paying: bool) -> None:
        """Count a user's impression; places beyond the first `MAX_MARKETS` share one market."""
        market = self.markets.get(place)
        if market is None:
            place = place if len(self.markets) < MAX_MARKETS else _ELSEWHERE
            market = self.markets.setdefault(place, MarketPacing(now_ms))
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

    def rates(self, now_ms: int) -> dict[MarketKey, float]:
        """Return impressions an hour by market; `now_ms` is not before any last impression."""
        return {place: _aged(market, now_ms).rate() for place, market in self.markets.items()}

    def share(self, place: MarketKey, needed: Needed, budget: float) -> float:
        """Return the share of a market's cards to reserve."""
        return self.markets.get(place, MarketPacing(0)).share(needed, budget)

    def overdrawn(self, now_ms: int) -> list[MarketKey]:
        """Return the markets that have been over-committed for `ALARM_MS`."""
        return [p for p, m in self.markets.items() if m.over_ms and now_ms - m.over_ms >= ALARM_MS]

    def unreachable(self, now_ms: int) -> list[MarketKey]:
        """Return the markets that have been under-filled for `UNFED_MS`."""
        markets = self.markets.items()
        return [p for p, m in markets if m.unfed_ms and now_ms - m.unfed_ms >= UNFED_MS]

    def forget(self) -> None:
        """Forget all traffic, as after a silence."""
        self.markets.clear()


def _aged(market: MarketPacing, now_ms: int) -> MarketPacing:
    aged = msgspec.structs.replace(market)
    aged.age(now_ms)
    return aged
