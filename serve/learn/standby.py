"""A learner that was overtaken waits here until the learner of the newest epoch is gone.

Two learners meet where a lock does not reach, such as two machines on a shared disk. The newest
epoch learns; the other watches its heartbeat, and takes over when that stops. Time is the waiting
machine's own, so the clocks of two machines may differ. Rejected alternatives:
`docs/decisions/serve-processes.md`.
"""

import logging
from collections.abc import Callable
from threading import Event

from serve.monitoring.heartbeats import Heartbeats, LearnerHeartbeat
from serve.monitoring.status import SILENT_S
from serve.store.store import Store, StoreUnavailable

logger = logging.getLogger(__name__)
POLL_S = 0.5


def stand_by(
    store: Store,
    beats: Heartbeats,
    stop: Event,
    *,
    monotonic_s: Callable[[], float],
    silent_s: float = SILENT_S,
    poll_s: float = POLL_S,
) -> None:
    """Return when the newest learner has stopped or was silent for too long, or when told to stop.

    Args:
        store: holds the newest epoch; while it is unavailable nothing is known, and time starts
            anew.
        beats: hold the last heartbeat of each learner.
        stop: set to end the wait.
        monotonic_s: a steady clock.
        silent_s: seconds without a new heartbeat after which a learner counts as gone.
        poll_s: seconds between two looks.
    """
    seen: tuple[int, LearnerHeartbeat | None] | None = None
    since_s = monotonic_s()
    while not stop.wait(poll_s):
        try:
            found = _look(store, beats)
        except StoreUnavailable:
            found = None
        epoch, beat = found or (0, None)
        if beat is not None and beat.state == "stopped":
            logger.info("learner of epoch=%d has stopped: taking over", epoch)
            return
        if found is None or found != seen:
            seen, since_s = found, monotonic_s()
        elif monotonic_s() - since_s > silent_s:
            logger.warning("learner of epoch=%d is silent: taking over", epoch)
            return


def _look(store: Store, beats: Heartbeats) -> tuple[int, LearnerHeartbeat | None]:
    with store.view() as view:
        epoch = view.newest_epoch("policy")
    beat = beats.read().get(f"learner-{epoch}")
    return epoch, beat if isinstance(beat, LearnerHeartbeat) else None
