"""Evaluation jobs: set up `replay.evaluate.evaluate` for a data folder's log or an external log."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from env.interface import Policy
from env.records import LogLine
from env.vocabulary import Floats
from policies.bandit.reward_model import HybridBanditReward
from policies.custom.load import CustomPolicyError, load_function
from policies.custom.policy import custom_version
from replay.estimators.custom import checked
from replay.estimators.decisions import Estimator
from replay.estimators.intervals import LEVEL
from replay.evaluate.calibration import ArmSizes, compare_arm_sizes
from replay.evaluate.evaluate import Evaluation, evaluate_all
from replay.evaluate.importance import Importance, importance
from replay.evaluate.targets import PolicyTarget, Target
from replay.formats.dsjson_source import DsjsonSource
from replay.join.dataset import Dataset, read
from replay.join.our_log import LogSource
from replay.reward_models.batch_models import Fit, fit_rewards
from replay.reward_models.page_models import fit_growing
from replay.source import Batch, Source
from serve.config import Config
from serve.errors import JobError
from serve.importers.obp import ObpSource
from serve.jobs.policies import (
    ArmLoggers,
    bandit_version,
    behaviour,
    find_external_policy,
    find_policy,
    learned_until,
    leave_out_users,
)
from serve.learn.custom import custom_folder
from serve.learn.settings import open_snapshots, vowpal_args
from serve.store.data_folder import open_data
from serve.store.store import Store, StorePast

READERS: dict[str, Callable[[Path], Source]] = {
    ".json": DsjsonSource,
    ".dsjson": DsjsonSource,
    ".csv": ObpSource,
    ".parquet": ObpSource,
}


@dataclass(frozen=True, slots=True)
class FirstTarget:
    """Always picks the first candidate, Azure Personalizer's baseline."""

    name: str = "first"

    def probabilities(self, batch: Batch) -> Floats:
        """Return 1 for each decision's first candidate, shape (m, k)."""
        pmfs = np.zeros(batch.mask.shape)
        pmfs[np.arange(len(batch)), np.argmax(batch.mask, axis=1)] = 1.0
        return pmfs


@dataclass(frozen=True, slots=True)
class BehaviourTarget:
    """The logging policy: every weight is 1, so it shows the log's own distributions."""

    name: str = "behaviour"

    def probabilities(self, batch: Batch) -> Floats:
        """Return the logged distributions, shape (m, k), each divided by its sum.

        Raises:
            ValueError: a decision of the log has none.
        """
        if batch.pmf is None or not np.isfinite(batch.pmf).all():
            raise ValueError(
                "expected a log with the whole distribution of every decision (p of dsjson, pi_b "
                "of a table), got one without; evaluate another policy"
            )
        totals: Floats = batch.pmf.sum(axis=1, keepdims=True)
        return batch.pmf / totals


TARGETS: dict[str, Target] = {target.name: target for target in (FirstTarget(), BehaviourTarget())}


def open_external_log(path: Path) -> Source:
    """Return the log of a file.

    Raises:
        JobError: there is no such file, or its suffix is unknown.
        BadFile: a table is not one of rounds.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        expected = ", ".join(READERS)
        raise JobError(f"{path}: expected a log that ends in one of {expected}")
    if not path.is_file():
        raise JobError(f"{path}: expected a log, found no such file")
    return reader(path)


def external_log_target(name: str) -> Target | None:
    """Return the policy `first` or `behaviour`; None for another name."""
    return TARGETS.get(name)


Advance = Callable[[int], None]
"""Called with the number of lines or decisions processed since the last call."""

RewardModelName = Literal["ridge", "vowpal"]


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """An evaluation job: estimate the value of policies on the decisions of a log.

    Attributes:
        arms: arms of the experiment in the log; None: there is nothing to compare.
        n_decisions: decisions in the source, for progress bars; 0: not known before reading.
    """

    source: Source
    targets: tuple[Target, ...]
    arms: ArmSizes | None = None
    n_decisions: int = 0

    def answer(
        self,
        *,
        fit: Fit = fit_rewards,
        segments: Sequence[str] = (),
        level: float = LEVEL,
        force: bool = False,
        estimators: Sequence[Estimator] = (),
        advance: Advance | None = None,
    ) -> Evaluation:
        """Return the evaluation.

        Args:
            fit: makes the reward model, see `reward_fit`.
            segments: segments to report as well.
            level: level of the intervals, in (0, 1).
            force: estimate even where gates fail; such results are marked.
            estimators: of one's own, see `find_estimator`.
            advance: progress callback; the total is twice the number of decisions.

        Raises:
            JobError: the log holds too little, or cannot be trusted.
        """
        try:
            return evaluate_all(
                self.source,
                self.targets,
                fit,
                segments=segments,
                arms=self.arms,
                level=level,
                force=force,
                estimators=estimators,
                advance=advance,
            )
        except ValueError as error:
            raise JobError(f"the log cannot be evaluated: {error}") from error

    def importance(self) -> Importance:
        """Return the feature importance for the reward and for those targets that are policies.

        Raises:
            JobError: the log has no features, or too little data.
        """
        policies = [t.policy for t in self.targets if isinstance(t, PolicyTarget)]
        try:
            return importance(self.source, policies)
        except ValueError as error:
            raise JobError(f"importance cannot be told: {error}") from error


@contextmanager
def open_evaluation(
    config: Config,
    names: Sequence[str],
    *,
    arm: str = "",
    held_out: bool = False,
    as_learned: bool = False,
    advance: Advance | None = None,
) -> Iterator[EvaluationJob]:
    """Yield the evaluation job of a data folder's log, which stays open until the end.

    A version evaluated on decisions that it learned from looks better than it is, and the learner
    learns from all arms. So a version of vowpal is folded again without each fold of users, who are
    then judged by that; of other policies the learned share is reported.

    Args:
        config: data folder, reward, explorer and experiment.
        names: names of policies, see `serve.jobs.policies.find_policy`.
        arm: read the pages of this arm; empty: all pages.
        held_out: read only pages after everything that any of the policies learned from.
        as_learned: judge users by the very version, even where it learned from them.
        advance: progress callback; the total is the number of log lines.

    Raises:
        JobError: there is no log or no such policy, or the log cannot be trusted.
        LogCorruption: a line differs from the written one.
    """
    with open_data(config) as store, ExitStack() as held:
        policies: list[Policy] = [find_policy(config, store, name) for name in names]
        _hold(config, policies, held)
        log = store.log
        learned = [learned_until(config, store, policy) for policy in policies]
        find, shares = behaviour(config, store), config.experiment.shares
        is_mixed = not arm and len(shares) > 1
        try:
            source = LogSource(
                log.read,
                config.reward,
                arm=arm,
                after=max(learned) if held_out else 0,
                behaviour=find,
                loggers=partial(ArmLoggers, shares, find) if is_mixed else None,
                advance=advance or (lambda n: None),
                default_reward=config.join.default_reward,
                past=StorePast(store),
            )
        except ValueError as error:
            raise JobError(f"the log cannot be evaluated: {error}") from error
        if not len(source):
            raise JobError(f"the log cannot be evaluated: {_why_none(source, arm, held_out)}")
        targets = tuple(
            _target(config, store, policy, source.share_until(offset), as_learned)
            for policy, offset in zip(policies, learned, strict=True)
        )
        yield EvaluationJob(
            source, targets, compare_arm_sizes(source.users, config.experiment.shares), len(source)
        )


def _hold(config: Config, policies: Sequence[Policy], held: ExitStack) -> None:
    """Keep the snapshots of these policies' versions, as far as they are there, until the end."""
    snapshots = open_snapshots(config)
    for policy in policies:
        version = bandit_version(policy.name) or custom_version(policy.name)
        if version:
            with suppress(FileNotFoundError):
                held.enter_context(snapshots.reading([version]))


def _target(
    config: Config, store: Store, policy: Policy, learned_share: float, as_learned: bool
) -> PolicyTarget:
    """Return a policy as a target that did not learn from those whom it judges, if it can be."""
    if learned_share and not as_learned:
        cross_fitted = leave_out_users(config, store, policy)
        if cross_fitted is not None:
            return PolicyTarget(cross_fitted, n_folds=cross_fitted.n_folds)
    return PolicyTarget(policy, learned_share)


def pin_versions(config: Config, job: EvaluationJob) -> tuple[int, ...]:
    """Keep the snapshots of the versions that a job asks about until they are unpinned.

    Returns:
        The versions that were pinned; those whose snapshot is gone are folded again when asked for.

    Raises:
        JobError: the pinned versions would exceed the bound of disk.
    """
    snapshots, pinned = open_snapshots(config), list[int]()
    for target in job.targets:
        version = bandit_version(target.name)
        if version:
            try:
                snapshots.pin(version, "evaluate")
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise JobError(f"--pin: {error}") from error
            pinned.append(version)
    return tuple(pinned)


def _why_none(source: LogSource, arm: str, held_out: bool) -> str:
    """Return the reason why a log has no usable decisions, naming the option that left none."""
    coverage = source.coverage
    if coverage.drawn:
        return (
            f"expected decisions, got none of {coverage.drawn} drawn ({coverage.seen} seen, "
            f"{coverage.censored} of them censored)"
        )
    if arm and arm not in source.users:
        arms = ", ".join(source.users) or "no arm at all"
        return f"--arm: expected an arm of the log's pages ({arms}), got {arm!r}"
    if held_out:
        of_arm = f" of arm {arm}" if arm else ""
        return (
            f"--held-out: expected pages{of_arm} behind those that the policies learned from, "
            "found none; let more users swipe, or evaluate an older version (vowpal@N, or "
            "vowpal@30m for that of half an hour ago)"
        )
    return "expected pages, found none; let users swipe first"


@contextmanager
def open_external_evaluation(log: Path, names: Sequence[str]) -> Iterator[EvaluationJob]:
    """Yield the evaluation job of an external log.

    Args:
        log: a file of Vowpal Wabbit or of the Open Bandit Pipeline, by its suffix.
        names: policies that the format knows, or as in `serve.jobs.policies.find_external_policy`.

    Raises:
        JobError: the file is invalid, or there is no such policy.
    """
    source = open_external_log(log)
    targets = (
        external_log_target(name) or PolicyTarget(find_external_policy(name)) for name in names
    )
    yield EvaluationJob(source, tuple(targets))


def find_estimator(config: Config, name: str) -> Estimator:
    """Return an estimator of one's own, looked for where policies of one's own are.

    Args:
        config: `custom.folder`, else the current folder.
        name: MODULE:FUNCTION, see `replay.estimators.custom`.

    Raises:
        JobError: there is no such function.
    """
    try:
        found = load_function(name, custom_folder(config))
    except CustomPolicyError as error:
        raise JobError(f"--estimator: {error}") from error
    return checked(name, found.entry)


def reward_fit(config: Config, name: RewardModelName) -> Fit:
    """Return a function that fits a reward model, cross-fitted by user.

    Args:
        config: holds the arguments of Vowpal Wabbit.
        name: `ridge` (shrunk means per candidate where a log has no features), or `vowpal`, for our
            own log only.
    """
    if name == "ridge":
        return fit_rewards
    args = vowpal_args(config)
    return lambda source: fit_growing(source, lambda: HybridBanditReward(args))


def read_dataset(
    config: Config, store: Store, arm: str = "", advance: Advance | None = None
) -> Dataset:
    """Return the decisions of a log, or of one arm of it.

    Args:
        config: its reward is used.
        store: holds the log, which is read from its beginning.
        arm: arm of the experiment; empty: all pages.
        advance: progress callback, line by line.

    Raises:
        JobError: the log cannot be trusted; the message says where.
    """
    try:
        return read(
            _told(store.log.read(), advance),
            config.reward,
            lambda page: not arm or page.arm == arm,
            default_reward=config.join.default_reward,
            past=StorePast(store),
        )
    except ValueError as error:
        raise JobError(f"the log cannot be evaluated: {error}") from error


def _told(lines: Iterable[LogLine], advance: Advance | None) -> Iterator[LogLine]:
    for line in lines:
        if advance is not None:
            advance(1)
        yield line
