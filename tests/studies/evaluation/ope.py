"""How fast a million decisions are evaluated, by itself and beside the Open Bandit Pipeline.

Everything begins with dense arrays in memory: reading a log is another figure. Rejected: a smaller
log, on which what a call costs by itself would be measured, and a pipeline's bootstrap of fewer
resamples, scaled up: it fits into the time.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from replay.estimators.bootstrap import bootstrap
from replay.estimators.decisions import ESTIMATORS
from replay.estimators.intervals import LEVEL
from replay.estimators.likelihood import cressie_read
from replay.estimators.mips import mips, snmips
from replay.estimators.ratios import weighted_ratio
from serve.bench.room import Clock, median_seconds
from tests.studies.evaluation.obp import (
    Comparison,
    DenseLog,
    Kind,
    ObpMissingError,
    compare,
    install,
    make_log,
)

Advance = Callable[[str, int, int], None]
Step = Callable[[], object]
REWARDS = (0.0, 1.0)


class OpeSize(msgspec.Struct, frozen=True):
    """How much is measured.

    Attributes:
        decisions: n of each log.
        candidates: K.
        rounds: of each side; the median counts. The pipeline's bootstrap is timed once.
        samples: of the pipeline's bootstrap, and of ours by user.
    """

    decisions: int = 1_000_000
    candidates: int = 20
    rounds: int = 5
    samples: int = 200


class OpeResult(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        seconds_all: of all estimators of single decisions with their intervals, from the dense
            arrays on.
        seconds: of each of them, and of what they share: columns, predictions, marginal.
        seconds_intervals: of the intervals that no estimator has by itself.
        obp_ratio: the pipeline's seconds with its bootstrap over ours with an interval, of the
            estimator where that is least; None without the pipeline.
        obp: the whole comparison.
        obp_missing: why there is none; None if there is.
    """

    size: OpeSize
    seed: int
    seconds_all: float
    seconds: dict[str, float]
    seconds_intervals: dict[str, float]
    obp_ratio: float | None
    obp: Comparison | None
    obp_missing: str | None


def run_ope(
    size: OpeSize,
    *,
    seed: int,
    obp: Path | None,
    clock_ns: Clock,
    advance: Advance,
    find_obp: Callable[[Path], Path] = install,
) -> OpeResult:
    """Measure.

    Args:
        size: how much.
        seed: of the logs.
        obp: folder of the pipeline's environment, made if it is not there, in a minute or more;
            None: leave it out.
        clock_ns: a steady clock.
        advance: told of progress.
        find_obp: returns the interpreter of the environment in a folder.
    """
    advance("logs", 0, 2)
    logs: dict[Kind, DenseLog] = {"mixed": make_log(size.decisions, size.candidates, "mixed", seed)}
    advance("logs", 1, 2)
    logs["certain"] = make_log(size.decisions, size.candidates, "certain", seed)
    advance("logs", 2, 2)
    mixed = logs["mixed"]
    seconds = _seconds(_estimators(mixed), size.rounds, clock_ns)
    intervals = _seconds(_intervals(mixed, size.samples), size.rounds, clock_ns)
    theirs, missing = _beside_obp(logs, size, obp, clock_ns, advance, find_obp)
    return OpeResult(
        size=size,
        seed=seed,
        seconds_all=sum(seconds.values()),
        seconds=seconds,
        seconds_intervals=intervals,
        obp_ratio=None if theirs is None else theirs.ratio,
        obp=theirs,
        obp_missing=missing,
    )


def _beside_obp(
    logs: dict[Kind, DenseLog],
    size: OpeSize,
    obp: Path | None,
    clock_ns: Clock,
    advance: Advance,
    find_obp: Callable[[Path], Path],
) -> tuple[Comparison | None, str | None]:
    """Return the comparison, or why there is none."""
    if obp is None:
        return None, "it was left out"
    try:
        advance("environment of obp", 0, 1)
        python = find_obp(obp)
        advance("environment of obp", 1, 1)
        found = compare(
            logs,
            python,
            rounds=size.rounds,
            samples=size.samples,
            clock_ns=clock_ns,
            advance=partial(advance, "estimators of both sides"),
        )
    except ObpMissingError as error:
        return None, str(error)
    return found, None


def _estimators(log: DenseLog) -> dict[str, Step]:
    """Return every estimator of single decisions, and what they begin with."""
    columns, predictions, marginal = log.columns(), log.predictions(), log.marginal()
    steps: dict[str, Step] = {
        "columns": log.columns,
        "predictions": log.predictions,
        "marginal": log.marginal,
    }
    for name, estimator in ESTIMATORS.items():
        steps[name] = partial(estimator, columns, predictions, LEVEL)
    steps["mips"] = partial(mips, columns, marginal)
    steps["snmips"] = partial(snmips, columns, marginal)
    return steps


def _intervals(log: DenseLog, samples: int) -> dict[str, Step]:
    """Return the cautious interval, and the bootstrap by user."""
    columns = log.columns()
    ratios = (weighted_ratio("snips", columns, columns.reward),)
    return {
        "cressie-read": partial(cressie_read, columns, REWARDS),
        "bootstrap by user": partial(
            bootstrap, "snips", ratios, columns.user, columns.ess, seed=0, n_samples=samples
        ),
    }


def _seconds(steps: dict[str, Step], rounds: int, clock_ns: Clock) -> dict[str, float]:
    return {name: median_seconds(step, rounds, clock_ns) for name, step in steps.items()}
