"""The online learner: a loop that tails the log, folds it into a `LearnerState`, and publishes.

There is one learner. It takes the next epoch when it starts, and only the newest epoch may publish.
It publishes no state whose events are not yet on disk, and none that knows less than the current
version. Some versions also hold the state that a restart resumes from. Derivation and rejected
alternatives: `docs/decisions/serve-learner.md`.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Literal

import msgspec

from env.columns.schema import SCHEMA
from env.interface import EventLog
from env.records import TickRecord
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore
from serve.learn.fold import JOIN, LearnerState, LearningArgs
from serve.monitoring.heartbeats import EmbeddingCounts, Heartbeats, LearnerHeartbeat
from serve.store.generations import (
    ActivationConflict,
    activate,
    begin_epoch,
    current_version,
    require_epoch,
)
from serve.store.store import Activation, Store, StorePast, StoreUnavailable, write_now

logger = logging.getLogger(__name__)
BATCH_LINES = 8_000
"""Log lines folded at a time; each batch costs 3 ms to check the model and keep a rollback copy."""

BEAT_S = 1.0


class OnlineLearner:
    """Tails the log, folds it, and publishes versions that feed replicas follow."""

    def __init__(
        self,
        store: Store,
        snapshots: SnapshotStore,
        args: LearningArgs,
        *,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        publish_every_s: float = 1.0,
        resumable_share: float = 0.05,
        tick_after_s: float | None = 2.0,
        batch_lines: int = BATCH_LINES,
        beats: Heartbeats | None = None,
        told: Sequence[Callable[[LearnerState], object]] = (),
        embedding: Callable[[], EmbeddingCounts] | None = None,
        corrects_ms: int | None = None,
    ) -> None:
        """Resume from the newest usable snapshot, or else from the start of the log.

        Args:
            store: holds the log to tail, and the versions.
            snapshots: holds the published snapshots.
            args: arguments of the fold.
            now_ms: the server's clock, for ticks.
            monotonic_s: a steady clock, for the pace of publishing.
            publish_every_s: least time between two versions.
            resumable_share: largest share of the time spent on resumable versions; above 0.
            tick_after_s: quiet time after which a tick lets the join close; None: never.
            batch_lines: lines folded at a time.
            beats: receives a heartbeat about once a second; None: no heartbeats.
            told: each is called with the fold after each batch, on the learner's thread.
            embedding: counts the embedded items, for the heartbeats; None: none are.
            corrects_ms: for how long after its page late feedback corrects a card from now on; a
                line of the log then says so. None: as the log says.
        """
        self._log = store.log
        self._store = store
        self._snapshots = snapshots
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._publish_every_s = publish_every_s
        self._resumable_share = resumable_share
        self._tick_after_s = tick_after_s
        self._batch_lines = batch_lines
        self._beats = beats
        self._told = told
        self._embedding = embedding
        self._beat_s = float("-inf")
        self._checked_s = float("-inf")
        self._published_s = monotonic_s()
        self._active_s = monotonic_s()
        self._said_overdrawn: frozenset[str] = frozenset()
        self.epoch = write_now(store, begin_epoch)
        current = current_version(store)
        self._known_offset = 0 if current is None else current.offset
        self._past = StorePast(store)
        self.learning = self._resume(current, args)
        is_behind = self.learning.offset < self._log.last_offset()  # a tick may stand there
        if corrects_ms is not None and (is_behind or corrects_ms != self.learning.late.window_ms):
            # Its time is the log's: the clock of a simulated server is not this machine's.
            tick = TickRecord(self.learning.join.clock_ms, corrects_ms=corrects_ms)
            self._log.append([tick], durable=False)
        is_current = current is None or self.learning.policy.version == current.version
        self._published_news = _news(self.learning) if is_current else None
        self._version = 0 if current is None else current.version
        self._is_resumable = is_current
        self._resumable_due_s = float("-inf")

    def run(self, stop: Event, *, poll_s: float = 0.05) -> None:
        """Learn until told to stop, or until a newer epoch has taken over.

        While the store is unavailable the learner retries and keeps its folded state.
        """
        try:
            while not stop.is_set():
                if not self._step_if_available():
                    stop.wait(poll_s)
            self.publish_if_due(force=True)
            self._beat("stopped")
        except (ActivationConflict, StoreUnavailable) as error:
            logger.warning("stopped learning: %s", error)

    def _step_if_available(self) -> bool:
        try:
            self._require_office()
            return self.step()
        except StoreUnavailable as error:
            logger.warning("waits at offset=%d: %s", self.learning.offset, error)
            return False

    def _require_office(self) -> None:
        """Raise `ActivationConflict` if a newer learner has begun; looked up about once a second.

        A learner with nothing to publish would not notice otherwise.
        """
        if self._monotonic_s() - self._checked_s >= BEAT_S:
            with self._store.view() as view:
                require_epoch(view, self.epoch)
            self._checked_s = self._monotonic_s()

    def step(self) -> bool:
        """Fold the new lines and publish if due; return whether there were new lines."""
        lines = list(self._log.read(self.learning.offset, self._batch_lines))
        if lines:
            self.learning.fold(lines)
            self._active_s = self._monotonic_s()
        else:
            self._tick_if_quiet()
        self.publish_if_due()
        for tell in self._told:
            tell(self.learning)
        if self._beats is not None and self._monotonic_s() - self._beat_s >= BEAT_S:
            self._beat("learning")
        return bool(lines)

    def publish_if_due(self, *, force: bool = False) -> Activation | None:
        """Publish if the fold knows something new and the pace allows it.

        `force` ignores the pace, and publishes a resumable version if the last one is not.
        """
        due = self._monotonic_s() - self._published_s >= self._publish_every_s
        is_behind = self.learning.offset < self._known_offset
        is_known = _news(self.learning) == self._published_news
        if force and not is_behind and not (is_known and self._is_resumable):
            return self.publish(resumable=True)
        return None if is_behind or is_known or not due else self.publish()

    def publish(self, *, resumable: bool = False) -> Activation:
        """Publish a version now; raises as the function `publish`.

        A `resumable` one includes the state to resume from, even if its share of the time is used
        up.
        """
        began_s = self._monotonic_s()
        self._is_resumable = resumable or began_s >= self._resumable_due_s
        version = publish(
            self._store, self._snapshots, self.learning, self.epoch, resumable=self._is_resumable
        )
        self._published_s = self._monotonic_s()
        if self._is_resumable:
            took_s = self._published_s - began_s
            self._resumable_due_s = began_s + took_s / self._resumable_share
        self._published_news = _news(self.learning)
        self._version = version.version
        return version

    def _beat(self, state: Literal["learning", "stopped"]) -> None:
        if self._beats is None:
            return
        self._say_overdrawn()
        embedding = None if self._embedding is None else self._embedding()
        beat = heartbeat(
            self.learning, self.epoch, self._version, state, self._now_ms(), embedding=embedding
        )
        self._beats.write(f"learner-{self.epoch}", beat)
        self._beat_s = self._monotonic_s()

    def _say_overdrawn(self) -> None:
        """Log each over-committed market once."""
        overdrawn = self.learning.audiences.overdrawn()
        for market in sorted(overdrawn.keys() - self._said_overdrawn):
            logger.warning(
                "fair start overdrawn market=%s needed_share=%.3f", market, overdrawn[market]
            )
        self._said_overdrawn = frozenset(overdrawn)

    def _tick_if_quiet(self) -> None:
        quiet_s = self._monotonic_s() - self._active_s
        if self._tick_after_s is None or quiet_s < self._tick_after_s:
            return
        if self.learning.join.n_waiting:
            self._log.append([TickRecord(at_ms=self._now_ms())], durable=False)
        self._active_s = self._monotonic_s()

    def _resume(self, current: Activation | None, args: LearningArgs) -> LearnerState:
        for number in reversed(self._snapshots.versions()):
            try:
                if JOIN not in self._snapshots.manifest(number).parts:
                    continue
                snapshot = self._snapshots.load(number)
                obstacle = _obstacle(snapshot.manifest, current, args, self._log)
                if not obstacle:
                    return LearnerState.restore(snapshot, args, self._past)
            except (SnapshotCorruption, FileNotFoundError) as error:
                obstacle = str(error)
            logger.warning("passed over version=%d: %s", number, obstacle)
        return LearnerState(args, self._past)


def _news(learning: LearnerState) -> tuple[int, int]:
    """Return what grows whenever a fold knows more than before."""
    return learning.learned, learning.imported


def heartbeat(
    learning: LearnerState,
    epoch: int,
    version: int,
    state: Literal["learning", "stopped"],
    at_ms: int,
    *,
    embedding: EmbeddingCounts | None = None,
) -> LearnerHeartbeat:
    """Return the heartbeat of a learner with this fold.

    Args:
        learning: the fold.
        epoch: of the learner.
        version: last one published or resumed from.
        state: of the learner.
        at_ms: now.
        embedding: counts of the hook, if there is one.
    """
    counts = learning.join.counts
    return LearnerHeartbeat(
        at_ms=at_ms,
        epoch=epoch,
        state=state,
        version=version,
        offset=learning.offset,
        learned=learning.policy.n_events,
        closed=counts.closed,
        censored=counts.censored,
        never_seen=counts.never_seen,
        late=counts.late,
        late_outcomes=msgspec.structs.asdict(learning.late.counts),
        refused=learning.policy.refusals,
        poisoned=learning.poisoned,
        rollbacks=learning.rollbacks,
        overdrawn=learning.audiences.overdrawn(),
        custom_failed={custom.name: custom.failed for custom in learning.custom},
        embedding=embedding,
    )


def _obstacle(
    manifest: Manifest, current: Activation | None, args: LearningArgs, log: EventLog
) -> str:
    """Return the reason why a snapshot cannot be resumed from; empty if it can.

    A snapshot that never became current is usable if it covers no more of the log.
    """
    offset = sum(manifest.offsets)
    if current is None or offset > current.offset:
        return "it was never made current"
    if manifest.offsets != log.shard_offsets(offset):
        return f"it is of another log, read up to {manifest.offsets}"
    if manifest.version == current.version and manifest.digest != current.digest:
        return "it is not the one that was published"
    if (manifest.feature_schema, manifest.args) != (SCHEMA, args.manifest_args()):
        return "it was folded under other arguments"
    return ""


def publish(
    store: Store,
    snapshots: SnapshotStore,
    learning: LearnerState,
    epoch: int,
    *,
    resumable: bool = True,
) -> Activation:
    """Make a fold the current version; all events it has learned from are then on disk.

    Args:
        store: holds the version rows.
        snapshots: takes the snapshot.
        learning: the fold.
        epoch: epoch of the learner.
        resumable: whether a learner can resume from it, also after a power cut.

    Raises:
        ActivationConflict: a newer learner has taken over; at most an unused snapshot was written.
    """
    # A durable barrier: after it, all folded lines are on disk.
    write_now(store, partial(require_epoch, epoch=epoch))
    with store.view() as view:
        number = max(view.last_version_number("policy"), *snapshots.versions(), 0) + 1
    manifest = learning.manifest(number, epoch, store.log)
    parts = learning.version_parts(number, resumable=resumable)
    # Other snapshots lost in a power cut are folded again, so feedback need not wait for a flush.
    written = snapshots.publish(manifest, parts, durable=resumable)
    version = Activation(number, epoch, learning.offset, written.digest)
    write_now(store, partial(activate, activation=version))
    logger.debug("published version=%d offset=%d", number, learning.offset)
    return version
