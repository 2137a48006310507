"""Resolves the names of policies on the command line, and the policies named by logged pages.

A name is a baseline's; `vowpal`, `retention` or `blend` (current version); one of these with `@N`
(kept version); or `module:function`, a custom policy (`policies.custom.load`) with the state of the
current version, or with `@N` of a kept one. A blend is the current ranker with a version of vowpal.
"""

import importlib
import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from env.columns.schema import SCHEMA
from env.interface import Policy
from env.records import PageRecord
from policies import baselines
from policies.bandit.cross_fitted import CrossFittedPolicy
from policies.bandit.scorer import HybridBanditScorer
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.custom.learning import load_state
from policies.custom.load import CustomCode, CustomPolicyError, load
from policies.custom.policy import CustomArgs, CustomPolicy, custom_args, custom_version
from policies.explorers import AnyExplorer, explorer_from
from policies.ranker.blend import BlendedPolicy, blend_args
from policies.ranker.ranker import RetentionPolicy
from policies.snapshots import SnapshotCorruption, SnapshotStore
from replay.join.page_batches import Behaviour, Logger, Presumed
from serve.config import Config, Experiment, FeedSettings, MixtureSettings
from serve.errors import JobError
from serve.learn.custom import (
    CustomFinder,
    OtherCodeError,
    custom_folder,
    kept_state,
    load_customs,
    snapshot_states,
)
from serve.learn.rankers import FindRanker, Ranking, load_ranking, open_rankers, ranker_finder
from serve.learn.refold import RefoldedVersions, refold_without_users
from serve.learn.served import initial_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.store.generations import NOTHING, all_versions, current_activation, current_version
from serve.store.store import Store, StorePast

FindBandit = Callable[[int, AnyExplorer], Policy | None]
"""Finds a version of the bandit with this explorer; None: there is none."""

FindCustom = Callable[[CustomArgs, str], Policy | None]
"""Finds a custom policy by a page's arguments and policy; None: its state is missing."""


def bandit_version(policy: str) -> int | None:
    """Return the bandit's version in a policy's name, or None.

    >>> bandit_version("vowpal@7"), bandit_version("blend@7"), bandit_version("uniform@0")
    (7, 7, None)
    """
    kind, _, number = policy.partition("@")
    return int(number) if kind in ("vowpal", "blend") and number.isdecimal() else None


def find_logged_policy(
    page: PageRecord, bandit: FindBandit, ranker: FindRanker, custom: FindCustom
) -> Policy | None:
    """Return the policy that drew a page; None: it, or a part of it, is missing.

    Args:
        bandit: finds versions of the bandit.
        ranker: finds rankers.
        custom: finds policies of one's own.

    Raises:
        OtherCodeError: a custom policy drew it whose code is different now.
        msgspec.ValidationError: no policy of this release has these arguments.
    """
    args_of_own = custom_args(page.explorer)
    if args_of_own is not None:
        return custom(args_of_own, page.policy)
    version = bandit_version(page.policy)
    if version is None:
        return baselines.baseline(page.policy, explorer_from(page.explorer))
    if page.policy.startswith("vowpal@"):
        return bandit(version, explorer_from(page.explorer))
    args = blend_args(page.explorer)
    base, values = bandit(version, args.settings.explorer), ranker(args.ranker, args.digest)
    return None if base is None or values is None else BlendedPolicy(base, values, args)


_AGO = re.compile("([0-9]{1,6})([mhd])")
_AGO_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

_LEARNED = (
    "vowpal",
    "retention",
    "retention@VERSION",
    "blend",
    "blend@VERSION",
    "vowpal@VERSION",
)

logger = logging.getLogger(__name__)
SCORERS_KEPT = 8
"""Versions cached while a log is read, 4 MB each as shipped; pages of one stand together."""


def find_policy(config: Config, store: Store, name: str) -> Policy:
    """Return the policy of this name.

    Args:
        config: explorer, and mixture of the experiment.
        store: holds the current versions.
        name: `uniform`, `popularity`, `mixture` (as configured), `vowpal`, `retention`, `blend` or
            `module:function`, each of the last four with or without `@N`; `vowpal@30m` is the
            version of 30 minutes before the log's last page (also `h` and `d`).

    Raises:
        JobError: there is no such policy.
    """
    kind, _, number = name.partition("@")
    if kind == "vowpal" and (ago := _AGO.fullmatch(number)):
        number = str(version_before(store, int(ago[1]) * _AGO_MS[ago[2]]))
    if kind == "mixture" and number in ("", "0"):
        return _mixture(config.experiment)
    if kind in ("vowpal", "retention", "blend") and (not number or number.isdecimal()):
        return _learned(config, store, kind, number)
    if kind == "popularity" and number in ("", "0"):
        return PopularityPolicy()
    if ":" in name:
        return _custom(config, store, name)
    return _find_anywhere(name, ("uniform", "popularity", "mixture", *_LEARNED))


def version_before(store: Store, ago_ms: int) -> int:
    """Return the version of vowpal that began to draw last until so long before the log's end.

    Raises:
        JobError: no version of vowpal drew a page until then.
    """
    last_ms, begun = 0, dict[int, int]()  # when each version drew first
    for line in store.log.read(kinds=["page"]):
        if isinstance(line.record, PageRecord):
            last_ms = max(last_ms, line.record.at_ms)
            if version := bandit_version(line.record.policy):
                begun[version] = min(begun.get(version, line.record.at_ms), line.record.at_ms)
    before = [(at_ms, version) for version, at_ms in begun.items() if at_ms <= last_ms - ago_ms]
    if not before:
        raise JobError(
            f"expected pages of vowpal from {ago_ms / 60_000:g} minutes before the log's last "
            "page, found none: ask about a time after them"
        )
    return max(before)[1]


def find_external_policy(name: str) -> Policy:
    """Return the policy of this name that can be evaluated on an external log.

    Popularity and its mixtures are excluded, as they read a column of our own features.

    Raises:
        JobError: there is no such policy.
    """
    return _find_anywhere(name, ("first", "behaviour", "uniform"))


def _find_anywhere(name: str, known: tuple[str, ...]) -> Policy:
    """Return the policy of this name that needs neither our features nor a data folder."""
    if name in ("uniform", UniformPolicy.name):
        return UniformPolicy()
    if ":" in name:
        code = _load(name, Path.cwd())
        return CustomPolicy(_make(code, FeedSettings().explorer), code.name, code.code)
    raise JobError(f"expected {', '.join(known)} or MODULE:FUNCTION, got {name!r}")


def learned_until(config: Config, store: Store, policy: Policy) -> int:
    """Return the last log offset that a policy learned from; 0: none."""
    version, ranker = bandit_version(policy.name) or custom_version(policy.name), 0
    kind, _, number = policy.name.partition("@")
    if kind == "retention" and number.isdecimal():
        ranker = int(number)
    elif kind == "blend":
        ranker = blend_args(policy.explorer).ranker
    offsets = [each.offset for each in all_versions(store) if each.version == version]
    if version and not offsets:  # of a snapshot that this store's log has not seen
        offsets = [sum(open_snapshots(config).manifest(version).offsets)]
    if ranker:
        offsets.append(sum(open_rankers(config).manifest(ranker).offsets))
    return max(offsets, default=0)


N_FOLDS = 5


def leave_out_users(config: Config, store: Store, policy: Policy) -> CrossFittedPolicy | None:
    """Return a version of vowpal that judges each user by a model that did not learn from them.

    The log is folded again up to the version, once for each of `N_FOLDS` folds of its users.

    Args:
        config: has the learner's arguments.
        store: holds the log and the versions.
        policy: as `find_policy` gives it.

    Returns:
        None: the policy is another one, learned nothing, was published in another log, or was
        learned under other arguments than these.
    """
    version, args = bandit_version(policy.name), learning_args(config)
    published = {each.version: each for each in all_versions(store)}
    if not policy.name.startswith("vowpal@") or not version or version not in published:
        return None
    with suppress(FileNotFoundError):  # one that is gone was folded under these arguments
        manifest = open_snapshots(config).manifest(version)
        if (manifest.feature_schema, manifest.args) != (SCHEMA, args.manifest_args()):
            logger.warning(
                "version=%d was learned under other settings than these, so users are judged by "
                "the very version, which flatters it: give the server's settings (--config)",
                version,
            )
            return None
    folds = refold_without_users(store.log, StorePast(store), published[version], args, N_FOLDS)
    if folds is None:
        return None
    explorer = explorer_from(policy.explorer)
    return CrossFittedPolicy(policy, [scorer.exploring(explorer) for scorer in folds])


def kept_bandits(store: SnapshotStore) -> FindBandit:
    """Return a function that finds the versions of the bandit that are kept as snapshots."""

    @lru_cache(maxsize=SCORERS_KEPT)
    def weights(version: int) -> bytes | None:
        try:
            return store.load_part(version, "scorer")
        except FileNotFoundError:
            return None

    @lru_cache(maxsize=SCORERS_KEPT)
    def find(version: int, explorer: AnyExplorer) -> Policy | None:
        found = weights(version)
        return None if found is None else HybridBanditScorer.from_bytes(found, explorer, version)

    return find


def behaviour(config: Config, store: Store | None = None) -> Behaviour:
    """Return a function that finds the policy that drew a page, for pages in the log's order.

    Args:
        config: data folder, and the arguments of the learner.
        store: versions that are not kept are folded again from its log, and presumed to have drawn:
            the learner may have had other arguments. None: they are not found.
    """
    snapshots, rankers = open_snapshots(config), ranker_finder(config)
    customs = load_customs(config)
    kept = kept_bandits(snapshots)
    custom = CustomFinder(customs, snapshot_states(customs, snapshots))

    def find(page: PageRecord) -> Policy | None:
        try:
            return find_logged_policy(page, kept, rankers, custom)
        except OtherCodeError:
            return None

    if store is None:
        return find
    refolded = open_refolded(config, store)
    first = initial_model(vowpal_args(config))
    refolded_custom = CustomFinder(customs, refolded.custom_state)

    def bandit(version: int, explorer: AnyExplorer) -> Policy | None:
        found = refolded.scorer(version) if version else first
        return None if found is None else found.exploring(explorer)

    def find_any(page: PageRecord) -> Policy | Presumed | None:
        kept_policy = find(page)
        if kept_policy is not None or page.feature_schema != SCHEMA:
            return kept_policy
        try:
            policy = find_logged_policy(page, bandit, rankers, refolded_custom)
        except OtherCodeError:
            return None
        return None if policy is None else Presumed(policy)

    return find_any


class ArmLoggers:
    """Finds the policies of all arms of the experiment that served when a page was drawn.

    An arm's policy is that of its latest page in the log, which is the version of a moment ago.
    """

    def __init__(self, shares: Mapping[str, float], find: Behaviour) -> None:
        """Know no page yet; make another one for each reading of the log.

        Args:
            shares: of the users, by arm; users are dealt by a hash.
            find: as `behaviour` returns it.
        """
        self._shares, self._find = shares, find
        self._latest: dict[str, Policy | None] = {}

    def __call__(self, page: PageRecord, is_known: bool) -> tuple[Logger, ...]:
        """Return the loggers; none where an arm has not served yet, or its policy is not known."""
        if page.arm not in self._shares:
            return ()
        found = self._find(page) if is_known else None
        self._latest[page.arm] = found.policy if isinstance(found, Presumed) else found
        loggers = []
        for arm, share in self._shares.items():
            policy = self._latest.get(arm)
            if policy is None:
                return ()
            loggers.append(Logger(share, policy))
        return tuple(loggers)


def open_refolded(config: Config, store: Store) -> RefoldedVersions:
    """Return what folds the published versions of a store again, under the present arguments."""
    past, snapshots = StorePast(store), open_snapshots(config)
    return RefoldedVersions(store.log, past, all_versions(store), learning_args(config), snapshots)


def _learned(config: Config, store: Store, kind: str, number: str) -> Policy:
    """Return vowpal, a ranker, or the current ranker blended with vowpal, by version."""
    if kind == "retention":
        ranking = _ranking(config, store, int(number or 0))
        return RetentionPolicy(ranking.ranker, name=f"retention@{ranking.version}")
    version = int(number or _current(store))
    if kind == "vowpal":
        return _scorer(config, store, version, config.feed.explorer)
    bandit = _scorer(config, store, version, config.retention.explorer)
    return _ranking(config, store, 0).blended(bandit, config.retention)


def _ranking(config: Config, store: Store, version: int) -> Ranking:
    """Return a kept ranker; 0: the current one."""
    rankers = open_rankers(config)
    if not version:
        with store.view() as view:
            version = (current_activation(view, "ranker") or NOTHING).version
    try:
        return load_ranking(rankers, version)
    except FileNotFoundError:
        there = ", ".join(map(str, rankers.versions())) or "none"
        got = version or "none that is current: publish one (nextswipe retention publish)"
        raise JobError(f"expected a ranker that is kept ({there}), got {got}") from None
    except SnapshotCorruption as error:
        raise JobError(str(error)) from error


def entry_point(name: str) -> Callable[..., object]:
    """Return the function named MODULE:FUNCTION, searching the current folder too.

    Raises:
        JobError: there is none.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        made: Callable[..., object] = getattr(importlib.import_module(module_name), function_name)
        return made
    except (ImportError, AttributeError, ValueError) as error:
        raise JobError(f"expected a function MODULE:FUNCTION, got {name!r}: {error}") from error
    finally:
        sys.path.remove(here)


def _custom(config: Config, store: Store, name: str) -> Policy:
    """Return a policy of one's own with what it knows in a version, or in the current one."""
    plain, _, number = name.partition("@")
    code = _load(plain, custom_folder(config))
    arms = (arm.explorer for arm in config.experiment.arms if arm.policy == plain)
    made = _make(code, next(arms, None) or config.feed.explorer)
    if not hasattr(made, "learn"):
        return CustomPolicy(made, code.name, code.code)
    current = current_version(store)
    version = int(number) if number.isdecimal() else current.version if current else 0
    try:
        state = kept_state(open_snapshots(config), code, version) if version else None
        learned = made if state is None else load_state(code, state)
    except (FileNotFoundError, SnapshotCorruption, ValueError) as error:
        raise JobError(f"{name}: {error}") from error
    return CustomPolicy(learned, code.name, code.code, version if state is not None else 0)


def _load(name: str, folder: Path) -> CustomCode:
    try:
        return load(name, folder)
    except CustomPolicyError as error:
        raise JobError(str(error)) from error


def _make(code: CustomCode, explorer: AnyExplorer) -> Policy:
    try:
        return code.make(explorer)
    except CustomPolicyError as error:
        raise JobError(str(error)) from error


def _mixture(experiment: Experiment) -> Policy:
    """Return the mixture of the experiment's arms, or the default one."""
    given = {arm.mixture or MixtureSettings() for arm in experiment.arms if arm.policy == "mixture"}
    if len(given) > 1:
        raise JobError(
            "expected one mixture in the experiment's arms, got several: which is meant?"
        )
    mixture = given.pop() if given else MixtureSettings()
    return mixture_policy(mixture.uniform_share, mixture.temperature)


def _current(store: Store) -> int:
    version = current_version(store)
    if version is None:
        raise JobError("no version of vowpal was published yet: let users swipe, or train it")
    return version.version


def _scorer(
    config: Config, store: Store, version: int, explorer: AnyExplorer
) -> HybridBanditScorer:
    """Return a published version: its snapshot, or what the log folds to where that is gone."""
    snapshots = open_snapshots(config)
    try:
        weights = snapshots.load_part(version, "scorer")
    except FileNotFoundError:
        return _refolded(config, store, version, snapshots).exploring(explorer)
    except SnapshotCorruption as error:
        raise JobError(str(error)) from error
    return HybridBanditScorer.from_bytes(weights, explorer, version)


def _refolded(
    config: Config, store: Store, version: int, snapshots: SnapshotStore
) -> HybridBanditScorer:
    refolded = open_refolded(config, store)
    found = refolded.scorer(version)
    if found is None:
        there = ", ".join(map(str, snapshots.versions())) or "none"
        last = max((each.version for each in all_versions(store)), default=0)
        raise JobError(
            f"expected a version that was published (1 to {last}) or is kept ({there}), "
            f"got {version}"
        )
    if not refolded.is_as_published(version):
        raise JobError(
            f"expected to get version {version} by folding the log again, since its snapshot is "
            "gone, got another model: it was learned under other settings than these; name a "
            "version that is kept, or use the settings of its time"
        )
    return found
