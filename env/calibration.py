"""Calibration: moves a draft preset until the world under it has the moments that it should have.

What people do in a world is conditional on how it moves them: satiation, load and satisfaction
act on every answer, and whoever likes a card stays longer. So constants that were read off a log
come out wrong once people are simulated, by some per cent each. Here each constant is moved by the
distance between a statistic of the target and the same statistic of the simulated log, on a scale
on which it answers about one to one: indirect inference (Gourieroux, Monfort and Renault,
"Indirect Inference", Journal of Applied Econometrics 1993). `env.knobs` has the pairs.

The constants of watching answer together, so their matrix is learned on the way (Broyden, "A Class
of Methods for Solving Nonlinear Simultaneous Equations", Mathematics of Computation 1965), with
the same people throughout; damped, so that it stays regular, and left as it is once a step moves
the statistics by no more than chance does, which would teach it chance. The last rounds are of
other people each, in steps of 1, 1/2, 1/3, .. (Robbins and Monro, "A Stochastic Approximation
Method", Annals of Mathematical Statistics 1951), so that rare events come out right on average and
not for the first people alone. What is returned is the last round that is about as near as any.
Slow constants (satisfaction, satiation, load, drift) are assumptions and stay. Rejected: one
optimiser over everything (a hundred times as many simulations).
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
"""Returns the moments of the world under a preset; other numbers stand for other people."""

MOST_STEP = 1.0
MOST_AVERAGED = 6
"""Rounds of other people, whose steps shrink."""
MOST_AVERAGED_STEP = 0.1
"""Of the constants of watching in those rounds: what is left to move is small."""
NOISE = 10.0
"""Over the root of the cards: standard deviation of a statistic between simulated people where
sessions are long, so that the cards are of few; where they are short it is a third of that."""
LEAST_REGULAR = 0.2
"""Factor by which one step may shrink the determinant of the Jacobian, at most."""


def calibrate(
    preset: Preset, target: Moments, simulate: Simulate, n_rounds: int = 8
) -> tuple[Preset, Moments]:
    """Return the preset with its answers, exits and returns moved to the target's moments.

    Args:
        preset: a draft.
        target: what the simulated world should show; it becomes the preset's moments.
        simulate: the world under the logging policy that the target was counted under.
        n_rounds: simulations.

    Returns:
        The preset, and the moments that were simulated under it.
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
    """Return the last round that is no farther off than the nearest, as far as chance lets tell.

    Not the nearest itself: each round averages over the people of those before it, and the first
    people, met again and again, are met better than others ever are.
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

    With H the matrix, s the step, y the answer and g = s' H y / s' s, by which the update scales
    the Jacobian's determinant, H y is replaced by t H y + (1 - t) s where |g| is small, such that g
    becomes `LEAST_REGULAR` (More and Trangenstein, "On the Global Convergence of Broyden's Method",
    Mathematics of Computation 1976). Nothing is learned of an answer within the noise.
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
