"""Asks the log of one data folder what a policy would have earned: `replay.evaluate`, set up."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from env.interface import Policy
from env.records import LogLine
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.snapshots import SnapshotCorruption, SnapshotStore
from policies.vowpal_kernel import VowpalScorer
from replay.dataset import Dataset, read
from replay.evaluate import Report, evaluate
from replay.log import SqliteLog
from serve.config import Config, Experiment, Mixture
from serve.data_folder import open_data
from serve.refused import Refused
from serve.replica import open_snapshots
from serve.state import State

Advance = Callable[[int], None]
"""Told how many lines, or decisions, were done since it was last told."""


class Question(NamedTuple):
    """What a log is asked: what the policy would have earned on these decisions."""

    dataset: Dataset
    policy: Policy

    def answer(self, advance: Advance | None = None) -> Report:
        """Return what the log says about the policy.

        Args:
            advance: told of progress; in total, of as many decisions as the dataset has.

        Raises:
            Refused: there is too little in the log.
        """
        try:
            return evaluate(self.dataset, self.policy, advance=advance)
        except ValueError as error:
            raise Refused(f"the log cannot be evaluated: {error}") from error


def read_question(
    config: Config, name: str, *, arm: str = "", advance: Advance | None = None
) -> Question:
    """Return a policy and the decisions to evaluate it on.

    A version that learned from the very decisions it is evaluated on looks better than it is:
    evaluate one from pages that it did not learn from, such as those of another arm.

    Args:
        config: data folder, reward and explorer.
        name: `uniform`, `popularity`, `mixture` (as the settings have it), `vowpal` (the current
            version) or `vowpal@N`.
        arm: of the experiment, whose pages are read; empty: all pages.
        advance: told of progress; in total, of as many lines as the log has.

    Raises:
        Refused: no log, no such policy, or a log that cannot be trusted.
        LogCorruption: a line is not what was written.
    """
    with open_data(config) as database:
        policy = _policy(config, State(database), name)
        log = SqliteLog(database, now_ms=lambda: 0)
        return Question(read_dataset(config, log, arm, advance), policy)


def read_dataset(
    config: Config, log: SqliteLog, arm: str = "", advance: Advance | None = None
) -> Dataset:
    """Return the decisions of a log, or of one arm of it.

    Args:
        config: its reward is used.
        log: read from its beginning.
        arm: of the experiment; empty: all pages.
        advance: told of progress, line by line.

    Raises:
        Refused: the log cannot be trusted; says where.
    """
    try:
        lines = _told(log.read(), advance)
        return read(lines, config.reward, lambda page: not arm or page.arm == arm)
    except ValueError as error:
        raise Refused(f"the log cannot be evaluated: {error}") from error


def _told(lines: Iterable[LogLine], advance: Advance | None) -> Iterator[LogLine]:
    for line in lines:
        if advance is not None:
            advance(1)
        yield line


def _policy(config: Config, state: State, name: str) -> Policy:
    kind, _, number = name.partition("@")
    if kind == "uniform" and number in ("", "0"):
        return UniformPolicy()
    if kind == "popularity" and number in ("", "0"):
        return PopularityPolicy()
    if kind == "mixture" and number in ("", "0"):
        return _mixture(config.experiment)
    if kind == "vowpal" and (not number or number.isdecimal()):
        return _scorer(config, open_snapshots(config), int(number or _current(state)))
    raise Refused(f"expected uniform, popularity, mixture, vowpal or vowpal@VERSION, got {name!r}")


def _mixture(experiment: Experiment) -> Policy:
    """Return the mixture as the experiment's arms have it, or as it is by default."""
    given = {arm.mixture or Mixture() for arm in experiment.arms if arm.policy == "mixture"}
    if len(given) > 1:
        raise Refused("expected one mixture in the experiment's arms, got several: which is meant?")
    mixture = given.pop() if given else Mixture()
    return mixture_policy(mixture.uniform_share, mixture.temperature)


def _current(state: State) -> int:
    version = state.current_version()
    if version is None:
        raise Refused("no version of vowpal was published yet: let people swipe, or train it")
    return version.version


def _scorer(config: Config, store: SnapshotStore, version: int) -> VowpalScorer:
    try:
        weights = store.load_part(version, "scorer")
    except FileNotFoundError:
        there = ", ".join(map(str, store.versions())) or "none"
        raise Refused(f"expected a version that is kept ({there}), got {version}") from None
    except SnapshotCorruption as error:
        raise Refused(str(error)) from error
    return VowpalScorer.from_bytes(weights, config.feed.explorer, version)
