"""A loop that polls the store for changes."""

import logging
from collections.abc import Callable
from threading import Event

from serve.store import StoreUnavailable

logger = logging.getLogger(__name__)


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
