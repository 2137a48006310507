"""Calibration: moves a draft preset until its simulated log shows the target's statistics.

Constants that were read off a log come out wrong once satiation, load and satisfaction act on every
answer. Each is moved by the distance between the target's statistic and the simulated one (indirect
inference). `env.knobs` has the pairs of parameter and statistic.

Derivation and rejected alternatives: `docs/decisions/world-calibration.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from env.knobs import Knob, events, visits, watching
from env.moments import Moments
from env.presets import Preset
from env.vocabulary import Floats

Simulate = Callable[[Preset, int], Moments]
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
    preset: Preset, target: Moments, simulate: Simulate, n_rounds: int = 8
) -> tuple[Preset, Moments]:
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
    found: Moments
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


def _noise(found: Moments) -> float:
    return NOISE / float(np.sqrt(found.n))


def _distances(knobs: list[Knob], target: Moments, found: Moments) -> Floats:
    return np.array([knob.statistic(target) - knob.statistic(found) for knob in knobs])


def _move(knobs: list[Knob], preset: Preset, step: Floats) -> Preset:
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
