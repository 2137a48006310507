"""How often intervals of single decisions hold the truth: 24 cells of worlds that know it.

A cell is one of each:

- a regime (4): the signal, `valid` (every other card) or `like` (one in forty), and the distance
  of the target from the log, `mild` (38% of the decisions are effective) or `strong` (17%);
- a size (3): 2,000, 8,000 and 32,000 decisions, four by each user;
- a reward (2): the `event` (0 or 1), or its `amount` (0 without the event, else spread up to 1).

So the smallest cells hold 350 effective decisions, some 17 of them with a like: none is left out,
whatever a gate would say of it. The worlds are in `tests.studies.evaluation.worlds`. Each run draws
a log; both rewards are read from it. Estimators and intervals are the ones that users get.

`dr` has a cross-fitted reward model that knows less than the world (shrunk means by action in
eight groups of users). `symmetric` is snips without the correction for skewness, for comparison.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from typing import NamedTuple

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from env.vocabulary import Floats
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import dr, snips
from replay.estimators.intervals import Estimate, t_quantile
from replay.estimators.likelihood import cressie_read
from replay.reward_models.ridge import FOLDS, cross_fitted_tables
from tests.studies.evaluation.worlds import (
    ACTIONS,
    KINDS,
    SEGMENTS,
    Distance,
    Log,
    Scale,
    Signal,
    World,
)


class Covered(msgspec.Struct, frozen=True):
    """What many logs of one setting gave for one estimator.

    Attributes:
        setting: of the log and of the target.
        estimator: its name.
        truth: the exact value.
        n_runs: logs.
        coverage: share of the intervals that held the truth.
        bias_se: mean error, in standard errors of this mean.
        relative_bias: mean error by the truth.
        relative_rmse: root mean square error by the truth.
        relative_half_width: median half width of the intervals by the truth.
        ess: median effective sample size.
    """

    setting: str
    estimator: str
    truth: float
    n_runs: int
    coverage: float
    bias_se: float
    relative_bias: float
    relative_rmse: float
    relative_half_width: float
    ess: float


def tally(setting: str, truth: float, estimates: Sequence[Estimate]) -> Covered:
    """Return the row of one estimator's estimates of one truth, at least two of them."""
    errors = np.array([estimate.value - truth for estimate in estimates])
    halves = np.array([(estimate.high - estimate.low) / 2.0 for estimate in estimates])
    held = [estimate.low <= truth <= estimate.high for estimate in estimates]
    return Covered(
        setting=setting,
        estimator=estimates[0].estimator,
        truth=truth,
        n_runs=len(estimates),
        coverage=float(np.mean(held)),
        bias_se=float(errors.mean() / (errors.std(ddof=1) / np.sqrt(len(errors)))),
        relative_bias=float(errors.mean() / truth),
        relative_rmse=float(np.sqrt((errors**2).mean()) / truth),
        relative_half_width=float(np.median(halves) / truth),
        ess=float(np.median([estimate.ess for estimate in estimates])),
    )


def count_in_band(
    cells: Iterable[Covered], estimators: Iterable[str], low: float, high: float
) -> int:
    """Return how many rows of these estimators have a coverage in [low, high]."""
    names = set(estimators)
    return sum(cell.estimator in names and low <= cell.coverage <= high for cell in cells)


Advance = Callable[[str, int, int], None]
SIGNALS: tuple[Signal, ...] = ("valid", "like")
DISTANCES: tuple[Distance, ...] = ("mild", "strong")
SCALES: tuple[Scale, ...] = ("event", "amount")
SIZES = (2_000, 8_000, 32_000)
BAND = (0.93, 0.97)
INTERVALS = ("dr", "snips", "cr", "symmetric")
_RUNS_AT_ONCE = 25


class Cell(msgspec.Struct, frozen=True):
    """What was measured in one cell.

    Attributes:
        signal: of the regime.
        distance: of the regime.
        n: decisions of a log.
        reward: event or amount.
        truth: the target's value.
        ess: effective decisions, in an endless log's share of n.
        coverage: share of runs whose interval held the truth, by interval.
        above: share of runs whose interval was above the truth, by interval.
        width: mean width, by interval.
        cr_width_ratio: mean width of Cressie-Read over that of `symmetric`.
        rmse: of the values, by estimator.
    """

    signal: str
    distance: str
    n: int
    reward: str
    truth: float
    ess: float
    coverage: dict[str, float]
    above: dict[str, float]
    width: dict[str, float]
    cr_width_ratio: float
    rmse: dict[str, float]


class CoverageResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        runs: of each cell.
        level: nominal.
        n_cells: 24.
        dr_cells_in_band: cells in which dr's interval covers in 93 to 97% of the runs.
        snips_cells_in_band: likewise of snips.
        symmetric_cells_in_band: likewise of snips without the correction for skewness.
        cr_cells_above: cells in which Cressie-Read's covers in at least 95%.
        cr_width_ratio_max: largest of the cells' width ratios.
        cells: all figures.
    """

    runs: int
    seed: int
    level: float
    n_cells: int
    dr_cells_in_band: int
    snips_cells_in_band: int
    symmetric_cells_in_band: int
    cr_cells_above: int
    cr_width_ratio_max: float
    cells: list[Cell]


class _Task(NamedTuple):
    """Some runs of the two cells that share their logs."""

    signal: Signal
    distance: Distance
    n: int
    chunk: int
    runs: int
    seed: int

    @property
    def key(self) -> tuple[Signal, Distance, int]:
        return self.signal, self.distance, self.n


def run_coverage(
    *,
    runs: int,
    seed: int,
    advance: Advance,
    sizes: Sequence[int] = SIZES,
    processes: int = 2,
    level: float = 0.95,
) -> CoverageResult:
    """Measure; the figures do not depend on how many processes share the work.

    Args:
        runs: of each cell.
        seed: of worlds and logs.
        advance: told of progress.
        sizes: decisions of a log, multiples of 4.
        processes: that run at a time; 1: this one.
        level: of the intervals.
    """
    found: dict[tuple[Signal, Distance, int], list[Floats]] = {}
    tasks = list(_tasks(runs, seed, sizes))
    done, total = 0, sum(task.runs * task.n for task in tasks)
    for task, outcomes in _outcomes(tasks, level, processes):
        found.setdefault(task.key, []).append(outcomes)
        done += task.runs * task.n
        advance("decisions", done, total)
    cells = [
        _cell(signal, distance, n, scale, np.concatenate(found[signal, distance, n])[:, i], seed)
        for signal, distance, n in product(SIGNALS, DISTANCES, sizes)
        for i, scale in enumerate(SCALES)
    ]
    return CoverageResult(
        runs=runs,
        seed=seed,
        level=level,
        n_cells=len(cells),
        dr_cells_in_band=_in_band(cells, "dr"),
        snips_cells_in_band=_in_band(cells, "snips"),
        symmetric_cells_in_band=_in_band(cells, "symmetric"),
        cr_cells_above=sum(cell.coverage["cr"] >= level for cell in cells),
        cr_width_ratio_max=max(cell.cr_width_ratio for cell in cells),
        cells=cells,
    )


def predictions_of(world: World, log: Log, reward: Floats) -> RewardPredictions:
    """Return what shrunk means by action and segment, cross-fitted by user, say of a log."""
    segment, fold = world.segment[log.kind], log.user % FOLDS
    tables = cross_fitted_tables(log.user, segment, log.action, reward, (SEGMENTS, ACTIONS))
    direct = np.einsum("mk,fmk->fm", world.target, tables[:, world.segment])
    chosen = tables.take((fold * SEGMENTS + segment) * ACTIONS + log.action)
    return RewardPredictions(chosen, direct.take(fold * KINDS + log.kind))


def columns_of(world: World, log: Log, reward: Floats) -> Columns:
    """Return a log as an estimator reads it."""
    propensity, target = world.logging.take(log.cell), world.target.take(log.cell)
    return Columns(log.user, reward, propensity, target)


def _tasks(runs: int, seed: int, sizes: Sequence[int]) -> Iterator[_Task]:
    for n, signal, distance in product(sorted(sizes, reverse=True), SIGNALS, DISTANCES):
        for chunk, start in enumerate(range(0, runs, _RUNS_AT_ONCE)):
            yield _Task(signal, distance, n, chunk, min(_RUNS_AT_ONCE, runs - start), seed)


def _outcomes(
    tasks: Sequence[_Task], level: float, processes: int
) -> Iterator[tuple[_Task, Floats]]:
    if processes == 1:
        yield from ((task, _run(task, level)) for task in tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_run, task, level): task for task in tasks}
        for future in as_completed(running):
            yield running[future], future.result()


def _run(task: _Task, level: float) -> Floats:
    """Return value, low and high, (runs, 2 rewards, 4 intervals, 3)."""
    world = World(task.signal, task.distance, task.seed)
    rng = np.random.default_rng(
        [task.seed, SIGNALS.index(task.signal), DISTANCES.index(task.distance), task.n, task.chunk]
    )
    outcomes = np.empty((task.runs, len(SCALES), len(INTERVALS), 3))
    with threadpool_limits(1, user_api="blas"):
        for run in range(task.runs):
            log = world.draw(rng, task.n)
            events = columns_of(world, log, log.event)
            for i, scale in enumerate(SCALES):
                columns = replace(events, reward=log.reward(scale))
                outcomes[run, i] = _intervals(world, log, columns, level)
    return outcomes


def _intervals(world: World, log: Log, columns: Columns, level: float) -> list[list[float]]:
    normalised = snips(columns, level)
    estimates = (
        dr(columns, predictions_of(world, log, columns.reward), level),
        normalised,
        cressie_read(columns, (0.0, 1.0), level),
        _symmetric(normalised),
    )
    return [[e.value, e.low, e.high] for e in estimates]


def _symmetric(estimate: Estimate) -> Estimate:
    half = t_quantile(estimate.level, estimate.n_users - 1) * estimate.se
    low, high = estimate.value - half, estimate.value + half
    return msgspec.structs.replace(estimate, low=low, high=high)


def _cell(
    signal: Signal, distance: Distance, n: int, scale: Scale, outcomes: Floats, seed: int
) -> Cell:
    world = World(signal, distance, seed)
    truth = world.truth(scale)
    value, low, high = np.moveaxis(outcomes, -1, 0)  # (runs, 4) each
    width = _by_interval((high - low).mean(axis=0))
    return Cell(
        signal=signal,
        distance=distance,
        n=n,
        reward=scale,
        truth=truth,
        ess=n * world.ess_share,
        coverage=_by_interval(((low <= truth) & (truth <= high)).mean(axis=0)),
        above=_by_interval((low > truth).mean(axis=0)),
        width=width,
        cr_width_ratio=width["cr"] / width["symmetric"],
        rmse=_by_interval(np.sqrt(((value - truth) ** 2).mean(axis=0))),
    )


def _by_interval(figures: Floats) -> dict[str, float]:
    return dict(zip(INTERVALS, figures.tolist(), strict=True))


def _in_band(cells: Sequence[Cell], interval: str) -> int:
    return sum(BAND[0] <= cell.coverage[interval] <= BAND[1] for cell in cells)
