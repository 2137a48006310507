"""Which exploration should be the default: cold start, arm beside arm on the same replicates.

Two worlds: `tests.studies.cold_start.world`, where all is known exactly and uploads live half of
the rounds, and `tests.studies.cold_start.swipe`, users of SwipeEnv before uploads that arrive.
Linear bandits are tuned first, over a grid on whole replicates of their own, as many rounds as are
played (fewer would tune for shorter lives). What the default is compared with by a figure (linear
bandits, both epsilons) plays all replicates; of several the strongest here counts, which if
anything is to the default's disadvantage. The rest (other explorers over our scores, VW's own,
which take ten times as long, and references that know more than any policy may) plays the first
quarter.

Replicates are shared out over processes; the figures do not depend on how many there are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import product
from multiprocessing import get_context
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec
from threadpoolctl import threadpool_limits

from tests.studies.cold_start.arms import (
    DEFAULT,
    EPSILONS,
    EXPLORERS,
    LIN_THOMPSON,
    LIN_UCB,
    LINEAR,
    PEERS,
    REFERENCES,
    Tuned,
    arms,
    linear_player,
    references,
)
from tests.studies.cold_start.figures import ArmFigures, Run, Span, figures_of, regret_ratio
from tests.studies.cold_start.pages import play
from tests.studies.cold_start.swipe import SwipeSize, play_swipe
from tests.studies.cold_start.world import WorldArgs, draw_world
from tests.studies.peers.linear import LinearArgs

Advance = Callable[[int], None]
Runs = Mapping[str, Sequence[Run]]
_APART = 1_000_000
"""Replicates from this one on are those for tuning."""

_PRIORS = tuple(product((0.1, 0.15), (0.1, 0.3)))


def _grid(widths: Sequence[float]) -> tuple[LinearArgs, ...]:
    return tuple(
        LinearArgs(width=width, item_sd=item_sd, weight_sd=weight_sd)
        for width in widths
        for item_sd, weight_sd in _PRIORS
    )


GRIDS: Mapping[str, tuple[LinearArgs, ...]] = MappingProxyType(
    {
        LIN_UCB: _grid((0.25, 0.5, 1.0)),
        LIN_THOMPSON: _grid((0.15, 0.3)),
    }
)
"""What the linear bandits are tuned over, finer for LinUCB, which is the stronger and the faster
one. Worse in a first look (two replicates): a width of 0 for LinUCB, of .1 and .5 for Thompson, an
item_sd of .05 or .2."""

IN_A_QUARTER = frozenset((*EXPLORERS, *PEERS, *REFERENCES))
"""Arms of which no figure is made; they play the first quarter of the replicates."""


class ColdStartSize(msgspec.Struct, frozen=True):
    """How much is played.

    Attributes:
        replicates: of the cold start world.
        rounds: of each; items live half of them.
        tuning: replicates apart, on which the linear bandits are tuned, as long as the others.
        swipe_worlds: of SwipeEnv; 0: none.
        swipe: size of each.
        world: its scales.
    """

    replicates: int = 48
    rounds: int = 12_000
    tuning: int = 6
    swipe_worlds: int = 4
    swipe: SwipeSize = SwipeSize()
    world: WorldArgs = WorldArgs()

    @property
    def n_tasks(self) -> int:
        """How often a run advances by 1."""
        return self.tuning + self.swipe_worlds + self.replicates


class Comparison(msgspec.Struct, frozen=True):
    """All arms in one kind of world; the figures by themselves are the default's.

    Attributes:
        regret: expected reward of the best candidate minus that of the one shown, a card.
        regret_ratio_best_linear: the default's over that of the better linear bandit here.
        regret_ratio_epsilon: the default's over that of the better epsilon .05 here, over hopeful
            scores or over the posterior's mean.
        p_20: share of the uploads whose life ended that had 20 impressions or more.
        gini: of impressions over them.
        intervals: 95% ones of the figures above, by name: low and high.
        best_linear: name of the better one.
        best_epsilon: likewise.
        arms: all, best first.
    """

    regret: float
    regret_ratio_best_linear: float
    regret_ratio_epsilon: float
    p_20: float
    gini: float
    intervals: dict[str, tuple[float, float]]
    best_linear: str
    best_epsilon: str
    arms: list[ArmFigures]


class ColdStartResult(Comparison, frozen=True):
    """The comparison in the cold start world, and what else was measured.

    Attributes:
        seed: of everything.
        rounds: of each replicate.
        linear: the arguments that tuning took.
        swipe: the comparison in SwipeEnv, None where it was left out.
    """

    seed: int
    rounds: int
    linear: Tuned
    swipe: Comparison | None


class _Task(NamedTuple):
    """Arms to play one replicate of one kind."""

    kind: Literal["tune", "cold", "swipe"]
    replicate: int
    seed: int
    size: ColdStartSize
    tuned: Tuned


def run_coldstart(
    size: ColdStartSize, *, seed: int, advance: Advance, processes: int = 2
) -> ColdStartResult:
    """Measure; the figures do not depend on how many processes share the work.

    Args:
        size: of it.
        seed: of worlds, users and draws.
        advance: told 1 whenever one of `size.n_tasks` is done.
        processes: that run at a time; 1: this one.
    """
    tuning = [_Task("tune", i, seed, size, Tuned()) for i in range(size.tuning)]
    with _workers(processes) as workers:
        tuned = _best(_gather(tuning, workers, advance)["tune"])
        tasks = [
            *(_Task("swipe", i, seed, size, tuned) for i in range(size.swipe_worlds)),
            *(_Task("cold", i, seed, size, tuned) for i in range(size.replicates)),
        ]
        runs = _gather(tasks, workers, advance)
    cold = _compare(runs["cold"])
    swipe = _compare(runs["swipe"]) if size.swipe_worlds else None
    return ColdStartResult(
        **{name: getattr(cold, name) for name in Comparison.__struct_fields__},
        seed=seed,
        rounds=size.rounds,
        linear=tuned,
        swipe=swipe,
    )


@contextmanager
def _workers(processes: int) -> Iterator[Executor | None]:
    """Give processes to play in; None where one is enough."""
    if processes == 1:
        yield None
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        yield workers


def _gather(
    tasks: Sequence[_Task], workers: Executor | None, advance: Advance
) -> dict[str, dict[str, list[Run]]]:
    """Return the runs of each arm, by kind, in the order of the replicates."""
    found: dict[tuple[str, int], Runs] = {}
    for task, runs in _outcomes(tasks, workers):
        found[task.kind, task.replicate] = runs
        advance(1)
    gathered: dict[str, dict[str, list[Run]]] = {}
    for (kind, _), runs in sorted(found.items(), key=lambda pair: pair[0]):
        for name, run in runs.items():
            gathered.setdefault(kind, {}).setdefault(name, []).extend(run)
    return gathered


def _outcomes(tasks: Sequence[_Task], workers: Executor | None) -> Iterator[tuple[_Task, Runs]]:
    if workers is None:
        yield from ((task, _run(task)) for task in tasks)
        return
    running = {workers.submit(_run, task): task for task in tasks}
    for future in as_completed(running):
        yield running[future], future.result()


def _run(task: _Task) -> Runs:
    with threadpool_limits(1, user_api="blas"):
        match task.kind:
            case "tune":
                return _tune(task)
            case "cold":
                return _play_cold(task)
            case "swipe":
                return _play_swipe(task)


def _tune(task: _Task) -> Runs:
    """Return the run of each linear bandit and place of the grid, on a replicate apart."""
    world = draw_world(task.size.world, task.size.rounds, task.seed, _APART + task.replicate)
    return {
        f"{name} {place}": [play(world, linear_player(name, args), b"tune")]
        for name, grid in GRIDS.items()
        for place, args in enumerate(grid)
    }


def _best(runs: Runs) -> Tuned:
    """Return the arguments of least regret of each linear bandit."""

    def best(name: str) -> LinearArgs:
        regrets = [
            sum(run.regret for run in runs[f"{name} {place}"]) for place in range(len(GRIDS[name]))
        ]
        return GRIDS[name][regrets.index(min(regrets))]

    return Tuned(linucb=best(LIN_UCB), lints=best(LIN_THOMPSON))


def _play_cold(task: _Task) -> Runs:
    world = draw_world(task.size.world, task.size.rounds, task.seed, task.replicate)
    key = f"{task.seed}-{task.replicate}".encode()
    makers = {**arms(task.tuned), **references(world)}
    if 4 * task.replicate >= task.size.replicates:
        makers = {n: make for n, make in makers.items() if n not in IN_A_QUARTER}
    return {name: [play(world, make(), key)] for name, make in makers.items()}


def _play_swipe(task: _Task) -> Runs:
    seed = 1_000 * task.seed + task.replicate
    return {
        name: [play_swipe(make(), task.size.swipe, seed)]
        for name, make in arms(task.tuned).items()
        if name not in PEERS
    }


def _compare(runs: Runs) -> Comparison:
    figures = [figures_of(name, each) for name, each in runs.items()]
    figures.sort(key=lambda arm: arm.regret.value)
    default = next(arm for arm in figures if arm.name == DEFAULT)
    best_linear = next(arm.name for arm in figures if arm.name in LINEAR)
    best_epsilon = next(arm.name for arm in figures if arm.name in EPSILONS)
    spans: dict[str, Span] = {
        "regret": default.regret,
        "regret_ratio_best_linear": regret_ratio(runs[DEFAULT], runs[best_linear]),
        "regret_ratio_epsilon": regret_ratio(runs[DEFAULT], runs[best_epsilon]),
        "p_20": default.p_20,
        "gini": default.gini,
    }
    return Comparison(
        **{name: span.value for name, span in spans.items()},
        intervals={name: (span.low, span.high) for name, span in spans.items()},
        best_linear=best_linear,
        best_epsilon=best_epsilon,
        arms=figures,
    )
