"""A feed replica's read-only view of the learner: the newest version, swapped between requests.

The version row in the database is the truth about what is current; the snapshot it names is
loaded beside serving, on the follower's own thread, and then replaces the one in use by a single
assignment, so a page is drawn by exactly one version. A version of an older epoch, or one whose
snapshot is gone, broken or of another feature encoding, is left alone: the replica keeps serving
what it has and says so, once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

import numpy as np

from env.features import SCHEMA
from env.items import ItemStates
from policies.snapshots import SnapshotCorruption, SnapshotStore
from policies.vowpal_args import VowpalArgs
from policies.vowpal_kernel import Kernel, VowpalScorer, make_layout
from serve.state import State, Version

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What pages are drawn with: a frozen policy and what the log says about the items."""

    policy: VowpalScorer
    states: ItemStates
    version: int = 0
    offset: int = 0


def untrained(args: VowpalArgs) -> Served:
    """Return version 0, from before anything was learned."""
    layout = make_layout(args.bits)
    nothing = np.zeros(layout.mask + 1, dtype=np.float32)
    return Served(VowpalScorer(Kernel(layout, nothing), args.explorer, 0), ItemStates())


class Follower:
    """Watches the current version and hands each new one on."""

    def __init__(
        self,
        state: State,
        store: SnapshotStore,
        args: VowpalArgs,
        swap: Callable[[Served], None],
    ) -> None:
        """Follow `state`'s versions.

        Args:
            state: holds the version rows.
            store: holds the snapshots.
            args: of the policy; the explorer is the replica's, so that it can be changed alone.
            swap: called with each new version, on the thread that polls.
        """
        self._state = state
        self._store = store
        self._args = args
        self._swap = swap
        self._seen = (0, 0)
        self._refused = (0, 0)

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Poll until told to stop."""
        while not stop.is_set():
            self.poll()
            stop.wait(poll_s)

    def poll(self) -> bool:
        """Swap in the current version if it is new; return whether it was."""
        version = self._state.current_version()
        key = (version.epoch, version.version) if version else (0, 0)
        if version is None or key <= self._seen:
            return False
        try:
            served = self._load(version)
        except (SnapshotCorruption, FileNotFoundError) as error:
            if key != self._refused:
                logger.warning("kept version=%d: %s", self._seen[1], error)
            self._refused = key
            return False
        self._swap(served)
        self._seen = key
        return True

    def _load(self, version: Version) -> Served:
        number = version.version
        manifest = self._store.manifest(number)
        if manifest.digest != version.digest:
            raise SnapshotCorruption(f"version {number} is not the one that was published")
        if manifest.feature_schema != SCHEMA:
            raise SnapshotCorruption(
                f"version {number}: expected feature schema {SCHEMA}, got {manifest.feature_schema}"
            )
        weights = self._store.load_part(number, "scorer")
        states = self._store.load_part(number, "items")
        return Served(
            VowpalScorer.from_bytes(weights, self._args.explorer, number),
            ItemStates.from_bytes(states),
            number,
            version.offset,
        )
