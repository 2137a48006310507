"""Calibration parameters: constants of a world, each with the log statistic that identifies it.

Each statistic is on a scale on which it answers its constant about one to one, so
`env.calibration.calibrate` can move the constant by the statistic's error. The table of pairs is in
`docs/decisions/world-calibration.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from msgspec.structs import replace

from env.calibration.return_gaps import GapCounts, fit_gaps
from env.vocabulary import Floats
from env.world.answers import Rates
from env.world.moments import GAP_DAYS, LogStatistics
from env.world.moods import StateDynamics
from env.world.presets import Preset

LEAST_RATE = 1e-6

LEAST_APART = 0.5
"""Difference of log-odds below which two classes of return are one."""

LEAST_WEIGHT = 0.1
"""Share of the gaps below which a class of return cannot be told from the other."""

SKIPS = slice(4, 35)
"""Quantiles .05 to .35 of ln watch time, nearly all of them skips."""


@dataclass(frozen=True, slots=True)
class CalibrationParameter:
    """A constant, the statistic that identifies it, and a guess of its response."""

    statistic: Callable[[LogStatistics], float]  # on the scale of `move`
    move: Callable[[Preset, float], Preset]  # moves the constant by a distance
    gain: float = 0.8  # distance to move per unit of the statistic's error


def watching() -> list[CalibrationParameter]:
    """Return the parameters of engagement and watch time."""
    return [
        CalibrationParameter(lambda m: _logit(m.rates["valid_play"]), _intercept, 1.1),
        CalibrationParameter(
            lambda m: _logit(m.joint["long_view|valid_play"]), _add("watch_mu"), 0.4
        ),
        CalibrationParameter(lambda m: _log(m.watch_mean_s), _scale("watch_sd"), 0.5),
        CalibrationParameter(lambda m: float(np.mean(m.log_watch[SKIPS])), _add("skip_mu"), 0.8),
        CalibrationParameter(
            lambda m: _log(float(np.ptp(m.log_watch[SKIPS]))), _scale("skip_sd"), 0.5
        ),
        CalibrationParameter(lambda m: _logit(m.watch_zero), _shift("zero"), 1.0),
    ]


def events() -> list[CalibrationParameter]:
    """Return the parameters of the rare events.

    The statistic is P(event), not P(event | valid play), since users who engage for less than 7 s
    react too.
    """
    of_signal = [
        CalibrationParameter(lambda m: _log(m.rates["like"]), _add("like")),
        CalibrationParameter(lambda m: _log(m.rates["comment"]), _shift("comment")),
        CalibrationParameter(lambda m: _log(m.rates["share"]), _shift("share")),
        CalibrationParameter(lambda m: _log(m.rates["follow"]), _shift("follow")),
        CalibrationParameter(
            lambda m: _log(m.rates["not_interested"]), _shift("not_interested"), 1.0
        ),
        CalibrationParameter(
            lambda m: _log(m.joint.get("follow|like", 0.0)), _shift("follow_liked")
        ),
    ]
    return of_signal + [
        CalibrationParameter(_log_without(signal), _shift(f"{signal}_skipped"))
        for signal in ("like", "comment", "share", "follow")
    ]


def visits(target: LogStatistics) -> list[CalibrationParameter]:
    """Return the parameters of exits and returns.

    If one class explains the target's gaps, only their mean is used, and both classes move alike.
    """
    leaving = CalibrationParameter(lambda m: _logit(1.0 / m.session_cards), _exit, 1.0)
    if not _is_mixed(target):
        return [leaving, CalibrationParameter(lambda m: _logit(1.0 / _mean_gap(m)), _both_classes)]
    return [
        leaving,
        CalibrationParameter(lambda m: _logit(_classes(m)[0]), _return_class(0)),
        CalibrationParameter(lambda m: _logit(_classes(m)[1]), _return_class(1)),
        CalibrationParameter(lambda m: _logit(_classes(m)[2]), _daily),
    ]


def _classes(moments: LogStatistics) -> tuple[float, float, float]:
    """Return the two chances of return fitted to the gaps, and the first one's weight."""
    return _fit_classes(moments.gaps[:GAP_DAYS])


@lru_cache(maxsize=8)
def _fit_classes(gaps: tuple[int, ...]) -> tuple[float, float, float]:
    """Cache the last fits, since three statistics are read off each."""
    mixture = fit_gaps(GapCounts.of_counts(gaps))
    first, second = mixture.chance.tolist()
    return first, second, float(mixture.weight[0])


def _is_mixed(moments: LogStatistics) -> bool:
    first, second, weight = _classes(moments)
    return (
        _logit(first) - _logit(second) > LEAST_APART and LEAST_WEIGHT < weight < 1.0 - LEAST_WEIGHT
    )


def _mean_gap(moments: LogStatistics) -> float:
    counts = np.array(moments.gaps[:GAP_DAYS])
    return float(counts @ np.arange(1, len(counts) + 1) / max(counts.sum(), 1))


def _log_without(signal: str) -> Callable[[LogStatistics], float]:
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


def _with_classes(moods: StateDynamics, classes: list[float]) -> StateDynamics:
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


Simulate = Callable[[Preset, int], LogStatistics]
"""Returns the statistics of the world under a preset; the number selects the simulated users."""

MOST_STEP = 1.0

MOST_AVERAGED = 6
"""Rounds with new users each, whose steps shrink."""

MOST_AVERAGED_STEP = 0.1
"""Largest step of the watch parameters in those rounds, where little is left to move."""

NOISE = 10.0
"""Divided by the root of the number of cards: the standard deviation of a statistic between sets of
simulated users, where sessions are long and few users give the cards; a third of that where they
are short."""

LEAST_REGULAR = 0.2
"""Smallest factor by which one step may change the determinant of the Jacobian."""


def calibrate(
    preset: Preset, target: LogStatistics, simulate: Simulate, n_rounds: int = 8
) -> tuple[Preset, LogStatistics]:
    """Return the preset moved to the target's statistics, and the statistics simulated under it.

    Args:
        preset: a draft.
        target: statistics that the world should show; stored as the preset's moments.
        simulate: simulates the world under the logging policy of the target's log.
        n_rounds: simulations.
    """
    preset = replace(preset, moments=target)
    together, alone = watching(), [*events(), *visits(target)]
    matrix = np.diag([knob.gain for knob in together])
    gains = np.array([knob.gain for knob in alone])
    n_averaged = min(MOST_AVERAGED, n_rounds // 2)
    found = simulate(preset, 0)
    rounds = [_Round(preset, found, _distances(together, target, found))]
    for k in range(1 - n_rounds + n_averaged, n_averaged):
        shrink, most = 1.0 / (1 + max(k, 0)), MOST_STEP if k < 0 else MOST_AVERAGED_STEP
        off = rounds[-1].off
        step = np.clip(shrink * (matrix @ off), -most, most)
        single = shrink * gains * _distances(alone, target, found)
        preset = _move(together, preset, step)
        preset = _move(alone, preset, np.clip(single, -MOST_STEP, MOST_STEP))
        found = simulate(preset, max(k + 1, 0))
        rounds.append(_Round(preset, found, _distances(together, target, found)))
        if k < 0:
            matrix = learn(matrix, step, off - rounds[-1].off, _noise(found))
    best = _last_of_the_nearest(rounds)
    return best.preset, best.found


@dataclass(frozen=True, slots=True)
class _Round:
    preset: Preset
    found: LogStatistics
    off: Floats  # (n_together,) target less found

    def farthest(self) -> float:
        return float(np.max(np.abs(self.off)))


def _last_of_the_nearest(rounds: list[_Round]) -> _Round:
    """Return the last round whose distance is within noise of the smallest.

    The smallest itself is not taken: later rounds average over more users, and the first users, who
    appear in many rounds, are fitted better than others would be.
    """
    least = min(each.farthest() for each in rounds)
    return next(
        each for each in reversed(rounds) if each.farthest() <= least + 2.0 * _noise(each.found)
    )


def _noise(found: LogStatistics) -> float:
    return NOISE / float(np.sqrt(found.n))


def _distances(
    knobs: list[CalibrationParameter], target: LogStatistics, found: LogStatistics
) -> Floats:
    return np.array([knob.statistic(target) - knob.statistic(found) for knob in knobs])


def _move(knobs: list[CalibrationParameter], preset: Preset, step: Floats) -> Preset:
    for knob, distance in zip(knobs, step.tolist(), strict=True):
        preset = knob.move(preset, distance)
    return preset


def learn(matrix: Floats, step: Floats, answered: Floats, noise: float) -> Floats:
    """Return Broyden's inverse Jacobian after a step that moved the statistics by `answered`.

    The update is damped so that the determinant shrinks at most by `LEAST_REGULAR` (More and
    Trangenstein, Mathematics of Computation 1976); an answer within the noise changes nothing.
    """
    length = float(step @ step)
    if length == 0.0 or float(np.linalg.norm(answered)) <= noise:
        return matrix
    expected = matrix @ answered
    growth = float(step @ expected) / length
    if abs(growth) < LEAST_REGULAR:
        least = LEAST_REGULAR if growth >= 0.0 else -LEAST_REGULAR
        share = (1.0 - least) / (1.0 - growth)
        expected = share * expected + (1.0 - share) * step
    return np.asarray(matrix + np.outer(step - expected, step @ matrix) / float(step @ expected))
