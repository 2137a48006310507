"""How close learners come to the optimum of MiniSwipe, which is known exactly.

A score is (V - V_myopic) / (V* - V_myopic) at the start of a life, of the policy itself and not of
sampled lives: 0 takes what is watched longest now, 1 is the optimum. Two things are counted apart,
seconds watched and days of return. What counts is the policy as it is served, with its randomness;
beside it is the one that always takes its best action.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import msgspec
from threadpoolctl import threadpool_limits

from env.twin.model import MiniConstants, MiniModel
from env.twin.policies import normalised_score
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective
from tests.studies.retention.twin_arms import ARMS, BASELINES, Task, TwinBudget

Advance = Callable[[str, int, int], None]
NANOSECONDS = 1e9
MAIN, PLANNER = "ppo", "planner"


class TwinSize(msgspec.Struct, frozen=True):
    """How much is run.

    Attributes:
        seeds: of each arm, from the first on.
        baseline_seeds: of the arms in `BASELINES`.
        arms: names in `ARMS`.
        budget: cards of each.
    """

    seeds: int = 5
    baseline_seeds: int = 1
    arms: tuple[str, ...] = tuple(ARMS)
    budget: TwinBudget = TwinBudget()

    def __post_init__(self) -> None:
        """Refuse unknown arms.

        Raises:
            ValueError: an arm is unknown, or there is no seed.
        """
        unknown = [name for name in self.arms if name not in ARMS]
        if unknown:
            raise ValueError(f"expected arms of {', '.join(ARMS)}, got {', '.join(unknown)}")
        if self.seeds < 1 or self.baseline_seeds < 1:
            raise ValueError(f"expected a seed or more, got {self.seeds}, {self.baseline_seeds}")

    def n_seeds(self, arm: str) -> int:
        """Return how many seeds an arm is run with."""
        return min(self.seeds, self.baseline_seeds) if arm in BASELINES else self.seeds


class TwinRow(msgspec.Struct, frozen=True):
    """What an arm came to for one objective.

    Attributes:
        arm: its name.
        objective: what was learned, and is scored.
        served: scores as served, by seed.
        greedy: scores of the best action alone, by seed.
        cards: of each seed.
        seconds: that each seed took.
    """

    arm: str
    objective: MiniObjective
    served: list[float]
    greedy: list[float]
    cards: int
    seconds: list[float]


class RetentionTwinResult(msgspec.Struct, frozen=True):
    """What was measured; a figure is None where its arm was left out.

    Attributes:
        seeds: of the arms that are no baselines.
        watch_worst: score of PPO as served, in its worst seed, on seconds.
        days_worst: likewise on days.
        seconds_worst: that PPO took for the slowest seed of an objective.
        planner_watch_worst: likewise of the planner.
        planner_days_worst: likewise.
        planner_seconds: that the planner took for both objectives, in the slowest seed.
        rows: all arms and objectives, best mean score as served first.
    """

    seed: int
    seeds: int
    watch_worst: float | None
    days_worst: float | None
    seconds_worst: float | None
    planner_watch_worst: float | None
    planner_days_worst: float | None
    planner_seconds: float | None
    rows: list[TwinRow]


class _Run(NamedTuple):
    """What one seed of an arm came to."""

    served: float
    greedy: float
    cards: int
    seconds: float


def run_retention_twin(
    size: TwinSize,
    *,
    seed: int,
    clock_ns: Callable[[], int],
    advance: Advance,
    processes: int = 1,
) -> RetentionTwinResult:
    """Measure.

    Args:
        size: how much.
        seed: the first one.
        clock_ns: by which it is timed; can be pickled, where there are several processes.
        advance: told of progress.
        processes: that run at a time; 1: this one. More make each of them slower.
    """
    found: dict[tuple[str, MiniObjective], dict[int, _Run]] = {}
    jobs = [
        (arm, Task(objective, seed + i))
        for arm in size.arms
        for objective in OBJECTIVES
        for i in range(size.n_seeds(arm))
    ]
    for done, ((arm, task), run) in enumerate(_runs(jobs, size, clock_ns, advance, processes), 1):
        found.setdefault((arm, task.objective), {})[task.seed] = run
        advance("trainings", done, len(jobs))
    return _result(size, seed, found)


def _runs(
    jobs: Sequence[tuple[str, Task]],
    size: TwinSize,
    clock_ns: Callable[[], int],
    advance: Advance,
    processes: int,
) -> Iterator[tuple[tuple[str, Task], _Run]]:
    if processes == 1:
        for arm, task in jobs:
            tell = partial(advance, f"{arm}, {task.objective}, seed {task.seed}")
            yield (arm, task), _run(arm, task, size.budget, clock_ns, tell)
        return
    # Spawned: a fork of a process that has started Ray hangs.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(_run, arm, task, size.budget, clock_ns): (arm, task) for arm, task in jobs
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def _tell_nobody(done: int, total: int) -> None:
    """Take progress that nobody looks at."""


def _run(
    arm: str,
    task: Task,
    budget: TwinBudget,
    clock_ns: Callable[[], int],
    tell: Callable[[int, int], None] = _tell_nobody,
) -> _Run:
    programme = DynamicProgramme.of(MiniModel.of(MiniConstants()))
    with threadpool_limits(1, user_api="blas"):
        begun_ns = clock_ns()
        learned = ARMS[arm](task, budget, tell)
        seconds = (clock_ns() - begun_ns) / NANOSECONDS
    served, greedy = (
        normalised_score(programme, policy, task.objective)
        for policy in (learned.served, learned.greedy)
    )
    return _Run(served, greedy, learned.n_cards, seconds)


def _result(
    size: TwinSize, seed: int, found: dict[tuple[str, MiniObjective], dict[int, _Run]]
) -> RetentionTwinResult:
    rows = [_row(arm, objective, runs) for (arm, objective), runs in found.items()]
    main, planner = _rows_of(rows, MAIN), _rows_of(rows, PLANNER)
    return RetentionTwinResult(
        seed=seed,
        seeds=size.seeds,
        watch_worst=_worst(main, "watch"),
        days_worst=_worst(main, "days"),
        seconds_worst=max((max(row.seconds) for row in main.values()), default=None),
        planner_watch_worst=_worst(planner, "watch"),
        planner_days_worst=_worst(planner, "days"),
        planner_seconds=max(
            map(sum, zip(*(row.seconds for row in planner.values()), strict=True)), default=None
        ),
        rows=sorted(rows, key=lambda row: (row.objective, -sum(row.served) / len(row.served))),
    )


def _row(arm: str, objective: MiniObjective, runs: dict[int, _Run]) -> TwinRow:
    in_order = [runs[seed] for seed in sorted(runs)]
    return TwinRow(
        arm,
        objective,
        served=[run.served for run in in_order],
        greedy=[run.greedy for run in in_order],
        cards=in_order[0].cards,
        seconds=[run.seconds for run in in_order],
    )


def _rows_of(rows: Sequence[TwinRow], arm: str) -> dict[MiniObjective, TwinRow]:
    return {row.objective: row for row in rows if row.arm == arm}


def _worst(rows: dict[MiniObjective, TwinRow], objective: MiniObjective) -> float | None:
    return min(rows[objective].served) if objective in rows else None
