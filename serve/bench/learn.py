"""Benchmark of learning from the log: read, check, decode, join, and train in Vowpal Wabbit.

Simulated users swipe pages into a log on disk, which is then read from its beginning in the
learner's batches: once up to the bandit, once through the whole fold. A study compares it with
Vowpal Wabbit's own dsjson parser. Method: `docs/decisions/bench-learn.md`.
"""

import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from env.records import LogLine, PageRecord
from env.reward import is_censored
from env.vocabulary import Context, Interaction, PageId
from policies.bandit.policy import HybridBandit
from replay.join.join import Join
from replay.log.sqlite.database import Database
from replay.log.sqlite.log import SqliteLog
from serve.bench.room import Advance, InProcessServer
from serve.config import Config
from serve.learn.fold import LearnerState
from serve.learn.learner import BATCH_LINES
from serve.learn.settings import learning_args

N_ITEMS = 2_000
N_CONTEXTS = 100
"""Pages whose contexts are kept for a comparison with other learners."""

N_ROUNDS = 3
"""Rounds of each measurement; the fastest counts, as interference only slows a round down."""


class LearnResult(msgspec.Struct, frozen=True):
    """Learning rates from a log.

    Attributes:
        interactions_per_s: read, decode, join and train the bandit.
        fold_per_s: the same with item states and audiences, as a published version holds.
    """

    lines: int
    interactions: int
    candidates: int
    seed: int
    interactions_per_s: float
    fold_per_s: float


class TimedLearning(NamedTuple):
    """A result with the interactions that were learned and contexts of the first pages."""

    result: LearnResult
    known: list[Interaction]
    contexts: dict[PageId, Context]


def run_learn(
    *,
    n_pages: int,
    seed: int,
    now_ms: int,
    clock_ns: Callable[[], int],
    advance: Advance,
    n_items: int = N_ITEMS,
) -> TimedLearning:
    """Swipe pages into a log, then learn from it.

    Args:
        n_pages: pages, of 10 cards each.
        seed: seed of the items, the users and their choices.
    """
    config = Config()
    room = InProcessServer.of(config, n_items, seed, now_ms, advance)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "log.db")
        try:
            log = SqliteLog(database, now_ms=lambda: now_ms)
            contexts: dict[PageId, Context] = {}
            for k in range(n_pages):
                lines = room.swipe_page(k)
                log.append([line.record for line in lines], durable=False)
                page = lines[0].record
                if k < N_CONTEXTS and isinstance(page, PageRecord):
                    contexts[page.page_id] = room.context_of(page)
                advance("swipe", k + 1, n_pages)
            into_vw = [_time_into_vw(log, config, clock_ns) for _ in range(N_ROUNDS)]
            advance("learn", 1, 2)
            folds = [_time_fold(log, config, clock_ns) for _ in range(N_ROUNDS)]
            advance("learn", 2, 2)
        finally:
            database.close()
    seconds, known = min(into_vw, key=itemgetter(0))
    fold_s, n_closed, n_lines = min(folds)
    result = LearnResult(
        lines=n_lines,
        interactions=n_closed,
        candidates=config.feed.candidates,
        seed=seed,
        interactions_per_s=len(known) / seconds,
        fold_per_s=n_closed / fold_s,
    )
    return TimedLearning(result, known, contexts)


def _time_into_vw(
    log: SqliteLog, config: Config, clock_ns: Callable[[], int]
) -> tuple[float, list[Interaction]]:
    """Return the seconds from the log's first line to a trained bandit, and its interactions."""
    args = learning_args(config)
    policy, join = HybridBandit(args.vowpal), Join(args.reward, settle_ms=args.settle_ms)
    learned: list[Interaction] = []
    began_ns = clock_ns()
    for lines in _batches(log):
        closed = [interaction for line in lines for interaction in join.fold(line.record)]
        known = [i for i in closed if not is_censored(i.feedback, i.duration_s)]
        policy.learn(known)
        learned += known
    return (clock_ns() - began_ns) / 1e9, learned


def _time_fold(
    log: SqliteLog, config: Config, clock_ns: Callable[[], int]
) -> tuple[float, int, int]:
    """Return the seconds of the whole fold, the closed interactions, and the last offset."""
    learning, n_closed = LearnerState(learning_args(config)), 0
    began_ns = clock_ns()
    for lines in _batches(log):
        n_closed += learning.fold(lines)
    return (clock_ns() - began_ns) / 1e9, n_closed, learning.offset


def _batches(log: SqliteLog) -> Iterator[list[LogLine]]:
    lines = log.read()
    while batch := list(islice(lines, BATCH_LINES)):
        yield batch
