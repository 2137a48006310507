"""The policies of one's own that the arms of an experiment name, as the server composes them.

They are loaded once a process, made anew for each state that was learned, and found again for pages
of the log. Only names that stand in the settings are ever loaded: a log cannot make a process
import anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from env.interface import Policy
from policies.custom.contract import check_named
from policies.custom.guarded import GuardArgs
from policies.custom.learning import decode_state, load_state, part_name
from policies.custom.load import CustomCode, CustomPolicyError, load
from policies.custom.policy import CustomArgs, CustomPolicy, custom_version, plain_args
from policies.explorers import AnyExplorer, Uniform, explorer_from
from policies.snapshots import SnapshotCorruption, SnapshotStore
from serve.config import Arm, Config
from serve.errors import JobError

FindState = Callable[[str, int], bytes | None]
"""Finds what a policy of one's own knew in a version, as its `dumps` gave it; None: nothing."""

POLICIES_KEPT = 8
"""Policies that are held while a log is read; pages of one version stand together."""


class OtherCodeError(LookupError):
    """A page was drawn by other code than there is now; names that code."""


@dataclass(frozen=True, slots=True)
class Customs:
    """The policies of one's own of an experiment, by name.

    Attributes:
        codes: all of them.
        learners: those that learn, in the order of their names.
    """

    codes: Mapping[str, CustomCode]
    learners: tuple[CustomCode, ...] = ()

    def unlearned(self, arm: Arm, explorer: AnyExplorer) -> CustomPolicy:
        """Return the policy of an arm before it has learned anything.

        Args:
            arm: names it.
            explorer: of the feed, for an arm that has none.
        """
        code = self.codes[arm.policy]
        return CustomPolicy(code.make(arm.explorer or explorer), code.name, code.code)

    def find(self, args: CustomArgs, version: int, state: FindState) -> CustomPolicy | None:
        """Return the policy that drew a page; None: what it had learned by then is gone.

        Args:
            args: of the page.
            version: of the page.
            state: finds what it knew.

        Raises:
            OtherCodeError: the code of now is another one, or it has other arguments.
        """
        code = self.codes.get(args.policy)
        policy = None if code is None or code.code != args.code else _made(code, args)
        if code is None or policy is None:
            raise OtherCodeError(f"{args.policy} with the code {args.code}")
        if version:
            kept = state(args.policy, version)
            if kept is None:
                return None
            policy = load_state(code, kept)
        return CustomPolicy(policy, code.name, code.code, version)


def load_customs(config: Config) -> Customs:
    """Return the policies of one's own that the arms name.

    Raises:
        JobError: one of them cannot be loaded or made; says why.
    """
    names = sorted({arm.policy for arm in config.experiment.arms if arm.is_custom})
    try:
        codes = {name: load(name, custom_folder(config)) for name in names}
        made = {name: code.make(Uniform()) for name, code in codes.items()}
    except CustomPolicyError as error:
        raise JobError(str(error)) from error
    for arm in config.experiment.arms:
        if arm.explorer is not None and not codes[arm.policy].takes_explorer:
            raise JobError(
                f"arm {arm.name}: explorer is for a function from features to scores, and the "
                f"policy that {arm.policy} makes has its own: remove it"
            )
    learners = tuple(codes[name] for name in names if hasattr(made[name], "learn"))
    return Customs(codes, learners)


def require_lawful(config: Config) -> None:
    """Refuse an experiment with a policy of one's own that breaks a law.

    Raises:
        JobError: names the policy, the law and how it is broken.
    """
    load_customs(config)
    for arm in config.experiment.arms:
        if arm.is_custom:
            explorer = arm.explorer or config.feed.explorer
            limit_s = config.custom.limit_ms / 1000
            for verdict in check_named(arm.policy, custom_folder(config), explorer, limit_s):
                if verdict.reason:
                    raise JobError(
                        f"{arm.policy} breaks the law {verdict.law!r}: {verdict.reason}; "
                        f"nextswipe policy check {arm.policy} tells about all laws"
                    )


def custom_folder(config: Config) -> Path:
    """Return where modules of policies of one's own are looked for first."""
    return Path(config.custom.folder or Path.cwd())


def guard_args(config: Config) -> GuardArgs:
    """Return what policies of one's own are held to while they serve, as configured."""
    custom = config.custom
    return GuardArgs(custom.limit_ms / 1000, custom.slow_pages, custom.pause_s)


def kept_state(snapshots: SnapshotStore, code: CustomCode, version: int) -> bytes | None:
    """Return what a published version knows; None: nothing, or what other code has learned.

    Raises:
        FileNotFoundError: there is no such version (any more).
        SnapshotCorruption: it is not what was published.
    """
    part = part_name(code.name)
    if part not in snapshots.manifest(version).parts:
        return None
    try:
        kept = decode_state(snapshots.load_part(version, part))
    except msgspec.MsgspecError as error:
        raise SnapshotCorruption(f"version {version}: {part} cannot be decoded: {error}") from error
    return kept.state if kept.code == code.code else None


class CustomFinder:
    """Finds the policies of one's own that drew the pages of a log; keeps the latest few."""

    def __init__(self, customs: Customs, state: FindState) -> None:
        """Find by this code and these states."""
        self._customs, self._state = customs, state
        self._kept: dict[bytes, Policy] = {}

    def __call__(self, args: CustomArgs, policy: str) -> Policy | None:
        """Return what drew a page of these arguments under this name; None: its state is gone.

        Raises:
            OtherCodeError: see `Customs.find`.
        """
        key = msgspec.msgpack.encode((policy, args))
        found = self._kept.get(key)
        if found is None:
            found = self._customs.find(args, custom_version(policy), self._state)
        if found is not None:
            while key not in self._kept and len(self._kept) >= POLICIES_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return found


def snapshot_states(customs: Customs, snapshots: SnapshotStore) -> FindState:
    """Return what finds the states that published versions hold, as long as these are kept."""

    def find(policy: str, version: int) -> bytes | None:
        try:
            return kept_state(snapshots, customs.codes[policy], version)
        except (FileNotFoundError, KeyError):
            return None

    return find


def _made(code: CustomCode, args: CustomArgs) -> Policy | None:
    """Return a fresh policy with the arguments of a page; None: it has others now."""
    try:
        explorer = explorer_from(args.explorer) if code.takes_explorer else Uniform()
        policy = code.make(explorer)
    except (msgspec.ValidationError, CustomPolicyError):
        return None
    return policy if plain_args(policy) == args.explorer else None
