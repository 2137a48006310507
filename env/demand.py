"""The share of each market's cards that the delivery guarantees of uploads need.

`Demand` sums the shortfalls of uploads by the users who can be shown them (home country and
language) and divides by the rate of impressions. It yields the share to reserve now, and the least
constant share that delivers everything in time, which tells whether the guarantee can be kept.
Formulas, the bound for deadlines and rejected alternatives: `docs/decisions/delivery-guarantee.md`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from env.trials import Trial
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


class Place(NamedTuple):
    """A country and a language, of users or of uploads; empty where unknown."""

    country: str
    language: str

    def __str__(self) -> str:
        """Return it as text.

        >>> str(Place("MY", "en")), str(Place("MY", ""))
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
        cls, owing: Iterable[Trial], rates: Mapping[Place, float], within_ms: int, now_ms: int
    ) -> "Demand":
        """Sum the shortfalls of uploads.

        Args:
            owing: uploads with a shortfall, in a fixed order so that sums are reproducible.
            rates: impressions an hour, above 0, by the users' place.
            within_ms: the time allowed for a delivery, milliseconds.
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
        """Return the shares needed of the users of a place."""
        spoken = self.spoken.get(place.country, {})
        sums = self.anywhere + self.at_home.get(place.country, _NOTHING)
        if place.language:
            sums = sums + spoken.get(place.language, _NOTHING)
        else:
            sums = sum(spoken.values(), sums)
        return Needed(float(sums[_NOW]), float(sums[_DUE:].max()), bool(sums[_LATE] > 0.0))


def _add(sums: Floats, trial: Trial, within_ms: int, now_ms: int) -> None:
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


def _rate(place: Place, rates: Mapping[Place, float]) -> float:
    """Return the impressions an hour of the users eligible for a place's uploads, above 0."""
    can_pay = (
        rate
        for viewers, rate in rates.items()
        if not place.country
        or (
            viewers.country == place.country
            and (not place.language or viewers.language in ("", place.language))
        )
    )
    return sum(can_pay) or _UNKNOWN_RATE
