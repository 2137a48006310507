"""Item factors as generations: trained beside the learner, published, and followed by replicas.

The learner hands on its window of answers when a fit is due; the fit runs on a thread of its own
at a low priority, and a failure leaves the last generation in use. A replica swaps a generation in
by one assignment, as it does a version. Derivation: `docs/decisions/collaborative.md`.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, get_native_id
from typing import Final

from env.columns.schema import SCHEMA
from env.features.collaborative import NO_FACTORS, ItemFactors
from policies.collaborative.answers import AnswerWindow
from policies.collaborative.fit import FitArgs, fit
from policies.snapshots import Manifest, SnapshotCorruption, SnapshotStore
from serve.config import CollaborativeSettings, Config
from serve.learn.fold import LearnerState
from serve.learn.follower import ActivationFollower
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
PART = "factors"
NICE = 10
"""How far the thread's priority is lowered, where the system has priorities of threads."""

_NAME: Final = "collaborative"


def open_generations(config: Config) -> SnapshotStore:
    """Open the data folder's generations of item factors."""
    return SnapshotStore(Path(config.data.folder) / FOLDER, keep=KEPT)


def fit_args(settings: CollaborativeSettings) -> FitArgs:
    """Return the configured arguments of a fit."""
    return FitArgs(dims=settings.dims, items=settings.items)


class CollaborativeTrainer:
    """Fits item factors to the learner's window and publishes them."""

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
        factors = fit(window.answers(self._settings.per_user), fit_args(self._settings))
        if not len(factors):
            return None
        self._current = self._publish(factors)
        logger.info(
            "published collaborative=%d items=%d offset=%d",
            self._current.version,
            len(factors),
            self._current.offset,
        )
        return self._current

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

    def _publish(self, factors: ItemFactors) -> Activation:
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
            args={"dims": factors.n_dims, "items": len(factors)},
        )
        written = self._generations.publish(manifest, {PART: factors.to_bytes()}, durable=False)
        activation = Activation(number, self.epoch, self._offset, written.digest)
        write_now(self._store, partial(activate, activation=activation, name=_NAME))
        return activation


def follow_generations(
    store: Store, generations: SnapshotStore, swap: Callable[[ItemFactors], None]
) -> ActivationFollower[ItemFactors]:
    """Return what hands each new generation to `swap`."""
    return ActivationFollower(store, _NAME, partial(load_factors, generations), swap)


def load_factors(generations: SnapshotStore, activation: Activation) -> ItemFactors:
    """Return an activated generation.

    Raises:
        FileNotFoundError: it is missing.
        SnapshotCorruption: it is damaged, or not the one that was published.
    """
    number = activation.version
    if not number:
        return NO_FACTORS
    if generations.manifest(number).digest != activation.digest:
        raise SnapshotCorruption(f"generation {number} is not the one that was published")
    try:
        return ItemFactors.from_bytes(generations.load_part(number, PART), number)
    except (KeyError, ValueError) as error:
        raise SnapshotCorruption(f"generation {number} cannot be used: {error}") from error


def step_back() -> None:
    """Lower this thread's priority, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
