"""Calibration parameters: constants of a world, each with the log statistic that identifies it.

Each statistic is on a scale on which it answers its constant about one to one, so `env.calibration`
can move the constant by the statistic's error. The table of pairs is in
`docs/decisions/world-calibration.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from msgspec.structs import replace

from env.answers import Rates
from env.gaps import Gaps, fit_gaps
from env.moments import GAP_DAYS, Moments
from env.moods import Moods
from env.presets import Preset

LEAST_RATE = 1e-6
LEAST_APART = 0.5
"""Difference of log-odds below which two classes of return are one."""
LEAST_WEIGHT = 0.1
"""Share of the gaps below which a class of return cannot be told from the other."""
SKIPS = slice(4, 35)
"""Quantiles .05 to .35 of ln watch time, nearly all of them skips."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A constant, the statistic that identifies it, and a guess of its response."""

    statistic: Callable[[Moments], float]  # on the scale of `move`
    move: Callable[[Preset, float], Preset]  # moves the constant by a distance
    gain: float = 0.8  # distance to move per unit of the statistic's error


def watching() -> list[Knob]:
    """Return the parameters of engagement and watch time."""
    return [
        Knob(lambda m: _logit(m.rates["valid_play"]), _intercept, 1.1),
        Knob(lambda m: _logit(m.joint["long_view|valid_play"]), _add("watch_mu"), 0.4),
        Knob(lambda m: _log(m.watch_mean_s), _scale("watch_sd"), 0.5),
        Knob(lambda m: float(np.mean(m.log_watch[SKIPS])), _add("skip_mu"), 0.8),
        Knob(lambda m: _log(float(np.ptp(m.log_watch[SKIPS]))), _scale("skip_sd"), 0.5),
        Knob(lambda m: _logit(m.watch_zero), _shift("zero"), 1.0),
    ]


def events() -> list[Knob]:
    """Return the parameters of the rare events.

    The statistic is P(event), not P(event | valid play), since users who engage for less than 7 s
    react too.
    """
    of_signal = [
        Knob(lambda m: _log(m.rates["like"]), _add("like")),
        Knob(lambda m: _log(m.rates["comment"]), _shift("comment")),
        Knob(lambda m: _log(m.rates["share"]), _shift("share")),
        Knob(lambda m: _log(m.rates["follow"]), _shift("follow")),
        Knob(lambda m: _log(m.rates["not_interested"]), _shift("not_interested"), 1.0),
        Knob(lambda m: _log(m.joint.get("follow|like", 0.0)), _shift("follow_liked")),
    ]
    return of_signal + [
        Knob(_log_without(signal), _shift(f"{signal}_skipped"))
        for signal in ("like", "comment", "share", "follow")
    ]


def visits(target: Moments) -> list[Knob]:
    """Return the parameters of exits and returns.

    If one class explains the target's gaps, only their mean is used, and both classes move alike.
    """
    leaving = Knob(lambda m: _logit(1.0 / m.session_cards), _exit, 1.0)
    if not _is_mixed(target):
        return [leaving, Knob(lambda m: _logit(1.0 / _mean_gap(m)), _both_classes)]
    return [
        leaving,
        Knob(lambda m: _logit(_classes(m)[0]), _return_class(0)),
        Knob(lambda m: _logit(_classes(m)[1]), _return_class(1)),
        Knob(lambda m: _logit(_classes(m)[2]), _daily),
    ]


def _classes(moments: Moments) -> tuple[float, float, float]:
    """Return the two chances of return fitted to the gaps, and the first one's weight."""
    return _fit_classes(moments.gaps[:GAP_DAYS])


@lru_cache(maxsize=8)
def _fit_classes(gaps: tuple[int, ...]) -> tuple[float, float, float]:
    """Cache the last fits, since three statistics are read off each."""
    mixture = fit_gaps(Gaps.of_counts(gaps))
    first, second = mixture.chance.tolist()
    return first, second, float(mixture.weight[0])


def _is_mixed(moments: Moments) -> bool:
    first, second, weight = _classes(moments)
    return (
        _logit(first) - _logit(second) > LEAST_APART and LEAST_WEIGHT < weight < 1.0 - LEAST_WEIGHT
    )


def _mean_gap(moments: Moments) -> float:
    counts = np.array(moments.gaps[:GAP_DAYS])
    return float(counts @ np.arange(1, len(counts) + 1) / max(counts.sum(), 1))


def _log_without(signal: str) -> Callable[[Moments], float]:
    return lambda moments: _log(moments.without(signal))


def _intercept(preset: Preset, distance: float) -> Preset:
    return replace(preset, intercept=preset.intercept + distance)


def _add(name: str) -> Callable[[Preset, float], Preset]:
    return _of_rates(name, lambda value, distance: value + distance)


def _scale(name: str) -> Callable[[Preset, float], Preset]:
    return _of_rates(name, lambda value, distance: value * float(np.exp(distance)))


def _shift(name: str) -> Callable[[Preset, float], Preset]:
    return _of_rates(name, _shifted)


def _of_rates(
    name: str, change: Callable[[float, float], float]
) -> Callable[[Preset, float], Preset]:
    def move(preset: Preset, distance: float) -> Preset:
        moved: dict[str, float] = {name: change(getattr(preset.rates, name), distance)}
        rates: Rates = replace(preset.rates, **moved)
        return replace(preset, rates=rates)

    return move


def _exit(preset: Preset, distance: float) -> Preset:
    return replace(preset, moods=replace(preset.moods, exit=preset.moods.exit + distance))


def _return_class(place: int) -> Callable[[Preset, float], Preset]:
    def move(preset: Preset, distance: float) -> Preset:
        classes = list(preset.moods.return_classes)
        classes[place] = _shifted(classes[place], distance)
        return replace(preset, moods=_with_classes(preset.moods, classes))

    return move


def _both_classes(preset: Preset, distance: float) -> Preset:
    return _return_class(1)(_return_class(0)(preset, distance), distance)


def _with_classes(moods: Moods, classes: list[float]) -> Moods:
    daily, other = classes
    return replace(moods, return_classes=(daily, other))


def _daily(preset: Preset, distance: float) -> Preset:
    cohorts = {
        name: replace(cohort, daily_share=_shifted(cohort.daily_share, distance))
        for name, cohort in preset.population.cohorts.items()
    }
    population = replace(preset.population, cohorts=cohorts)
    moods = replace(preset.moods, daily_share=population.daily_share())
    return replace(preset, population=population, moods=moods)


def _shifted(p: float, distance: float) -> float:
    return float(1.0 / (1.0 + np.exp(-_logit(p) - distance)))


def _logit(p: float) -> float:
    p = min(max(p, LEAST_RATE), 1.0 - LEAST_RATE)
    return float(np.log(p / (1.0 - p)))


def _log(p: float) -> float:
    return float(np.log(max(p, LEAST_RATE)))
