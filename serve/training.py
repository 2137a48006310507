"""Trains the bandit from its log, and publishes it only if held-out pages say that it is better.

The log is folded from its start under the configured arguments; that is how a model comes by
other ones than it was learned under. What had been learned before the last pages were drawn is
judged on them by the doubly robust estimate; the fold then goes on to the end of the log and is
published as the next version, which a server resumes from when it is started.

It takes the learner's place, so it refuses a data folder on which a server runs, and takes an
epoch of its own: a learner that starts meanwhile has a newer one, and publishing fails.

Rejected: judging a model on what it learned from, and a gate on the estimate itself instead of
its lower bound (noise would pass it half of the time).
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from env.interface import Policy
from env.records import PageRecord
from replay.dataset import Dataset, read
from replay.evaluate import Report, evaluate
from replay.log import Kind, SqliteLog
from serve.config import Config
from serve.data_folder import open_data, require_idle
from serve.learner import BATCH_LINES, Learning, publish
from serve.refused import Refused
from serve.replica import learning_args, open_snapshots
from serve.state import StaleEpoch, State, Version

Advance = Callable[[int], None]
"""Told how many lines of the log were folded since it was last told."""


class Trained(msgspec.Struct, frozen=True):
    """What training came to.

    Attributes:
        report: of what was learned before the held-out pages, on them.
        learned: interactions in the fold of the whole log.
        version: as it was published; None: the gate was not passed, nothing was changed.
    """

    report: Report
    learned: int
    version: Version | None


@dataclass(frozen=True, slots=True)
class _Split:
    """Where the held-out pages begin."""

    offset: int  # of the last line before them
    pages: frozenset[str]


def train_bandit(
    config: Config, *, holdout: float = 0.2, advance: Advance | None = None
) -> Trained:
    """Fold the log, judge it on its last pages, and publish it if it passes.

    Args:
        config: data folder, learner's arguments and reward.
        holdout: share of the pages that are held out, in (0, 1); the latest.
        advance: told of progress; in total, of as many lines as the log has.

    Raises:
        Refused: no log, a server runs on it, too little in it to judge by, or a learner was
            started meanwhile.
        LogCorruption: a line is not what was written.
    """
    require_idle(config)
    with open_data(config) as database:
        log, state = SqliteLog(database, now_ms=lambda: 0), State(database)
        epoch = database.write(state.next_epoch, durable=True).result()
        split = _split(log, holdout)
        learning = Learning(learning_args(config))
        _fold(learning, log, split.offset, advance)
        candidate = learning.policy.frozen(max(state.last_version_number(), 0) + 1)
        report = _judge(_held_out(config, log, split), candidate)
        _fold(learning, log, log.last_offset(), advance)
        if not _passes(report):
            return Trained(report, learning.learned, None)
        try:
            version = publish(state, open_snapshots(config), learning, epoch)
        except StaleEpoch as error:
            raise Refused(f"nothing was published: {error}") from error
        return Trained(report, learning.learned, version)


def _passes(report: Report) -> bool:
    return report.estimate("dr").low > report.logged.value


def _split(log: SqliteLog, holdout: float) -> _Split:
    """Return the split by time: the log's order is that of its pages' drawing."""
    kinds: tuple[Kind, ...] = ("page",)
    pages = [
        (line.offset, line.record.page_id)
        for line in log.read(kinds=kinds)
        if isinstance(line.record, PageRecord)
    ]
    n_held_out = round(holdout * len(pages))
    if not 0 < n_held_out < len(pages):
        raise Refused(
            f"expected pages to learn from and pages to judge by, got {len(pages)} in all and "
            f"{holdout} of them held out"
        )
    held_out = pages[-n_held_out:]
    return _Split(held_out[0][0] - 1, frozenset(page_id for _, page_id in held_out))


def _fold(learning: Learning, log: SqliteLog, up_to: int, advance: Advance | None) -> None:
    while learning.offset < up_to:
        lines = list(log.read(learning.offset, min(BATCH_LINES, up_to - learning.offset)))
        lines = [line for line in lines if line.offset <= up_to]
        if not lines:  # the last offsets were given to duplicates
            return
        learning.fold(lines)
        if advance is not None:
            advance(len(lines))


def _held_out(config: Config, log: SqliteLog, split: _Split) -> Dataset:
    try:
        return read(log.read(), config.reward, lambda page: page.page_id in split.pages)
    except ValueError as error:
        raise Refused(f"the log cannot be evaluated: {error}") from error


def _judge(dataset: Dataset, candidate: Policy) -> Report:
    try:
        return evaluate(dataset, candidate)
    except ValueError as error:
        raise Refused(f"the held-out pages are too little to judge by: {error}") from error
