"""Training of the bandit from its log, published only if held-out pages show that it does no harm.

The log is folded from its start under the configured arguments. The model learned before a split
time is judged on the pages after it; if it passes, the fold continues to the end and becomes the
next version. A server may be running: its learner stands by while the version is published, and
goes on from it. Rejected alternatives: `docs/decisions/jobs-bandit-training.md`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from env.interface import EventLog, Policy
from policies.snapshots import SnapshotCorruption
from replay.evaluate.evaluate import PolicyReport, evaluate
from replay.join.dataset import Dataset, read
from serve.config import Config
from serve.errors import JobError
from serve.learn.fold import LearnerState
from serve.learn.gate import Gate
from serve.learn.learner import BATCH_LINES, heartbeat, publish
from serve.learn.settings import learning_args, open_snapshots
from serve.monitoring.heartbeats import Heartbeats, LearnerHeartbeat
from serve.monitoring.status import SILENT_S
from serve.store.data_folder import open_data
from serve.store.generations import (
    ActivationConflict,
    begin_epoch,
    current_version,
    require_epoch,
)
from serve.store.store import Activation, Store, StorePast, Transaction, write_now

Advance = Callable[[int], None]
"""Called with the number of log lines folded since the last call."""

_GATE = Gate()


class TrainedBandit(msgspec.Struct, frozen=True):
    """Outcome of a training.

    Attributes:
        report: evaluation on the held-out pages of the model learned before them.
        refusals: failed gates; if any, nothing was changed.
        learned: interactions learned from: all, if it was published, else those before the held-out
            pages.
        version: the published version; None: none was published.
    """

    report: PolicyReport
    refusals: tuple[str, ...]
    learned: int
    version: Activation | None

    def describe(self) -> str:
        """Return the outcome in words, a line for each finding."""
        logged, gain, health = self.report.logged, self.report.gain, self.report.health
        more = (
            ""
            if gain is None
            else f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] as trained, "
        )
        lines = [
            (
                f"held-out pages: {logged.value:.4f} a card as logged, {more}by {health.ess:,.0f} "
                f"effective decisions of {health.n_users:,} users"
            )
        ]
        lines += [f"gate not passed: {refusal}" for refusal in self.refusals]
        version = self.version
        lines.append("not published" if version is None else f"published version {version.version}")
        return "\n".join(lines)


class _Split(NamedTuple):
    """Start of the held-out pages."""

    at_ms: int  # held-out pages were drawn then or later
    offset: int  # of the last line before the first of them


def train_bandit(
    config: Config,
    *,
    holdout: float = 0.2,
    gate: Gate = _GATE,
    now_ms: int = 0,
    advance: Advance | None = None,
) -> TrainedBandit:
    """Fold the log, judge the model on the last pages, and publish it if it passes.

    Args:
        config: data folder, learner's arguments and reward.
        holdout: share of the pages, the latest, that is held out, in (0, 1).
        gate: gate to pass.
        now_ms: the wall clock, for the sign that a running learner takes over at.
        advance: progress callback; the total is the number of log lines, if it passes.

    Raises:
        JobError: there is no log, a learner is running under other arguments, the log is too small,
            or a learner was started meanwhile.
        LogCorruption: a line differs from the written one.
    """
    with open_data(config) as store:
        log = store.log
        _require_like_arguments(config, store, now_ms)
        with store.view() as view:
            epoch, last = view.newest_epoch("policy"), view.last_version_number("policy")
        split = _split(log, holdout)
        learning = LearnerState(learning_args(config), StorePast(store))
        _fold(learning, log, split.offset, advance)
        candidate = learning.policy.frozen(last + 1)
        report = _judge(_held_out(config, store, split), candidate)
        refusals = gate.refusals(report)
        if refusals:
            return TrainedBandit(report, refusals, learning.learned, None)
        _fold(learning, log, log.last_offset(), advance)
        try:
            taken = write_now(store, partial(_take_epoch, epoch))
            _fold(
                learning, log, log.last_offset(), None
            )  # a version that knows less is not current
            version = publish(store, open_snapshots(config), learning, taken)
        except ActivationConflict as error:
            raise JobError(f"nothing was published: {error}") from error
        _hand_over(config, learning, version, now_ms)
        return TrainedBandit(report, refusals, learning.learned, version)


def _require_like_arguments(config: Config, store: Store, now_ms: int) -> None:
    """Refuse arguments under which a running learner would not go on from what is published.

    It would fold the log under its own and replace the version.
    """
    current = current_version(store)
    beats = Heartbeats(Path(config.data.folder)).read()
    is_running = any(
        isinstance(beat, LearnerHeartbeat)
        and beat.state == "learning"
        and abs(now_ms - beat.at_ms) < 1000 * SILENT_S
        for beat in beats.values()
    )
    if current is None or not is_running:
        return
    try:
        learned_under = open_snapshots(config).manifest(current.version).args
    except (FileNotFoundError, SnapshotCorruption):
        return
    if learned_under != learning_args(config).manifest_args():
        raise JobError(
            "a server is learning under other settings than these, and would replace what is "
            "trained here: restart it with these settings, under which it folds the log itself"
        )


def _hand_over(config: Config, learning: LearnerState, version: Activation, now_ms: int) -> None:
    """Tell a learner that stands by that this one has stopped, so that it goes on at once."""
    beat = heartbeat(learning, version.epoch, version.version, "stopped", now_ms)
    Heartbeats(Path(config.data.folder)).write(f"learner-{version.epoch}", beat)


def _take_epoch(newest: int, transaction: Transaction) -> int:
    """Begin an epoch, unless a learner has begun one since."""
    require_epoch(transaction, newest)
    return begin_epoch(transaction)


def _split(log: EventLog, holdout: float) -> _Split:
    """Return the split time that holds out this share of the pages, or a little more.

    Replicas may log pages in another order than they were drawn in. A page drawn before that time
    and logged after it is on neither side.
    """
    pages = [(line.record.at_ms, line.offset) for line in log.read(kinds=["page"])]
    n_held_out = round(holdout * len(pages))
    at_ms = sorted(pages)[-n_held_out][0] if n_held_out else 0
    offset = min((line for drawn_ms, line in pages if drawn_ms >= at_ms), default=1) - 1
    if not n_held_out or not any(line <= offset for _, line in pages):
        raise JobError(
            f"expected pages to learn from and pages to judge by, got {len(pages)} in all and "
            f"{holdout} of them held out"
        )
    return _Split(at_ms, offset)


def _fold(learning: LearnerState, log: EventLog, up_to: int, advance: Advance | None) -> None:
    while learning.offset < up_to:
        lines = list(log.read(learning.offset, min(BATCH_LINES, up_to - learning.offset)))
        lines = [line for line in lines if line.offset <= up_to]
        if not lines:  # the last offsets were given to duplicates
            return
        learning.fold(lines)
        if advance is not None:
            advance(len(lines))


def _held_out(config: Config, store: Store, split: _Split) -> Dataset:
    try:
        return read(
            store.log.read(),
            config.reward,
            lambda page: page.at_ms >= split.at_ms,
            default_reward=config.join.default_reward,
            past=StorePast(store),
        )
    except ValueError as error:
        raise JobError(f"the log cannot be evaluated: {error}") from error


def _judge(dataset: Dataset, candidate: Policy) -> PolicyReport:
    try:
        return evaluate(dataset, candidate, force=True)
    except ValueError as error:
        raise JobError(f"the held-out pages are too little to judge by: {error}") from error
