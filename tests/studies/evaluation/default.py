"""Which estimator should be the default: candidates by their errors in simulated worlds.

16 worlds: those of the study `coverage` (valid or like, mild or strong) with 2,000 and 8,000
decisions, and catalogues with rare clicks (34 or 80 items; the sampler or the uniform policy logs)
with 10,000 and 40,000 impressions. Several seeds of each world, several logs of each seed.

Candidates: Switch-DR and DRos, tuned by SLOPE with several widths (by differences, as
`replay.estimators.tuning` does, and by intervals, as published), beside what needs no tuning. The
winner has the least geometric mean over worlds of the root mean square relative error, so that no
world counts more for being hard. No real log comes into it.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import dm, dr, ips, sndr, snips
from replay.estimators.intervals import clustered_se
from replay.estimators.shrinkage import shrunk, switched
from replay.estimators.tuning import LAMS, TAUS, Reweigh, compared, slope
from tests.studies.evaluation.coverage import DISTANCES, SIGNALS, columns_of, predictions_of
from tests.studies.evaluation.worlds import CatalogueWorld, World

Advance = Callable[[str, int, int], None]
Draw = Callable[[np.random.Generator], tuple[Columns, RewardPredictions]]
WIDTHS = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0)
IMPRESSIONS = (10_000, 40_000)


class Candidate(msgspec.Struct, frozen=True):
    """How far a candidate was off.

    Attributes:
        estimator: its name, with SLOPE's width where it was tuned.
        score: geometric mean over the worlds of `errors`; the least wins.
        mean: arithmetic mean of `errors`.
        errors: root mean square relative error in each world.
    """

    estimator: str
    score: float
    mean: float
    errors: dict[str, float]


class DefaultResult(msgspec.Struct, frozen=True):
    """Candidates, best first."""

    seeds: int
    logs: int
    candidates: list[Candidate]


class _Setting(NamedTuple):
    """One world: its truth, and how a log of it is drawn."""

    name: str
    truth: float
    draw: Draw


def run_default(*, seeds: int, logs: int, seed: int, advance: Advance) -> DefaultResult:
    """Measure.

    Args:
        seeds: of each world.
        logs: of each seed.
        seed: the first.
        advance: told of progress.
    """
    errors: dict[str, dict[str, list[float]]] = {}
    for i in range(seeds):
        for place, setting in enumerate(_settings(seed + i)):
            rng = np.random.default_rng([seed + i, place])
            for _ in range(logs):
                for name, value in _values(*setting.draw(rng)):
                    of = errors.setdefault(name, {}).setdefault(setting.name, [])
                    of.append(value / setting.truth - 1.0)
        advance("seeds", i + 1, seeds)
    candidates = [_candidate(name, of) for name, of in errors.items()]
    return DefaultResult(seeds, logs, sorted(candidates, key=lambda c: c.score))


def _candidate(name: str, errors: dict[str, list[float]]) -> Candidate:
    rms = {world: float(np.sqrt(np.mean(np.square(of)))) for world, of in errors.items()}
    values = np.array(list(rms.values()))
    return Candidate(name, float(np.exp(np.log(values).mean())), float(values.mean()), rms)


def _settings(seed: int) -> Iterator[_Setting]:
    for signal, distance, n in product(SIGNALS, DISTANCES, (2_000, 8_000)):
        world = World(signal, distance, seed)
        name = f"{signal}/{distance} {n:,}"
        yield _Setting(name, world.truth("event"), _users(world, n))
    for (n_items, rate), sampler_logs in product(((34, 0.006), (80, 0.004)), (False, True)):
        catalogue = CatalogueWorld(n_items, rate, sampler_logs, seed)
        for n in IMPRESSIONS:
            name = f"{n_items} items, {'sampler' if sampler_logs else 'uniform'} logs {n:,}"
            yield _Setting(name, catalogue.truth, _impressions(catalogue, n))


def _users(world: World, n: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Columns, RewardPredictions]:
        log = world.draw(rng, n)
        return columns_of(world, log, log.event), predictions_of(world, log, log.event)

    return draw


def _impressions(world: CatalogueWorld, n: int) -> Draw:
    return lambda rng: world.columns(world.draw(rng, n))


def _values(columns: Columns, predictions: RewardPredictions) -> Iterator[tuple[str, float]]:
    yield "ips", ips(columns).value
    yield "snips", snips(columns).value
    for estimator in (dm, dr, sndr):
        yield estimator.__name__, estimator(columns, predictions).value
    for name, reweigh, grid in (("switch-dr", switched, TAUS), ("dros", shrunk, LAMS)):
        values, errors = compared(reweigh, grid, columns, predictions)
        for width in WIDTHS:
            yield f"{name} {width}", float(values[slope(values, errors, width)])
        own = _own_errors(reweigh, grid, columns, predictions)
        for width in WIDTHS:
            yield f"{name}, intervals {width}", float(values[_meeting(values, width * own)])


def _own_errors(
    reweigh: Reweigh, grid: Sequence[float], columns: Columns, predictions: RewardPredictions
) -> Floats:
    """Return the standard error of each estimate along a grid, (m,)."""
    weights = columns.weights
    return np.array(
        [
            clustered_se(terms - terms.mean(), columns.user)
            for terms in (predictions.corrected(columns, reweigh(weights, p)) for p in grid)
        ]
    )


def _meeting(values: Floats, half_widths: Floats) -> int:
    """Return the last place up to which all intervals have a point in common (as published)."""
    lows = np.maximum.accumulate(values - half_widths)
    highs = np.minimum.accumulate(values + half_widths)
    return int(np.flatnonzero(lows <= highs)[-1])
