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

from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs
from env.history import n_views
from env.items.statistics import ItemStates
from env.records import HistoryRecord, ItemRecord, LogLine
from env.reward import Reward, is_censored
from env.vocabulary import Interaction
from policies.bandit.policy import HybridBandit, PoisonedModel
from policies.bandit.settings import HybridBanditArgs
from policies.collaborative.answers import AnswerWindow
from policies.custom.learning import CustomLearning, decode_state, part_name
from policies.custom.load import CustomCode, say
from policies.snapshots import Snapshot, SnapshotCorruption
from replay.join.join import Join

logger = logging.getLogger(__name__)
JOIN, ANSWERS = "join", "answers"
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

    def manifest_args(self) -> dict[str, Any]:
        """Return the arguments for a manifest, without the explorer, which folding does not use."""
        args: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(replace(self, custom=())))
        del args["vowpal"]["explorer"], args["custom"]
        if not self.answers:  # without it, the arguments are those of a release that knew of none
            del args["answers"]
        if self.custom:  # without any, the arguments are those of a release that knew of none
            args["custom"] = {code.name: code.code for code in self.custom}
        return args


class LearnerState:
    """The fold: policy, item states, audiences, answers and join at one offset of the log."""

    def __init__(self, args: LearningArgs) -> None:
        self.offset = 0
        self.learned = 0
        self.poisoned = 0
        self.rollbacks = 0
        self.imported = 0  # views of imported histories
        self.args = args
        self.policy = HybridBandit(args.vowpal)
        self.states = ItemStates()
        self.audiences = Audiences(args.audiences)
        self.join = Join(args.reward, settle_ms=args.settle_ms)
        self.custom = tuple(CustomLearning(code) for code in args.custom)
        self.window = AnswerWindow(args.answers) if args.answers else None

    @classmethod
    def restore(cls, snapshot: Snapshot, args: LearningArgs) -> "LearnerState":
        """Return the fold as a snapshot holds it.

        Raises:
            SnapshotCorruption: a part is missing or cannot be decoded by this release.
        """
        learning, manifest, parts = cls(args), snapshot.manifest, snapshot.parts
        try:
            learning.offset = sum(manifest.offsets)
            learning.policy = HybridBandit.from_bytes(
                parts["model"], args.vowpal, version=manifest.version
            )
            learning.states = ItemStates.from_bytes(parts["items"])
            learning.audiences = Audiences.from_bytes(parts["audiences"], args.audiences)
            learning.join = Join.from_bytes(parts[JOIN], args.reward, settle_ms=args.settle_ms)
            if args.answers:
                learning.window = AnswerWindow.from_bytes(parts[ANSWERS], args.answers)
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
        n_closed, known = 0, list[Interaction]()
        for line in lines:
            closed = self.join.fold(line.record)
            n_closed += len(closed)
            told = list(filter(self._tells, closed))
            known.extend(told)
            if self.window is not None:
                self.window.fold(told)
            match line.record:
                case ItemRecord():
                    self.audiences.put(line.record)
                case HistoryRecord():
                    self._recall(line.record)
                case _:
                    pass  # the join has it
        if known:
            self._learn(known)
            for custom in self.custom:
                custom.learn(known)
        if lines:
            self.offset = lines[-1].offset
        return n_closed

    def _tells(self, interaction: Interaction) -> bool:
        """Count an interaction; return whether the policy may train on it."""
        counts = self.audiences.fold(interaction)
        self.states.fold(interaction, counts)
        return counts and not is_censored(interaction.feedback, interaction.duration_s)

    def _recall(self, record: HistoryRecord) -> None:
        """Count an imported history; the policy learns nothing from it."""
        self.states.fold_history(record, self.args.reward)
        if self.window is not None:
            self.window.fold_history(record)
        self.imported += n_views(record)

    def _learn(self, known: Sequence[Interaction]) -> None:
        """Train; split a batch that breaks the model in halves until the cause stands alone."""
        try:
            self.policy.learn(known)
            self.learned += len(known)
        except PoisonedModel:
            self.rollbacks += 1
            if len(known) == 1:
                self.poisoned += 1
                logger.exception("left out decision=%s", known[0].decision_id)
                return
            half = len(known) // 2
            self._learn(known[:half])
            self._learn(known[half:])

    def parts(self, *, resumable: bool = True) -> dict[str, bytes]:
        """Return the parts of a snapshot; equal folds give equal bytes.

        Args:
            resumable: include the parts to resume from; the open join holds an hour of pages and is
                slow to write.
        """
        parts = {"items": self.states.to_bytes(), "audiences": self.audiences.to_bytes()}
        if resumable:
            parts |= {"model": self.policy.to_bytes(), JOIN: self.join.to_bytes()}
            if self.window is not None:
                parts[ANSWERS] = self.window.to_bytes()
        return parts | dict(self._custom_parts())

    def _custom_parts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the parts of policies of one's own; one whose code fails has none."""
        for custom in self.custom:
            try:
                yield part_name(custom.name), custom.to_bytes()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are published
                logger.warning("policy=%s could not be saved: %s", custom.name, say(error))
