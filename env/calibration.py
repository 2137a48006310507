"""Calibration: moves a draft preset until the world under it has the moments that it should have.

What people do in a world is conditional on how it moves them: satiation, load and satisfaction
act on every answer, and whoever likes a card stays longer. So constants that were read off a log
come out wrong once people are simulated, by some per cent each. Here each constant is moved by the
distance between a statistic of the target and the same statistic of the simulated log, on a scale
on which it answers about one to one: indirect inference (Gourieroux, Monfort and Renault,
"Indirect Inference", Journal of Applied Econometrics 1993), one constant a statistic:

    intercept       log-odds of a valid play       exit            log-odds of 1 / mean session
    watch location  log-odds of long | valid       return classes  log-odds of the fitted mixture's
    watch spread    ln of the mean watch time      daily share     log-odds of its first weight
    skips, zeros    quantiles of ln watch; share   events          ln of P(event); of P(event | no
                                                                   valid play)

The constants of watching answer together, so their matrix is learned on the way (Broyden, "A Class
of Methods for Solving Nonlinear Simultaneous Equations", Mathematics of Computation 1965), with
the same people throughout. The last rounds are of other people each, in steps of 1, 1/2, 1/3, ..
(Robbins and Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics 1951),
so that rare events come out right on average and not for the first people alone. Slow
constants (satisfaction, satiation, load, drift) are assumptions and stay. Rejected: one optimiser
over everything (a hundred times as many simulations).
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
from env.vocabulary import Floats

Simulate = Callable[[Preset, int], Moments]
"""Returns the moments of the world under a preset; other numbers stand for other people."""

MOST_STEP = 1.0
MOST_AVERAGED = 6
"""Rounds of other people, whose steps shrink."""
LEAST_RATE = 1e-6
LEAST_APART = 0.5
"""Difference of log-odds below which two classes of return are one."""
SKIPS = slice(4, 35)
"""Quantiles .05 to .35 of ln watch time, nearly all of them skips."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A constant, the statistic that tells where it should be, and a guess at how it answers.

    Attributes:
        statistic: of moments, on the scale of `move`.
        move: returns the preset with the constant moved by a distance.
        gain: distance to move by for each unit that the statistic is off.
    """

    statistic: Callable[[Moments], float]
    move: Callable[[Preset, float], Preset]
    gain: float = 0.8


def calibrate(
    preset: Preset, target: Moments, simulate: Simulate, n_rounds: int = 8
) -> tuple[Preset, Moments]:
    """Return the preset with its answers, exits and returns moved to the target's moments.

    Args:
        preset: a draft.
        target: what the simulated world should show; it becomes the preset's moments.
        simulate: the world under the logging policy that the target was counted under.
        n_rounds: simulations; the last one is of the preset that is returned.

    Returns:
        The preset, and the moments that were simulated under it.
    """
    preset = replace(preset, moments=target)
    together, alone = watching(), [*events(), *visits(target)]
    matrix = np.diag([knob.gain for knob in together])
    gains = np.array([knob.gain for knob in alone])
    n_averaged = min(MOST_AVERAGED, n_rounds // 2)
    found = simulate(preset, 0)
    for k in range(1 - n_rounds + n_averaged, n_averaged):
        shrink = 1.0 / (1 + max(k, 0))
        off = _distances(together, target, found)
        step = np.clip(shrink * (matrix @ off), -MOST_STEP, MOST_STEP)
        single = shrink * gains * _distances(alone, target, found)
        preset = _move(together, preset, step)
        preset = _move(alone, preset, np.clip(single, -MOST_STEP, MOST_STEP))
        found = simulate(preset, max(k + 1, 0))
        if k < 0:
            matrix = _learn(matrix, step, off - _distances(together, target, found))
    return preset, found


def watching() -> list[Knob]:
    """Return the knobs of what is engaged with, and for how long."""
    return [
        Knob(lambda m: _logit(m.rates["valid_play"]), _intercept, 1.1),
        Knob(lambda m: _logit(m.joint["long_view|valid_play"]), _add("watch_mu"), 0.4),
        Knob(lambda m: _log(m.watch_mean_s), _scale("watch_sd"), 0.5),
        Knob(lambda m: float(np.mean(m.log_watch[SKIPS])), _add("skip_mu"), 0.8),
        Knob(lambda m: _log(float(np.ptp(m.log_watch[SKIPS]))), _scale("skip_sd"), 0.5),
        Knob(lambda m: _logit(m.watch_zero), _shift("zero"), 1.0),
    ]


def events() -> list[Knob]:
    """Return the knobs of the rare events.

    P(event) rather than P(event | valid play), as who engages for less than 7 s acts as well.
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
    """Return the knobs of leaving and of coming back.

    Gaps behind which one class is enough tell their mean alone: both classes move by the same.
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


def _distances(knobs: list[Knob], target: Moments, found: Moments) -> Floats:
    return np.array([knob.statistic(target) - knob.statistic(found) for knob in knobs])


def _move(knobs: list[Knob], preset: Preset, step: Floats) -> Preset:
    for knob, distance in zip(knobs, step.tolist(), strict=True):
        preset = knob.move(preset, distance)
    return preset


def _learn(matrix: Floats, step: Floats, answered: Floats) -> Floats:
    """Return Broyden's inverse Jacobian after a step that moved the statistics by `answered`."""
    against = step @ matrix
    worth = float(against @ answered)
    if abs(worth) < 1e-12:
        return matrix
    return np.asarray(matrix + np.outer(step - matrix @ answered, against) / worth)


def _classes(moments: Moments) -> tuple[float, float, float]:
    """Return the two chances of return behind gaps, and the first one's weight."""
    return _fit_classes(moments.gaps[:GAP_DAYS])


@lru_cache(maxsize=8)
def _fit_classes(gaps: tuple[int, ...]) -> tuple[float, float, float]:
    """Remember the last fits: three statistics are read off each."""
    mixture = fit_gaps(Gaps.of_counts(gaps))
    first, second = mixture.chance.tolist()
    return first, second, float(mixture.weight[0])


def _is_mixed(moments: Moments) -> bool:
    first, second, weight = _classes(moments)
    return _logit(first) - _logit(second) > LEAST_APART and 0.02 < weight < 0.98


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
