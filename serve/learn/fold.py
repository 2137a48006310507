"""The learner's state: policy, item states, audiences, answers and open join at one log offset.

It is a pure fold of the log that can restart at any line: the same log gives the same bytes. The
learner runs it on the log's tail, an audit on the whole log. Rate-limited impressions count as
seen, but the policy and the statistics learn nothing from them. Derivation:
`docs/decisions/serve-learner.md`.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from env.columns.schema import SCHEMA
from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs
from env.feedback import SHIPPED
from env.history import n_views
from env.interface import EventLog, Past
from env.items.statistics import ItemStates
from env.records import FeedbackRecord, HistoryRecord, ItemRecord, LogLine, Record
from env.reward import Reward, is_censored
from env.vocabulary import Correction, Example, Interaction, interaction_of
from policies.bandit.policy import HybridBandit, PoisonedModel
from policies.bandit.settings import HybridBanditArgs
from policies.collaborative.answers import AnswerWindow
from policies.custom.learning import CustomLearning, decode_state, part_name
from policies.custom.load import CustomCode, say
from policies.snapshots import Manifest, Snapshot, SnapshotCorruption
from replay.join.join import Join
from replay.join.late import KeptPast, LateFeedback

logger = logging.getLogger(__name__)
JOIN, ANSWERS, LATE = "join", "answers", "late"
"""Parts of a snapshot that are needed to resume learning, but not to draw pages."""


@dataclass(frozen=True, slots=True)
class LearningArgs:
    """The inputs of the fold besides the log."""

    vowpal: HybridBanditArgs  # arguments of the policy
    reward: Reward
    settle_ms: int = 2_000  # the join's grace period
    audiences: AudienceArgs = field(default_factory=AudienceArgs)  # delivery guarantees, rollout
    custom: tuple[CustomCode, ...] = ()  # custom policies that learn beside it
    answers: int = 0  # size of the window that item factors are learned from; 0: none is kept
    interests: tuple[tuple[str, float], ...] = ()  # of signals, by name, where not as shipped
    default_reward: float | None = None  # of a card of which nothing was reported; None: no example

    def manifest_args(self) -> dict[str, Any]:
        """Return the arguments for a manifest, without the explorer, which folding does not use."""
        args: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(replace(self, custom=())))
        del args["vowpal"]["explorer"], args["custom"]
        if not self.answers:  # without it, the arguments are those of a release that knew of none
            del args["answers"]
        if self.default_reward is None:  # the same
            del args["default_reward"]
        if self.custom:  # without any, the arguments are those of a release that knew of none
            args["custom"] = {code.name: code.code for code in self.custom}
        if not self.interests or not self.answers:
            del args["interests"]
        if self.reward.tallies == SHIPPED.tallies:  # as in releases that knew of no others
            del args["reward"]["tallies"]
        return args


class LearnerState:
    """The fold: policy, item states, audiences, answers and join at one offset of the log."""

    def __init__(self, args: LearningArgs, past: Past | None = None) -> None:
        """Start before the first line.

        Args:
            args: the inputs besides the log.
            past: finds the pages of late feedback; None: they stay in memory, once the log says
                that late feedback corrects.
        """
        self.offset = 0
        self.learned = 0
        self.poisoned = 0
        self.rollbacks = 0
        self.imported = 0  # views of imported histories
        self.args = args
        self.policy = HybridBandit(args.vowpal)
        self.states = ItemStates()
        self.audiences = Audiences(args.audiences)
        self.join = Join(args.reward, settle_ms=args.settle_ms, default_reward=args.default_reward)
        self.late = LateFeedback(args.reward, args.default_reward)
        kept = KeptPast()
        self._past: Past = kept if past is None else past
        self._kept = kept if past is None else None
        self.custom = tuple(CustomLearning(code) for code in args.custom)
        self.window = None
        if args.answers:
            self.window = AnswerWindow(args.answers, dict(args.interests))

    @classmethod
    def restore(cls, snapshot: Snapshot, args: LearningArgs, past: Past) -> "LearnerState":
        """Return the fold as a snapshot holds it; one of an older release corrects nothing yet.

        Its past must have the lines before the snapshot.

        Raises:
            SnapshotCorruption: a part is missing or cannot be decoded by this release.
        """
        learning, manifest, parts = cls(args, past), snapshot.manifest, snapshot.parts
        try:
            learning.offset = sum(manifest.offsets)
            learning.policy = HybridBandit.from_bytes(
                parts["model"], args.vowpal, version=manifest.version
            )
            learning.states = ItemStates.from_bytes(parts["items"])
            learning.audiences = Audiences.from_bytes(parts["audiences"], args.audiences)
            learning.join = Join.from_bytes(
                parts[JOIN],
                args.reward,
                settle_ms=args.settle_ms,
                default_reward=args.default_reward,
            )
            if LATE in parts:
                learning.late = LateFeedback.from_bytes(
                    parts[LATE], args.reward, args.default_reward
                )
            if args.answers:
                learning.window = AnswerWindow.from_bytes(
                    parts[ANSWERS], args.answers, dict(args.interests)
                )
            learning.custom = tuple(
                CustomLearning(code, decode_state(parts[part_name(code.name)]))
                for code in args.custom
            )
        except (KeyError, ValueError, msgspec.MsgspecError, RuntimeError) as error:
            # VW raises RuntimeError for a model that it cannot read.
            raise SnapshotCorruption(
                f"version {manifest.version} cannot be decoded: {error!r}"
            ) from error
        return learning

    def fold(self, lines: Sequence[LogLine]) -> int:
        """Fold lines that follow the offset, in order; return the number of closed interactions."""
        n_closed, examples = 0, list[Example]()
        for line in lines:
            record = line.record
            closed = self.join.fold(record)
            n_closed += len(closed)
            told: list[Example] = [each for each in closed if self._tells(each)]
            match record:
                case ItemRecord():
                    self.audiences.put(record)
                case HistoryRecord():
                    self._recall(record)
                case _:
                    pass  # the join has it
            self._fold_late(record, told)
            self._answer(told)
            examples += told
        if examples:
            self._learn(examples)
            for custom in self.custom:
                custom.learn(examples)
        if lines:
            self.offset = lines[-1].offset
        return n_closed

    def _tells(self, interaction: Interaction) -> bool:
        """Count an interaction; return whether the policy may train on it."""
        if not interaction.feedback.seen:
            return True  # its reward is the default; it is no impression
        counts = self.audiences.fold(interaction)
        self.states.fold(interaction, counts)
        self.late.close(interaction, filtered=not counts)
        return counts and not is_censored(interaction.feedback, interaction.duration_s)

    def _fold_late(self, record: Record, examples: list[Example]) -> None:
        """Add what an event about no open decision corrects, where the log says that it does."""
        self.late.fold(record, self.join.clock_ms)
        if not self.late.window_ms:
            return
        if self.join.was_late and isinstance(record, FeedbackRecord):
            change = self.late.change(record, self._past.history(record))
            if change is not None and self._corrects(change):
                examples.append(change if change.learned else change.after)
        if self._kept is not None:
            self._kept.keep(record)

    def _corrects(self, change: Correction) -> bool:
        """Count a correction; return whether the policy may train on it."""
        after = change.after
        if not change.before.feedback.seen:  # its first impression
            counts = self.audiences.fold(after)
            self.states.fold(after, counts)
            if not counts:
                self.late.close(after, filtered=True)
            return counts and not is_censored(after.feedback, after.duration_s)
        self.states.correct(change)
        self.audiences.correct(change)
        return not is_censored(after.feedback, after.duration_s)

    def _answer(self, examples: Sequence[Example]) -> None:
        if self.window is None:
            return
        for example in examples:
            if isinstance(example, Correction):
                self.window.correct(example)
            elif example.feedback.seen:
                self.window.fold((example,))

    def _recall(self, record: HistoryRecord) -> None:
        """Count an imported history; the policy learns nothing from it."""
        self.states.fold_history(record, self.args.reward)
        if self.window is not None:
            self.window.fold_history(record)
        self.imported += n_views(record)

    def _learn(self, examples: Sequence[Example]) -> None:
        self.learned += self._teach(self.policy, examples)

    def _teach(self, policy: HybridBandit, examples: Sequence[Example]) -> int:
        """Train a policy; split a batch that breaks it in halves until the cause stands alone.

        Returns:
            The number of examples that it learned from.
        """
        try:
            policy.learn(examples)
        except PoisonedModel:
            self.rollbacks += 1
            if len(examples) == 1:
                self.poisoned += 1
                logger.exception("left out decision=%s", interaction_of(examples[0]).decision_id)
                return 0
            half = len(examples) // 2
            return self._teach(policy, examples[:half]) + self._teach(policy, examples[half:])
        return len(examples)

    def parts(self, *, resumable: bool = True) -> dict[str, bytes]:
        """Return the parts of a snapshot; equal folds give equal bytes.

        Args:
            resumable: include the parts to resume from; the open join holds an hour of pages and is
                slow to write.
        """
        parts = {"items": self.states.to_bytes(), "audiences": self.audiences.to_bytes()}
        if resumable:
            parts |= {"model": self.policy.to_bytes(), JOIN: self.join.to_bytes()}
            parts[LATE] = self.late.to_bytes()
            if self.window is not None:
                parts[ANSWERS] = self.window.to_bytes()
        return parts | dict(self._custom_parts())

    def version_parts(self, version: int, *, resumable: bool) -> dict[str, bytes]:
        """Return the parts of this fold as a version: those of `parts`, and the scorer."""
        scorer = self.policy.frozen(version).to_bytes()
        return {**self.parts(resumable=resumable), "scorer": scorer}

    def manifest(self, version: int, epoch: int, log: EventLog) -> Manifest:
        """Return the manifest of this fold as a version, without parts."""
        return Manifest(
            version=version,
            epoch=epoch,
            offsets=log.shard_offsets(self.offset),
            feature_schema=SCHEMA,
            reward_version=self.args.reward.version,
            args=self.args.manifest_args(),
        )

    def _custom_parts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the parts of policies of one's own; one whose code fails has none."""
        for custom in self.custom:
            try:
                yield part_name(custom.name), custom.to_bytes()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are published
                logger.warning("policy=%s could not be saved: %s", custom.name, say(error))
