"""Policies by the names that a command line gives them, and those that the log's pages name.

A name is that of a baseline, `vowpal` (the version that is current now), `vowpal@N` (one that is
kept), or `module:function`, a function of one's own that takes nothing and returns a policy of
`env.interface`; it is looked for in the current folder and among what is installed.
"""

import importlib
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec

from env.interface import Policy
from env.records import PageRecord
from policies import baselines
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import explorer_from
from policies.snapshots import SnapshotCorruption, SnapshotStore
from policies.vowpal_kernel import VowpalScorer
from serve.config import Config, Experiment, Mixture
from serve.refused import Refused
from serve.replica import open_snapshots
from serve.state import State

SCORERS_KEPT = 8
"""Versions that are held while a log is read: 1 MB each; pages of one version stand together."""


def find_policy(config: Config, state: State, name: str) -> Policy:
    """Return the policy of this name.

    Args:
        config: its explorer, and its experiment's mixture.
        state: knows which version is current.
        name: `uniform`, `popularity`, `mixture` (as the settings have it), `vowpal`, `vowpal@N`, or
            `module:function`.

    Raises:
        Refused: there is no such policy.
    """
    kind, _, number = name.partition("@")
    if kind == "mixture" and number in ("", "0"):
        return _mixture(config.experiment)
    if kind == "vowpal" and (not number or number.isdecimal()):
        return _scorer(config, open_snapshots(config), int(number or _current(state)))
    if kind == "popularity" and number in ("", "0"):
        return PopularityPolicy()
    return _find_anywhere(name, ("uniform", "popularity", "mixture", "vowpal", "vowpal@VERSION"))


def find_stranger(name: str) -> Policy:
    """Return the policy of this name that can be asked about another system's log.

    Popularity and what is mixed with it is not: they read a column of our own features.

    Raises:
        Refused: there is no such policy.
    """
    return _find_anywhere(name, ("first", "behaviour", "uniform"))


def _find_anywhere(name: str, known: tuple[str, ...]) -> Policy:
    """Return the policy of this name that needs neither our features nor a data folder."""
    if name in ("uniform", UniformPolicy.name):
        return UniformPolicy()
    if ":" in name:
        return _entry_point(name)
    raise Refused(f"expected {', '.join(known)} or MODULE:FUNCTION, got {name!r}")


def learned_until(config: Config, policy: Policy) -> int:
    """Return the offset of the log's last line that a policy learned from; 0: from none."""
    kind, _, number = policy.name.partition("@")
    if kind != "vowpal" or not number.isdecimal():
        return 0
    return open_snapshots(config).manifest(int(number)).offsets[0]


def behaviour(config: Config) -> Callable[[PageRecord], Policy | None]:
    """Return what finds the policy that drew a page of the log, as long as it is kept."""
    store = open_snapshots(config)

    @lru_cache(maxsize=SCORERS_KEPT)
    def weights(version: int) -> bytes | None:
        try:
            return store.load_part(version, "scorer")
        except FileNotFoundError:
            return None

    @lru_cache(maxsize=SCORERS_KEPT)
    def learned(version: int, explorer: str) -> VowpalScorer | None:
        found = weights(version)
        given = explorer_from(msgspec.json.decode(explorer))
        return None if found is None else VowpalScorer.from_bytes(found, given, version)

    def find(page: PageRecord) -> Policy | None:
        kind, _, number = page.policy.partition("@")
        if kind == "vowpal" and number.isdecimal():
            return learned(int(number), msgspec.json.encode(page.explorer).decode())
        return baselines.baseline(page.policy, explorer_from(page.explorer))

    return find


def _entry_point(name: str) -> Policy:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        make = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f"expected a function MODULE:FUNCTION, got {name!r}: {error}") from error
    finally:
        sys.path.remove(here)
    try:
        policy = make()
    except Exception as error:
        raise Refused(
            f"{name}: expected a function that takes nothing and returns a policy, it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    lacking = [
        part for part in ("name", "explorer", "score", "explore") if not hasattr(policy, part)
    ]
    if lacking:
        raise Refused(
            f"{name}: expected a policy (env.interface.Policy), got {type(policy).__name__} "
            f"without {', '.join(lacking)}"
        )
    found: Policy = policy
    return found


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
