"""Generations of what all users teach together: trained beside the learner, followed by replicas.

A generation holds item factors, coordinates of devices, and cohorts. The learner hands on its
window of answers when a fit is due; the fit runs on a thread of its own at a low priority, reads
the users' states from the store, and a failure leaves the last generation in use. A replica swaps
a generation in by one assignment, as it does a version. Derivation:
`docs/decisions/collaborative.md`, `docs/decisions/cohorts.md`.
"""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, get_native_id
from typing import Final

from env.columns.schema import SCHEMA
from env.features.apps import NO_APPS, AppSpace
from env.features.collaborative import NO_FACTORS, ItemFactors
from policies.collaborative.answers import AnswerWindow
from policies.collaborative.apps import fit_apps
from policies.collaborative.cohorts import NO_COHORTS, Cohorts, fit_cohorts
from policies.collaborative.fit import FitArgs, fit
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore
from serve.config import CollaborativeSettings, Config
from serve.learn.fold import LearnerState
from serve.learn.follower import ActivationFollower
from serve.learn.users import read_users
from serve.store.generations import (
    NOTHING,
    ActivationConflict,
    activate,
    begin_epoch,
    current_activation,
    require_epoch,
)
from serve.store.store import Activation, Store, StoreUnavailable, write_now

logger = logging.getLogger(__name__)
FOLDER = "collaborative"
KEPT = 3
PART, APPS_PART, COHORTS_PART = "factors", "apps", "cohorts"
NICE = 10
"""How far the thread's priority is lowered, where the system has priorities of threads."""

_NAME: Final = "collaborative"


@dataclass(frozen=True, slots=True)
class Generation:
    """The result of one fit; generations of earlier releases hold item factors only."""

    factors: ItemFactors = NO_FACTORS
    apps: AppSpace = NO_APPS
    cohorts: Cohorts = NO_COHORTS

    @property
    def version(self) -> int:
        """Its number; 0: nothing was learned yet."""
        return self.factors.version

    def __len__(self) -> int:
        """Return the number of items, names and cohorts that it knows."""
        return len(self.factors) + len(self.apps) + len(self.cohorts)

    def parts(self) -> dict[str, bytes]:
        """Return the parts of a snapshot."""
        return {
            PART: self.factors.to_bytes(),
            APPS_PART: self.apps.to_bytes(),
            COHORTS_PART: self.cohorts.to_bytes(),
        }


NO_GENERATION = Generation()
"""The generation before the first one."""


def open_generations(config: Config) -> SnapshotStore:
    """Open the data folder's generations of item factors."""
    return SnapshotStore(Path(config.data.folder) / FOLDER, keep=KEPT)


def fit_args(settings: CollaborativeSettings) -> FitArgs:
    """Return the configured arguments of a fit."""
    return FitArgs(dims=settings.dims, items=settings.items, least_match_sd=settings.least_match_sd)


class CollaborativeTrainer:
    """Fits generations to the learner's window and the users' states, and publishes them."""

    def __init__(
        self,
        store: Store,
        generations: SnapshotStore,
        settings: CollaborativeSettings,
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        """Take the next epoch; an older trainer can then publish nothing.

        Args:
            store: holds the activations.
            generations: takes the generations.
            settings: the pace and the size.
            monotonic_s: a steady clock, for the pace.
        """
        self._store, self._generations, self._settings = store, generations, settings
        self._monotonic_s = monotonic_s
        self._given = Event()  # set by the learner's thread, cleared by the trainer's
        self._window: AnswerWindow | None = None
        self._offset = 0
        self._offered = 0
        self._due_s = float("-inf")
        self.epoch = write_now(store, partial(begin_epoch, name=_NAME))
        with store.view() as view:
            self._current = current_activation(view, _NAME) or NOTHING

    def offer(self, learning: LearnerState) -> bool:
        """Take a copy of the window if a fit is due; return whether it did.

        It is called on the learner's thread, between two batches.
        """
        window, settings = learning.window, self._settings
        if window is None or learning.offset < self._current.offset:
            return False
        is_enough = window.n_folded - self._offered >= settings.least_answers
        if not is_enough or self._monotonic_s() < self._due_s or self._given.is_set():
            return False
        self._window, self._offset = window.copy(), learning.offset
        self._offered = window.n_folded
        self._due_s = self._monotonic_s() + settings.every_s
        self._given.set()
        return True

    def run(self, stop: Event, *, poll_s: float = 0.1) -> None:
        """Train until told to stop, or until a newer epoch has taken over."""
        step_back()
        while not stop.is_set():
            if self._given.wait(poll_s) and not self._train_safely():
                return

    def train(self) -> Activation | None:
        """Fit and publish the window that was offered; None: none was, or too little is known.

        Raises:
            ActivationConflict: a newer trainer has taken over.
            StoreUnavailable: the store cannot be read or written now.
        """
        window, self._window = self._window, None
        self._given.clear()
        if window is None:
            return None
        users, before = read_users(self._store), self._before()
        learned = Generation(
            fit(window.answers(self._settings.per_user), fit_args(self._settings)),
            fit_apps(users.devices, before.apps),
            fit_cohorts(users.behaviours, before.cohorts),
        )
        if not len(learned):
            return None
        self._current = self._publish(learned)
        logger.info(
            "published collaborative=%d items=%d apps=%d cohorts=%d offset=%d",
            self._current.version,
            len(learned.factors),
            len(learned.apps),
            len(learned.cohorts),
            self._current.offset,
        )
        return self._current

    def _before(self) -> Generation:
        """Return the current generation; nothing where it cannot be read."""
        try:
            return load_generation(self._generations, self._current)
        except (FileNotFoundError, SnapshotCorruption) as error:
            logger.warning("began anew after collaborative=%d: %s", self._current.version, error)
            return NO_GENERATION

    def _train_safely(self) -> bool:
        """Train; return whether to go on."""
        try:
            self.train()
        except ActivationConflict as error:
            logger.warning("stopped collaborative training: %s", error)
            return False
        except StoreUnavailable as error:
            logger.warning("kept collaborative=%d: %s", self._current.version, error)
        except Exception:
            # Pages and learning go on with the last generation, and the next answers try again.
            logger.exception("kept collaborative=%d: the fit failed", self._current.version)
        return True

    def _publish(self, learned: Generation) -> Activation:
        # A durable barrier: after it, all answers it has learned from are on disk.
        write_now(self._store, partial(require_epoch, epoch=self.epoch, name=_NAME))
        with self._store.view() as view:
            last = view.last_version_number(_NAME)
        number = max(last, *self._generations.versions(), 0) + 1
        manifest = Manifest(
            version=number,
            epoch=self.epoch,
            offsets=self._store.log.shard_offsets(self._offset),
            feature_schema=SCHEMA,
            reward_version=0,
            args={"dims": learned.factors.n_dims, "items": len(learned.factors)},
        )
        written = self._generations.publish(manifest, learned.parts(), durable=False)
        activation = Activation(number, self.epoch, self._offset, written.digest)
        write_now(self._store, partial(activate, activation=activation, name=_NAME))
        return activation


def follow_generations(
    store: Store, generations: SnapshotStore, swap: Callable[[Generation], None]
) -> ActivationFollower[Generation]:
    """Return what hands each new generation to `swap`."""
    return ActivationFollower(store, _NAME, partial(load_generation, generations), swap)


def read_generation(config: Config, store: Store) -> Generation:
    """Return the current generation of a data folder; raises as `load_generation`."""
    with store.view() as view:
        activation = current_activation(view, _NAME) or NOTHING
    return load_generation(open_generations(config), activation)


def load_generation(generations: SnapshotStore, activation: Activation) -> Generation:
    """Return an activated generation.

    Raises:
        FileNotFoundError: it is missing.
        SnapshotCorruption: it is damaged, or not the one that was published.
    """
    number = activation.version
    if not number:
        return NO_GENERATION
    manifest = generations.manifest(number)
    if manifest.digest != activation.digest:
        raise SnapshotCorruption(f"generation {number} is not the one that was published")
    try:
        factors = ItemFactors.from_bytes(generations.load_part(number, PART), number)
        if APPS_PART not in manifest.parts:  # of a release that learned item factors only
            return Generation(factors)
        return Generation(
            factors,
            AppSpace.from_bytes(generations.load_part(number, APPS_PART)),
            Cohorts.from_bytes(generations.load_part(number, COHORTS_PART)),
        )
    except (KeyError, ValueError) as error:
        raise SnapshotCorruption(f"generation {number} cannot be used: {error}") from error


def step_back() -> None:
    """Lower this thread's priority, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
