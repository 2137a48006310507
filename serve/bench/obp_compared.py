"""Estimators beside those of the Open Bandit Pipeline: same data, same run, taking turns.

Both sides begin with the same dense arrays in memory and end with a number: ours with its
interval, the pipeline's once without and once with its bootstrap. What ours takes includes
gathering the logged actions and checking the columns. The pipeline's calls also check that pmfs
sum to 1, which here is done where a log is read. Rounds take turns, so that a machine that slows
down slows both.

Compared is where both define the same number, so with parameters that are given: the tuners
differ. The pipeline's replay is defined for targets that are sure, and compared on a uniform log
of such a one. What it calls an interval resamples decisions, ours people: the times are compared,
not the intervals.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np

from replay.estimators import dm, dr, ips, replay, sndr, snips
from replay.intervals import Estimate
from replay.mips import mips
from replay.shrinkage import dros, switch_dr
from serve.bench.obp_process import Asked, Peer, started
from serve.bench.ope_log import DenseLog, Kind
from serve.bench.stopwatch import Clock, timed

TAU, LAM = 5.0, 100.0


class Compared(msgspec.Struct, frozen=True):
    """One estimator on both sides.

    Attributes:
        estimator: its name here.
        value: ours.
        obp_value: theirs.
        seconds: of ours, with its interval.
        obp_point_seconds: of theirs, without one.
        obp_interval_seconds: of theirs, from its bootstrap.
    """

    estimator: str
    value: float
    obp_value: float
    seconds: float
    obp_point_seconds: float
    obp_interval_seconds: float


class Comparison(msgspec.Struct, frozen=True):
    """All estimators on both sides.

    Attributes:
        versions: of the other side's packages.
        rows: estimator by estimator.
        ratio: the pipeline's seconds with its bootstrap over ours, where that is least.
        point_ratio: its seconds without an interval over ours with one, where that is least.
        difference: the largest one of two values.
    """

    versions: dict[str, str]
    rows: list[Compared]
    ratio: float
    point_ratio: float
    difference: float


class _Alike(NamedTuple):
    """An estimator of both sides."""

    kind: Kind
    ours: Callable[[DenseLog], Estimate]
    arguments: dict[str, int | float]  # of the pipeline's class


def compare(
    logs: Mapping[Kind, DenseLog],
    python: Path,
    *,
    rounds: int,
    samples: int,
    clock_ns: Clock,
    advance: Callable[[int, int], None],
) -> Comparison:
    """Return what both sides say and take.

    Args:
        logs: of both kinds, equally large.
        python: interpreter that has the pipeline.
        rounds: of each side, at least 1; the median counts. The bootstrap is timed once.
        samples: of the pipeline's bootstrap.
        clock_ns: a steady clock.
        advance: told how many estimators of how many are done.

    Raises:
        ObpMissingError: the other side does not start, or ends.
    """
    alike = _alike(len(logs["mixed"].cluster))
    with TemporaryDirectory() as folder:
        _save(logs, Path(folder))
        with started(python, Path(folder)) as peer:
            rows: list[Compared] = []
            for name, of_both in alike.items():
                advance(len(rows), len(alike))
                rows.append(_row(name, of_both, logs, peer, rounds, samples, clock_ns))
            advance(len(rows), len(alike))
    return Comparison(
        versions=peer.versions,
        rows=rows,
        ratio=min(row.obp_interval_seconds / row.seconds for row in rows),
        point_ratio=min(row.obp_point_seconds / row.seconds for row in rows),
        difference=max(abs(row.value - row.obp_value) for row in rows),
    )


def _row(
    name: str,
    of_both: _Alike,
    logs: Mapping[Kind, DenseLog],
    peer: Peer,
    rounds: int,
    samples: int,
    clock_ns: Clock,
) -> Compared:
    log = logs[of_both.kind]
    asked = Asked(of_both.kind, name, of_both.arguments)
    peer.ask(asked)  # reads the log, and warms up
    own, points, boots = [], [], []
    for k in range(rounds):
        own.append(timed(lambda: of_both.ours(log), clock_ns))
        points.append(peer.ask(asked))
        if k == rounds // 2:  # seconds long, so once, with short ones before and after
            boots.append(peer.ask(msgspec.structs.replace(asked, samples=samples)))
    return Compared(
        estimator=name,
        value=own[0][0].value,
        obp_value=points[0].value,
        seconds=float(np.median([seconds for _, seconds in own])),
        obp_point_seconds=float(np.median([point.seconds for point in points])),
        obp_interval_seconds=boots[0].seconds,
    )


def _alike(n_candidates: int) -> dict[str, _Alike]:
    """Return the estimators that both sides define alike."""
    return {
        "replay": _Alike("certain", lambda log: replay(log.columns()), {}),
        "ips": _Alike("mixed", lambda log: ips(log.columns()), {}),
        "snips": _Alike("mixed", lambda log: snips(log.columns()), {}),
        "dm": _Alike("mixed", lambda log: dm(log.columns(), log.predictions()), {}),
        "dr": _Alike("mixed", lambda log: dr(log.columns(), log.predictions()), {}),
        "sndr": _Alike("mixed", lambda log: sndr(log.columns(), log.predictions()), {}),
        "switch-dr": _Alike(
            "mixed",
            lambda log: switch_dr(log.columns(), log.predictions(), TAU),
            {"lambda_": TAU},
        ),
        "dros": _Alike(
            "mixed", lambda log: dros(log.columns(), log.predictions(), LAM), {"lambda_": LAM}
        ),
        "mips": _Alike(
            "mixed", lambda log: mips(log.columns(), log.marginal()), {"n_actions": n_candidates}
        ),
    }


def _save(logs: Mapping[Kind, DenseLog], folder: Path) -> None:
    for kind, log in logs.items():
        (folder / kind).mkdir()
        log.save(folder / kind)
