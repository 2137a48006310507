"""Trains the bandit from its log, and publishes it only if held-out pages say that it does no harm.

The log is folded from its start under the configured arguments; that is how a model comes by other
ones than it was learned under. What had been learned before a time is judged on the pages that were
drawn from then on (`serve.gate`); the fold then goes on to the end of the log and is published as
the next version, which a server resumes from when it is started.

It takes the learner's place, so it refuses a data folder on which a server runs, and takes an
epoch when it publishes: only if no learner began since, which would have a newer one.

Rejected: judging a model on what it learned from, and a gate on an estimate itself instead of a
bound of it (noise would pass it half of the time).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from env.interface import EventLog, Policy
from replay.dataset import Dataset, read
from replay.evaluate import Report, evaluate
from serve.config import Config
from serve.data_folder import open_data, require_idle
from serve.gate import Gate
from serve.learner import BATCH_LINES, publish
from serve.learning import Learning
from serve.refused import Refused
from serve.replica import learning_args, open_snapshots
from serve.store import Transaction, write_now
from serve.versions import StaleEpoch, Version, begin_epoch, require_epoch

Advance = Callable[[int], None]
"""Told how many lines of the log were folded since it was last told."""

_GATE = Gate()


class Trained(msgspec.Struct, frozen=True):
    """What training came to.

    Attributes:
        report: of what was learned before the held-out pages, on them.
        refusals: the gates that it did not pass; if there are any, nothing was changed.
        learned: interactions that it learned: all, if it was published, else those before the
            held-out pages.
        version: as it was published; None: it was not.
    """

    report: Report
    refusals: tuple[str, ...]
    learned: int
    version: Version | None


class _Split(NamedTuple):
    """Where the held-out pages begin."""

    at_ms: int  # they were drawn then or later
    offset: int  # of the last line before the first of them


def train_bandit(
    config: Config,
    *,
    holdout: float = 0.2,
    gate: Gate = _GATE,
    advance: Advance | None = None,
) -> Trained:
    """Fold the log, judge it on its last pages, and publish it if it passes.

    Args:
        config: data folder, learner's arguments and reward.
        holdout: share of the pages that are held out, in (0, 1); the latest.
        gate: which it must pass.
        advance: told of progress; in total, of as many lines as the log has, if it passes.

    Raises:
        Refused: no log, a server runs on it, too little in it to judge by, or a learner was
            started meanwhile.
        LogCorruption: a line is not what was written.
    """
    require_idle(config)
    with open_data(config) as store:
        log = store.log
        with store.view() as view:
            epoch, last = view.newest_epoch(), view.last_version_number()
        split = _split(log, holdout)
        learning = Learning(learning_args(config))
        _fold(learning, log, split.offset, advance)
        candidate = learning.policy.frozen(last + 1)
        report = _judge(_held_out(config, log, split), candidate)
        refusals = gate.refusals(report)
        if refusals:
            return Trained(report, refusals, learning.learned, None)
        _fold(learning, log, log.last_offset(), advance)
        try:
            taken = write_now(store, partial(_take_epoch, epoch))
            version = publish(store, open_snapshots(config), learning, taken)
        except StaleEpoch as error:
            raise Refused(f"nothing was published: {error}") from error
        return Trained(report, refusals, learning.learned, version)


def _take_epoch(newest: int, transaction: Transaction) -> int:
    """Begin an epoch, unless a learner has begun one since."""
    require_epoch(transaction, newest)
    return begin_epoch(transaction)


def _split(log: EventLog, holdout: float) -> _Split:
    """Return the time that leaves this share of the pages behind it, or a little more.

    Pages of several replicas may stand in the log in another order than they were drawn in: what
    was drawn before that time and logged after it is on neither side.
    """
    pages = [(line.record.at_ms, line.offset) for line in log.read(kinds=["page"])]
    n_held_out = round(holdout * len(pages))
    at_ms = sorted(pages)[-n_held_out][0] if n_held_out else 0
    offset = min((line for drawn_ms, line in pages if drawn_ms >= at_ms), default=1) - 1
    if not n_held_out or not any(line <= offset for _, line in pages):
        raise Refused(
            f"expected pages to learn from and pages to judge by, got {len(pages)} in all and "
            f"{holdout} of them held out"
        )
    return _Split(at_ms, offset)


def _fold(learning: Learning, log: EventLog, up_to: int, advance: Advance | None) -> None:
    while learning.offset < up_to:
        lines = list(log.read(learning.offset, min(BATCH_LINES, up_to - learning.offset)))
        lines = [line for line in lines if line.offset <= up_to]
        if not lines:  # the last offsets were given to duplicates
            return
        learning.fold(lines)
        if advance is not None:
            advance(len(lines))


def _held_out(config: Config, log: EventLog, split: _Split) -> Dataset:
    try:
        return read(log.read(), config.reward, lambda page: page.at_ms >= split.at_ms)
    except ValueError as error:
        raise Refused(f"the log cannot be evaluated: {error}") from error


def _judge(dataset: Dataset, candidate: Policy) -> Report:
    try:
        return evaluate(dataset, candidate, force=True)
    except ValueError as error:
        raise Refused(f"the held-out pages are too little to judge by: {error}") from error
