"""The experiment's readout while the server runs, for its metrics.

One thread beside the learner follows the log and folds it anew after each start, so a scrape reads
a small file and no log. The command `nextswipe arms` makes the same fold of the whole log.
"""

import logging
from collections.abc import Callable
from threading import Event

from replay.evaluate.arms import ArmsFold, Rules
from serve.config import Config
from serve.monitoring.heartbeats import ARMS, ArmsHeartbeat, Heartbeats
from serve.store.store import Store, StorePast, StoreUnavailable

logger = logging.getLogger(__name__)
BATCH_LINES = 2_000
PAUSE_S = 0.2
"""Seconds between two batches, so that an old log is caught up with at half the thread's speed."""

BEAT_S = 5.0


def arms_fold(config: Config, store: Store) -> ArmsFold:
    """Return the fold of the configured experiment; raises ValueError where it has one arm."""
    shares, settle_ms = config.experiment.shares, config.join.settle_ms
    return ArmsFold(shares, config.reward, settle_ms=settle_ms, past=StorePast(store))


def rules_of(config: Config) -> Rules:
    """Return the configured rules of a readout."""
    return Rules(config.experiment.worth, config.experiment.least_users)


class ArmsFollower:
    """Follows the log and reports the readout of the experiment."""

    def __init__(
        self,
        store: Store,
        beats: Heartbeats,
        config: Config,
        *,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        batch_lines: int = BATCH_LINES,
    ) -> None:
        """Start before the log's first line.

        Args:
            store: holds the log.
            beats: receive the readout every few seconds.
            config: the experiment, of two arms or more, and the reward.
            now_ms: the server's clock.
            monotonic_s: a steady clock, for the pace.
            batch_lines: lines folded at a time.
        """
        self._log, self._beats, self._batch_lines = store.log, beats, batch_lines
        self._now_ms, self._monotonic_s = now_ms, monotonic_s
        self._fold, self._rules = arms_fold(config, store), rules_of(config)
        self._control = config.experiment.control
        self._offset = 0
        self._is_caught_up = False  # a part of the log would tell a verdict of its own
        self._is_stale = False  # whether lines were folded since the last readout
        self._readout = self._fold.readout(self._control, self._rules)
        self._due_s = float("-inf")

    def run(self, stop: Event) -> None:
        """Follow until told to stop; an unavailable store is asked again."""
        while not stop.wait(PAUSE_S):
            try:
                self.step()
            except StoreUnavailable as error:
                logger.warning("arms wait at offset=%d: %s", self._offset, error)

    def step(self) -> bool:
        """Fold the next lines and, once caught up, report; return whether there were new lines."""
        lines = list(self._log.read(self._offset, self._batch_lines))
        for line in lines:
            self._fold.fold(line.record)
            self._offset = line.offset
        self._is_stale |= bool(lines)
        self._is_caught_up |= len(lines) < self._batch_lines
        if self._is_caught_up and self._monotonic_s() >= self._due_s:
            self._beat()
        return bool(lines)

    def _beat(self) -> None:
        if self._is_stale:
            self._readout = self._fold.readout(self._control, self._rules)
            self._is_stale = False
        self._beats.write(ARMS, ArmsHeartbeat(self._now_ms(), self._offset, self._readout))
        self._due_s = self._monotonic_s() + BEAT_S
