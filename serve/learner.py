"""The online learner: one fold of the log into a policy, item states and an open join.

`Learning` is the fold itself, pure and restartable at any line: given the same log it holds the
same bytes, however often it was interrupted. `OnlineLearner` is the loop around it: tail the
log, fold, publish. There is one; it takes the next epoch when it starts, and a version row is
only written by the newest epoch, so a learner that was stopped and comes back cannot publish
over its successor.

Before it publishes, it forces a durable commit: a page may be in the log before it is on disk,
and a model must never know of a page that a power cut would take back. And it publishes nothing
that knows less than the current version: where no snapshot can be resumed from, because they are
broken or were folded under other arguments, it folds the log from its start first.

Rejected: learning inside the feed replicas (several writers of one model), publishing each batch
(a snapshot costs more than a batch), and a clock inside the fold (it could not be repeated).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import msgspec

from env.features import SCHEMA
from env.interface import EventLog
from env.items import ItemStates
from env.records import LogLine, TickRecord
from env.reward import Reward, is_censored
from env.vocabulary import Interaction
from policies.snapshots import Manifest, Snapshot, SnapshotCorruption, SnapshotStore
from policies.vowpal import PoisonedModel, VowpalPolicy
from policies.vowpal_args import VowpalArgs
from replay.database import Database
from replay.join import Join
from serve.state import StaleEpoch, State, Version

logger = logging.getLogger(__name__)

BATCH_LINES = 2_000


@dataclass(frozen=True, slots=True)
class LearningArgs:
    """What the fold depends on besides the log.

    Attributes:
        vowpal: arguments of the policy.
        reward: what is learned.
        settle_ms: the join's settling time.
    """

    vowpal: VowpalArgs
    reward: Reward
    settle_ms: int = 2_000

    def manifest_args(self) -> dict[str, Any]:
        """Return them as a manifest holds them, without the explorer: folding does not explore."""
        args: dict[str, Any] = msgspec.to_builtins(self)
        del args["vowpal"]["explorer"]
        return args


class Learning:
    """The fold: policy, item states and join at one offset of the log."""

    def __init__(self, args: LearningArgs) -> None:
        """Start before the first record."""
        self.offset = 0
        self.learned = 0
        self.poisoned = 0
        self.args = args
        self.policy = VowpalPolicy(args.vowpal)
        self.states = ItemStates()
        self.join = Join(args.reward, settle_ms=args.settle_ms)

    @classmethod
    def restore(cls, snapshot: Snapshot, args: LearningArgs) -> "Learning":
        """Return the fold as a snapshot holds it."""
        learning = cls(args)
        learning.offset = snapshot.manifest.offsets[0]
        learning.policy = VowpalPolicy.from_bytes(
            snapshot.parts["model"], args.vowpal, version=snapshot.manifest.version
        )
        learning.states = ItemStates.from_bytes(snapshot.parts["items"])
        learning.join = Join.from_bytes(
            snapshot.parts["join"], args.reward, settle_ms=args.settle_ms
        )
        return learning

    def fold(self, lines: Sequence[LogLine]) -> int:
        """Fold lines that follow the offset, in order; return how many interactions closed."""
        closed: list[Interaction] = []
        for line in lines:
            closed.extend(self.join.fold(line.record))
        for interaction in closed:
            self.states.fold(interaction)
        known = [i for i in closed if not is_censored(i.feedback, i.duration_s)]
        if known:
            self._learn(known)
        if lines:
            self.offset = lines[-1].offset
        return len(closed)

    def _learn(self, known: Sequence[Interaction]) -> None:
        """Learn, halving a batch that poisons the model until what did it stands alone."""
        try:
            self.policy.learn(known)
            self.learned += len(known)
        except PoisonedModel:
            if len(known) == 1:
                self.poisoned += 1
                logger.exception("left out decision=%s", known[0].decision_id)
                return
            half = len(known) // 2
            self._learn(known[:half])
            self._learn(known[half:])

    def parts(self) -> dict[str, bytes]:
        """Return the parts of a snapshot; equal folds give equal bytes."""
        return {
            "model": self.policy.to_bytes(),
            "items": self.states.to_bytes(),
            "join": self.join.to_bytes(),
        }


class OnlineLearner:
    """Tails the log, folds it, and publishes versions that feed replicas follow."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        state: State,
        store: SnapshotStore,
        args: LearningArgs,
        *,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        publish_every_s: float = 1.0,
        tick_after_s: float | None = 2.0,
        batch_lines: int = BATCH_LINES,
    ) -> None:
        """Resume from the newest good snapshot, else from the start of the log.

        Args:
            database: holds log and versions.
            log: to tail.
            state: holds the versions.
            store: holds the snapshots.
            args: of the fold.
            now_ms: the server's clock, for ticks.
            monotonic_s: a steady clock, for the pace of publishing.
            publish_every_s: least time between two versions.
            tick_after_s: quiet time after which a tick lets the join close; None: never.
            batch_lines: lines folded at a time.
        """
        self._log = log
        self._state = state
        self._store = store
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._publish_every_s = publish_every_s
        self._tick_after_s = tick_after_s
        self._batch_lines = batch_lines
        self._published_s = monotonic_s()
        self._active_s = monotonic_s()
        self.epoch = database.write(state.next_epoch, durable=True).result()
        current = state.current_version()
        self._known_offset = 0 if current is None else current.offset
        self.learning = self._resume(current, args)
        is_current = self.learning.offset == self._known_offset
        self._published_learned = self.learning.learned if is_current else -1

    def run(self, stop: Event, *, poll_s: float = 0.05) -> None:
        """Learn until told to stop, or until a newer epoch has taken over."""
        try:
            while not stop.is_set():
                if not self.step():
                    stop.wait(poll_s)
            self.publish_if_due(force=True)
        except StaleEpoch as error:
            logger.warning("stopped learning: %s", error)

    def step(self) -> bool:
        """Fold what is new and publish if due; return whether there was anything."""
        lines = list(self._log.read(self.learning.offset, self._batch_lines))
        if lines:
            self.learning.fold(lines)
            self._active_s = self._monotonic_s()
        else:
            self._tick_if_quiet()
        self.publish_if_due()
        return bool(lines)

    def publish_if_due(self, *, force: bool = False) -> Version | None:
        """Publish a version if something was learned and the pace allows it."""
        due = self._monotonic_s() - self._published_s >= self._publish_every_s
        is_behind = self.learning.offset < self._known_offset
        is_known = self.learning.learned == self._published_learned
        if is_behind or is_known or not (due or force):
            return None
        version = publish(self._state, self._store, self.learning, self.epoch)
        self._published_s = self._monotonic_s()
        self._published_learned = self.learning.learned
        return version

    def _tick_if_quiet(self) -> None:
        quiet_s = self._monotonic_s() - self._active_s
        if self._tick_after_s is None or quiet_s < self._tick_after_s:
            return
        if self.learning.join.n_waiting:
            self._log.append([TickRecord(at_ms=self._now_ms())], durable=False)
        self._active_s = self._monotonic_s()

    def _resume(self, current: Version | None, args: LearningArgs) -> Learning:
        for snapshot in self._snapshots():
            obstacle = _obstacle(snapshot.manifest, current, args)
            if not obstacle:
                return Learning.restore(snapshot, args)
            logger.warning("passed over version=%d: %s", snapshot.manifest.version, obstacle)
        return Learning(args)

    def _snapshots(self) -> Iterator[Snapshot]:
        """Yield the snapshots that are whole, the newest first."""
        for number in reversed(self._store.versions()):
            try:
                yield self._store.load(number)
            except (SnapshotCorruption, FileNotFoundError) as error:
                logger.warning("passed over version=%d: %s", number, error)


def _obstacle(manifest: Manifest, current: Version | None, args: LearningArgs) -> str:
    """Return why a snapshot cannot be resumed from; empty if it can.

    One that was never made current is a fold of the log all the same, if it knows no more of it.
    """
    if current is None or manifest.offsets[0] > current.offset:
        return "it was never made current"
    if manifest.version == current.version and manifest.digest != current.digest:
        return "it is not the one that was published"
    if (manifest.feature_schema, manifest.args) != (SCHEMA, args.manifest_args()):
        return "it was folded under other arguments"
    return ""


def publish(state: State, store: SnapshotStore, learning: Learning, epoch: int) -> Version:
    """Make a fold the current version, on disk with all it was learned from when this returns.

    Raises:
        StaleEpoch: a newer learner has taken over; the snapshot stays, and no replica uses it.
    """
    database = state.database
    database.write(lambda connection: None, durable=True).result()
    number = max(state.last_version_number(), *store.versions(), 0) + 1
    manifest = Manifest(
        version=number,
        epoch=epoch,
        offsets=(learning.offset,),
        feature_schema=SCHEMA,
        reward_version=learning.args.reward.version,
        args=learning.args.manifest_args(),
    )
    scorer = learning.policy.frozen(number).to_bytes()
    written = store.publish(manifest, {**learning.parts(), "scorer": scorer})
    version = Version(number, epoch, learning.offset, written.digest)
    database.write(
        lambda connection: state.publish_version(connection, version), durable=True
    ).result()
    logger.info("published version=%d offset=%d", number, learning.offset)
    return version
