"""Versions that are no longer kept as snapshots, folded again from the log that they were made of.

Folding the log up to a version's offset, under the arguments that it was learned under, gives the
version. Versions are asked for in about the order of the log, so one fold runs forward and freezes
each one that it passes; it begins at the nearest snapshot that can be resumed from. Rejected
alternatives: `docs/decisions/serve-versions.md`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from env.columns.schema import SCHEMA
from env.interface import EventLog, Past
from env.vocabulary import Example, interaction_of
from policies.bandit.cross_fitted import fold_of
from policies.bandit.policy import HybridBandit
from policies.bandit.scorer import HybridBanditScorer
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore, filled
from serve.learn.fold import JOIN, LearnerState, LearningArgs
from serve.store.store import Activation

BATCH_LINES = 2_000
VERSIONS_HELD = 16
"""Versions held behind the fold, 4 MB each as shipped; pages may be logged a few versions apart."""


class RefoldedVersions:
    """Folds the log forward to the versions that are asked for."""

    def __init__(
        self,
        log: EventLog,
        past: Past,
        versions: Sequence[Activation],
        args: LearningArgs,
        snapshots: SnapshotStore,
    ) -> None:
        """Fold nothing yet.

        Args:
            log: it is read up to the versions' offsets.
            past: finds the pages of late feedback in it.
            versions: all that were published.
            args: arguments under which they were learned.
            snapshots: hold what a fold can begin with.
        """
        self._log, self._past, self._args, self._snapshots = log, past, args, snapshots
        self._versions = sorted(versions, key=lambda each: (each.offset, each.version))
        self._offsets = {each.version: each.offset for each in versions}
        self._learning: LearnerState | None = None
        self._place = 0  # of the next version in `_versions`
        self._scorers: dict[int, HybridBanditScorer] = {}
        self._states: dict[int, Mapping[str, bytes]] = {}

    def scorer(self, version: int) -> HybridBanditScorer | None:
        """Return what a version drew with; None: it was never published, or its lines are gone."""
        if version not in self._offsets:
            return None
        if version not in self._scorers:
            self._fold_to(version)
        return self._scorers.get(version)

    def custom_state(self, policy: str, version: int) -> bytes | None:
        """Return what a policy of one's own knew in a version; None: nothing, or as above."""
        if self.scorer(version) is None:
            return None
        return self._states[version].get(policy)

    def is_as_published(self, version: int) -> bool:
        """Return whether the fold gives a version as it was published, to the last bit.

        Its manifest has a digest of each part, and the digest of the manifest is in the store.
        """
        published = next((each for each in self._versions if each.version == version), None)
        if published is None or self.scorer(version) is None:
            return False
        if self._learning is None or self._learning.offset != published.offset:
            self._restart(published.offset)
        learning = self._learning
        if learning is None or not self._read_to(published.offset):
            return False
        manifest = learning.manifest(version, published.epoch, self._log)
        return any(
            filled(manifest, learning.version_parts(version, resumable=resumable)).digest
            == published.digest
            for resumable in (False, True)
        )

    def _fold_to(self, version: int) -> None:
        offset = self._offsets[version]
        if self._learning is None or self._learning.offset > offset or self._is_passed(version):
            self._restart(offset)
        while version not in self._scorers and self._place < len(self._versions):
            passed = self._versions[self._place]
            self._place += 1
            if self._read_to(passed.offset):
                self._freeze(passed.version)

    def _is_passed(self, version: int) -> bool:
        return version in {each.version for each in self._versions[: self._place]}

    def _restart(self, offset: int) -> None:
        """Begin again with the newest snapshot that is not past an offset, or with nothing."""
        self._scorers.clear()
        self._states.clear()
        self._learning = self._resume(offset) or LearnerState(self._args, self._past)
        at = self._learning.offset
        self._place = sum(each.offset < at for each in self._versions)

    def _resume(self, offset: int) -> LearnerState | None:
        for number in reversed(self._snapshots.versions()):
            with suppress(FileNotFoundError, SnapshotCorruption):
                if self._offsets.get(number, offset + 1) <= offset:
                    manifest = self._snapshots.manifest(number)
                    if self._is_of_this_fold(manifest):
                        snapshot = self._snapshots.load(number)
                        return LearnerState.restore(snapshot, self._args, self._past)
        return None

    def _is_of_this_fold(self, manifest: Manifest) -> bool:
        offset = sum(manifest.offsets)
        return (
            JOIN in manifest.parts
            and manifest.offsets == self._log.shard_offsets(offset)
            and (manifest.feature_schema, manifest.args) == (SCHEMA, self._args.manifest_args())
        )

    def _read_to(self, offset: int) -> bool:
        """Fold the log up to an offset; return whether it reaches so far."""
        return self._learning is not None and _fold_until(self._learning, self._log, offset)

    def _freeze(self, version: int) -> None:
        learning = self._learning
        if learning is None:
            return
        self._scorers[version] = learning.policy.frozen(version)
        self._states[version] = dict(_states_of(learning))
        for old in list(self._scorers)[:-VERSIONS_HELD]:
            del self._scorers[old], self._states[old]


def _states_of(learning: LearnerState) -> Collection[tuple[str, bytes]]:
    found = []
    for custom in learning.custom:
        with suppress(Exception):  # none was published either
            found.append((custom.name, custom.state()))
    return found


class _WithoutFolds(LearnerState):
    """A fold of the log with a policy for each fold of the users, which learns of all others."""

    def __init__(self, args: LearningArgs, past: Past, n_folds: int) -> None:
        super().__init__(args, past)
        self.policies = [HybridBandit(args.vowpal) for _ in range(n_folds)]

    def _learn(self, examples: Sequence[Example]) -> None:
        n = len(self.policies)
        folds = [fold_of(interaction_of(each).user, n) for each in examples]
        for k, policy in enumerate(self.policies):
            others = [each for each, fold in zip(examples, folds, strict=True) if fold != k]
            if others:
                self._teach(policy, others)


def refold_without_users(
    log: EventLog, past: Past, version: Activation, args: LearningArgs, n_folds: int
) -> list[HybridBanditScorer] | None:
    """Return a version as it would be without each fold of users; the log is read once.

    Users' own statistics are in the pages' features, so only what was learned of others changes.

    Args:
        log: read up to the version's offset.
        past: finds the pages of late feedback in it.
        version: that was published.
        args: arguments under which it was learned; policies of one's own learn nothing here.
        n_folds: at least 2.

    Returns:
        A scorer for each fold; None: the log's lines are gone.
    """
    learning = _WithoutFolds(replace(args, custom=(), answers=0), past, n_folds)
    if not _fold_until(learning, log, version.offset):
        return None
    return [policy.frozen(version.version) for policy in learning.policies]


def _fold_until(learning: LearnerState, log: EventLog, offset: int) -> bool:
    """Fold a log up to an offset; return whether it reaches so far."""
    while learning.offset < offset:
        n = min(BATCH_LINES, offset - learning.offset)
        lines = [line for line in log.read(learning.offset, n) if line.offset <= offset]
        if not lines:  # the last offsets were given to duplicates, or the log was cut
            return log.last_offset() >= offset
        learning.fold(lines)
    return True
