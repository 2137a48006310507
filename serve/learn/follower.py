"""The follower loads each new version of the learner and swaps it in between requests.

The version row in the store names the current version. Its snapshot is loaded and prepared on the
follower's own thread and then replaces the old one by a single assignment, so exactly one version
draws a page. An unusable version is logged once and left alone. Derivation:
`docs/decisions/serve-versions.md`.
"""

import logging
from collections.abc import Callable, Iterator
from threading import Event
from typing import Generic, TypeVar

import msgspec

from env.columns.schema import SCHEMA
from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs
from env.items.statistics import ItemStates
from policies.bandit.scorer import HybridBanditScorer
from policies.bandit.settings import HybridBanditArgs
from policies.custom.learning import load_state
from policies.custom.policy import CustomPolicy
from policies.snapshots import SnapshotCorruption, SnapshotStore
from serve.learn.custom import Customs, kept_state
from serve.learn.served import ServingModel
from serve.store.generations import NOTHING, current_activation
from serve.store.store import Activation, ActivationName, Store, StoreUnavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")


def keep_polling(
    poll: Callable[[], object], stop: Event, *, poll_s: float, kept: Callable[[], str]
) -> None:
    """Poll until told to stop, also while the store is unavailable.

    Args:
        poll: polls once.
        stop: set by another thread.
        poll_s: time between two polls.
        kept: describes the state in use, for the log message of a failed poll.
    """
    while not stop.is_set():
        try:
            poll()
        except StoreUnavailable as error:
            logger.warning("kept %s: %s", kept(), error)
        stop.wait(poll_s)


class ActivationFollower(Generic[T]):
    """Polls for what is current under one name and hands each new one on."""

    def __init__(
        self,
        store: Store,
        name: ActivationName,
        load: Callable[[Activation], T],
        swap: Callable[[T], None],
    ) -> None:
        """Hand what is loaded to `swap`, on the thread that polls.

        Args:
            store: holds the activations.
            name: of what is followed.
            load: raises SnapshotCorruption or FileNotFoundError for what cannot be used; it is
                given version 0 where nothing is current any more.
            swap: called with each new one.
        """
        self._store, self._name, self._load, self._swap = store, name, load, swap
        self._seen, self._refused = NOTHING, NOTHING
        self._n_refused = 0

    @property
    def version(self) -> int:
        """Version of the last one that was handed on; 0: none."""
        return self._seen.version

    @property
    def n_refused(self) -> int:
        """The number of those that could not be used, each counted once."""
        return self._n_refused

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Poll until told to stop, also while the store is unavailable."""
        keep_polling(self.poll, stop, poll_s=poll_s, kept=lambda: f"{self._name}={self.version}")

    def poll(self) -> bool:
        """Hand the current one on if it is new; return whether there was one.

        An unusable one is tried again at each poll: its disk may have failed for a moment.
        """
        with self._store.view() as view:
            activation = current_activation(view, self._name) or NOTHING
        if (activation.epoch, activation.version) <= (self._seen.epoch, self._seen.version):
            return False
        try:
            loaded = self._load(activation)
        except (SnapshotCorruption, FileNotFoundError) as error:
            self._refuse(activation, error)
            return False
        self._swap(loaded)
        self._seen = activation
        return True

    def _refuse(self, activation: Activation, error: Exception) -> None:
        if activation == self._refused:
            return
        kept, name, refused = self.version, self._name, activation.version
        logger.warning("kept %s=%d, refused %s=%d: %s", name, kept, name, refused, error)
        self._refused = activation
        self._n_refused += 1


N_LOOKED_AT = 1_000
"""Maximum number of versions examined in a poll, newest first.

Most snapshots are dropped after a few versions. The ones that a learner can resume from stay, and
survive the power cut that breaks the others.
"""


class Follower:
    """Polls for the current version and hands each new one on."""

    def __init__(
        self,
        store: Store,
        snapshots: SnapshotStore,
        args: HybridBanditArgs,
        audiences: AudienceArgs,
        swap: Callable[[ServingModel], None],
        warm: Callable[[ServingModel], None] | None = None,
        customs: Customs | None = None,
    ) -> None:
        """Follow the versions of a store.

        Args:
            store: holds the version rows.
            snapshots: holds the versions' snapshots.
            args: arguments of the policy; the explorer is the replica's, so that it can be changed
                alone.
            audiences: arguments of the audiences' fold.
            swap: called with each new version, on the thread that polls.
            warm: called before `swap` on the same thread, while no page uses the version yet.
            customs: custom policies, of which those that learn are followed; None: none.
        """
        self._store = store
        self._snapshots = snapshots
        self._args = args
        self._audiences = audiences
        self._swap = swap
        self._warm = warm
        self._learners = customs.learners if customs is not None else ()
        self._seen = (0, 0)
        self._refused: set[tuple[int, int]] = set()
        self._n_refused = 0

    @property
    def n_refused(self) -> int:
        """The number of versions that could not be used, each counted once."""
        return self._n_refused

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Poll until told to stop, also while the store is unavailable."""
        keep_polling(self.poll, stop, poll_s=poll_s, kept=lambda: f"version={self._seen[1]}")

    def poll(self) -> bool:
        """Swap in the newest usable version if it is new; return whether there was one.

        An unusable version is tried again at each poll until a newer one is usable: its disk may
        have failed for a moment only.
        """
        with self._store.view() as view:
            versions = view.activations_after("policy", *self._seen, limit=N_LOOKED_AT)
        kept = set(self._snapshots.versions()) if len(versions) > 1 else set()
        for version in versions:
            if version is not versions[0] and version.version not in kept:
                continue
            try:
                served = self._load(version)
            except (SnapshotCorruption, FileNotFoundError) as error:
                self._refuse(version, error)
                continue
            if self._warm is not None:
                self._warm(served)
            self._swap(served)
            self._seen = (version.epoch, version.version)
            self._refused = {key for key in self._refused if key > self._seen}
            return True
        return False

    def _refuse(self, version: Activation, error: Exception) -> None:
        key = (version.epoch, version.version)
        if key not in self._refused:
            logger.warning(
                "kept version=%d, refused version=%d: %s", self._seen[1], version.version, error
            )
            self._refused.add(key)
            self._n_refused += 1

    def _load(self, version: Activation) -> ServingModel:
        number = version.version
        manifest = self._snapshots.manifest(number)
        if manifest.digest != version.digest:
            raise SnapshotCorruption(f"version {number} is not the one that was published")
        if manifest.feature_schema != SCHEMA:
            raise SnapshotCorruption(
                f"version {number}: expected feature schema {SCHEMA}, got {manifest.feature_schema}"
            )
        try:
            weights = self._snapshots.load_part(number, "scorer")
            states = self._snapshots.load_part(number, "items")
            audiences = self._snapshots.load_part(number, "audiences")
            return ServingModel(
                HybridBanditScorer.from_bytes(weights, self._args.explorer, number),
                ItemStates.from_bytes(states),
                Audiences.from_bytes(audiences, self._audiences),
                number,
                version.offset,
                dict(self._load_custom(number)),
            )
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise SnapshotCorruption(f"version {number} cannot be decoded: {error!r}") from error

    def _load_custom(self, version: int) -> Iterator[tuple[str, CustomPolicy]]:
        """Yield the policies of one's own that a version knows; the others have learned nothing."""
        for code in self._learners:
            state = kept_state(self._snapshots, code, version)
            if state is None:
                continue
            try:
                policy = load_state(code, state)
            except ValueError as error:
                logger.warning("version=%d policy=%s unlearned: %s", version, code.name, error)
                continue
            yield code.name, CustomPolicy(policy, code.name, code.code, version)
